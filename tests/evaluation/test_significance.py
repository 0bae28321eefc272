"""Intervals and tests of error rates, against what they must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.evaluation.significance import bootstrap_interval, compare, holm
from dualmode.evaluation.wer import ErrorCounts

# Words of each speaker, by corpus: the test sets of the comparison in docs/experiments/claim.md,
# before and after twenty voices were added.
FEW = {"synth": [505] * 4, "an4": [77] * 10}
MORE = {"synth": [505] * 4 + [168] * 20, "an4": [77] * 10}


def counts_of(errors, words) -> ErrorCounts:
    errors = np.asarray(errors, dtype=np.int64)
    none = np.zeros_like(errors)
    return ErrorCounts(np.asarray(words, dtype=np.int64), none, none, errors)


def test_an_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(1000):
        counts = counts_of(rng.binomial(10, 0.2, size=80), np.full(80, 10))
        low, high = bootstrap_interval(counts, resamples=300, seed=trial)
        assert low <= counts.rate <= high
        covered += low <= 0.2 <= high
    assert 930 <= covered <= 970  # chance alone moves a thousand trials by seven


def test_speakers_that_differ_widen_the_interval() -> None:
    errors = [0] * 50 + [8] * 50
    counts = counts_of(errors, [10] * 100)
    speakers = [f"s{n // 10}" for n in range(100)]
    by_utterance = bootstrap_interval(counts)
    by_speaker = bootstrap_interval(counts, speakers)
    assert by_speaker[1] - by_speaker[0] > 2 * (by_utterance[1] - by_utterance[0])


def test_corpora_that_differ_do_not_widen_it() -> None:
    """Shares of corpora are fixed, so only the variation within them counts."""
    errors = [0, 0, 1, 1] * 5 + [9, 9, 8, 8] * 5
    counts = counts_of(errors, [10] * 40)
    corpora = ["easy"] * 20 + ["hard"] * 20
    whole, within = bootstrap_interval(counts), bootstrap_interval(counts, strata=corpora)
    assert within[1] - within[0] < 0.2 * (whole[1] - whole[0])
    # Variances of the two strata, with n - 1: 20 units of 0 or 1 errors of 10 words each.
    error = np.sqrt(2 * 20 * 0.25 * 20 / 19) / 400
    assert within == pytest.approx((0.45 - 2.02 * error, 0.45 + 2.02 * error), abs=0.003)


def test_equal_names_in_two_corpora_are_two_speakers() -> None:
    counts = counts_of([1, 5, 2, 8], [10] * 4)
    apart = bootstrap_interval(counts, ["a", "b", "c", "d"], ["x", "x", "y", "y"])
    assert bootstrap_interval(counts, ["a", "b", "a", "b"], ["x", "x", "y", "y"]) == apart


def test_a_corpus_of_one_speaker_is_drawn_with_the_smallest_other() -> None:
    counts = counts_of([1, 5, 2, 8, 3], [10] * 5)
    alone = bootstrap_interval(counts, list("abcde"), ["x", "x", "y", "y", "z"])
    joined = bootstrap_interval(counts, list("abcde"), ["w", "w", "y", "y", "w"])
    assert alone == joined
    assert np.isnan(bootstrap_interval(counts_of([1, 2], [5, 5]), ["a", "a"])).all()


def test_seeds_decide_and_pieces_do_not_matter(monkeypatch) -> None:
    counts = counts_of(np.arange(30) % 4, np.full(30, 9))
    other = counts_of(np.arange(30) % 5, np.full(30, 9))
    corpora = ["x"] * 12 + ["y"] * 18
    assert bootstrap_interval(counts, seed=3) == bootstrap_interval(counts, seed=3)
    few = [bootstrap_interval(counts, resamples=25, seed=seed) for seed in range(4)]
    assert len(set(few)) > 1
    whole = compare(counts, other, strata=corpora, resamples=300, seed=3)
    assert whole.p_value != compare(counts, other, strata=corpora, resamples=300, seed=4).p_value
    monkeypatch.setattr("dualmode.evaluation.significance._DRAWS_AT_ONCE", 40)
    assert compare(counts, other, strata=corpora, resamples=300, seed=3) == whole


def test_comparison_tells_luck_from_difference() -> None:
    rng = np.random.default_rng(1)
    words = np.full(300, 10)
    hard = rng.integers(0, 6, size=300)  # utterances differ more than the systems do
    worse = counts_of(hard + (rng.random(300) < 0.3), words)
    better, alike = counts_of(hard, words), counts_of(np.roll(hard, 1), words)
    found = compare(worse, better)
    assert found.difference == pytest.approx(worse.rate - better.rate)
    assert found.p_value < 0.01
    assert found.ci95[0] > 0
    assert compare(better, alike).p_value > 0.05
    assert compare(better, better).p_value == 1.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=7))
def test_p_values_of_few_units_are_counted_by_hand(pairs) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    differences = (first - second).tolist()
    as_far = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= abs(sum(differences))
        for signs in product((1, -1), repeat=len(differences))
    ]
    words = np.full(len(pairs), 10)
    found = compare(counts_of(first, words), counts_of(second, words)).p_value
    assert found == pytest.approx(float(Fraction(sum(as_far), len(as_far))))


def test_random_exchanges_agree_with_all_of_them() -> None:
    first = counts_of([9, 7, 8, 4, 3, 5, 6, 7, 2, 4], np.full(10, 20))
    second = counts_of([4, 6, 6, 5, 1, 2, 6, 3, 3, 1], np.full(10, 20))
    exact = compare(first, second, resamples=512).p_value
    drawn = [compare(first, second, resamples=511, seed=seed).p_value for seed in range(200)]
    assert 0.005 < exact < 0.1
    assert np.mean(drawn) == pytest.approx(exact + 1 / 512, abs=0.003)


def test_p_values_of_equal_systems_are_uniform() -> None:
    rng = np.random.default_rng(2)
    words = np.full(100, 10)
    values = [
        compare(
            counts_of(rng.binomial(10, 0.2, 100), words),
            counts_of(rng.binomial(10, 0.2, 100), words),
            resamples=300,
            seed=trial,
        ).p_value
        for trial in range(1000)
    ]
    for level in (0.05, 0.25, 0.5, 0.75):
        allowed = 3.5 * np.sqrt(level * (1 - level) / 1000) + 0.01
        assert abs(np.mean(np.array(values) <= level) - level) < allowed


def symmetric(rng: np.random.Generator, speakers: int) -> np.ndarray:
    return rng.normal(0, 0.04, speakers)


def skewed(rng: np.random.Generator, speakers: int) -> np.ndarray:
    """Nearly all speakers a little better, a few much worse."""
    return 0.04 * (rng.exponential(size=speakers) - 1)


Effect = Callable[[np.random.Generator, int], np.ndarray]


def trials(
    sizes: dict[str, list[int]], effect: Effect, opposed: float = 0.0
) -> Iterator[tuple[ErrorCounts, ErrorCounts, list[str], list[str]]]:
    """Pairs of systems that are equal on average, but not for every speaker; with ``opposed``, one
    is worse on AN4 by so much and better on the rest."""
    rng = np.random.default_rng(5)
    corpora = [name for name, speakers in sizes.items() for _ in speakers]
    words = np.array([size for speakers in sizes.values() for size in speakers])
    an4 = np.array(corpora) == "an4"
    shift = np.where(an4, opposed, -opposed * words[an4].sum() / words[~an4].sum())
    for _ in range(1500):
        delta = shift + effect(rng, len(words))
        hard = rng.uniform(0.3, 0.5, len(words))
        pair = (rng.binomial(words, hard + sign * delta / 2) for sign in (1, -1))
        first, second = (counts_of(errors, words) for errors in pair)
        yield first, second, [str(at) for at in range(len(words))], corpora


@pytest.mark.parametrize(
    ("sizes", "effect", "opposed", "covered"),
    [
        (FEW, symmetric, 0.0, 0.89),
        (FEW, skewed, 0.0, 0.91),
        (MORE, symmetric, 0.0, 0.93),
        (MORE, skewed, 0.0, 0.93),
        (MORE, symmetric, 0.1, 0.93),
    ],
)
def test_a_nominal_twentieth_is_a_twentieth(
    sizes: dict[str, list[int]], effect: Effect, opposed: float, covered: float
) -> None:
    """Unequal speakers in two corpora: how often a difference is found where there is none, and how
    often the interval includes zero. Chance alone moves the two by 0.006 and 0.008."""
    found = [
        compare(*pair, speakers, corpora, resamples=500, seed=at)
        for at, (*pair, speakers, corpora) in enumerate(trials(sizes, effect, opposed))
    ]
    rejected = np.mean([pair.p_value <= 0.05 for pair in found])
    assert (0.02 if opposed else 0.035) < rejected < 0.065
    including = np.mean([pair.ci95[0] <= 0 <= pair.ci95[1] for pair in found])
    assert including == pytest.approx(covered, abs=0.02)


def test_p_values_are_corrected_for_their_number() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    rng = np.random.default_rng(6)
    families = rng.random((4000, 12))
    false = np.mean([min(holm(family.tolist())) <= 0.05 for family in families])
    assert false == pytest.approx(0.05, abs=0.012)
    assert np.mean(families.min(axis=1) <= 0.05) > 0.4  # what is found without a correction


def test_other_references_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same references"):
        compare(counts_of([1], [5]), counts_of([1], [6]))


def test_names_are_needed_for_every_utterance() -> None:
    with pytest.raises(ValueError, match="2 utterances but 1 groups"):
        bootstrap_interval(counts_of([1, 0], [5, 5]), ["one"])
    with pytest.raises(ValueError, match="2 utterances but 1 strata"):
        bootstrap_interval(counts_of([1, 0], [5, 5]), ["one", "two"], ["x"])
