"""Error counts, intervals and significance, against what they must be."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.evaluation.wer import (
    ErrorCounts,
    bootstrap_interval,
    character_errors,
    compare,
    word_errors,
)

sentence = st.lists(st.sampled_from(["a", "bb", "c", "dd"]), max_size=7).map(" ".join)
pairs = st.lists(st.tuples(sentence, sentence), min_size=1, max_size=8)


@settings(deadline=None)
@given(pairs)
def test_counts_add_up_to_jiwer(pairs) -> None:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    counts = word_errors(references, hypotheses)
    whole = jiwer.process_words(references, hypotheses)
    assert counts.insertions.sum() == whole.insertions
    assert counts.deletions.sum() == whole.deletions
    assert counts.substitutions.sum() == whole.substitutions
    assert counts.reference.tolist() == [len(r.split()) for r in references]
    said = np.array([len(h.split()) for h in hypotheses])
    assert (counts.reference - counts.deletions + counts.insertions == said).all()
    characters = character_errors(references, hypotheses)
    assert characters.reference.tolist() == [len(r) for r in references]


def test_known_errors() -> None:
    counts = word_errors(["the cat sat", "on it"], ["the hat sat down", "it"])
    assert counts.substitutions.tolist() == [1, 0]
    assert counts.insertions.tolist() == [1, 0]
    assert counts.deletions.tolist() == [0, 1]
    assert counts.rate == pytest.approx(3 / 5)
    assert counts.select([1]).rate == pytest.approx(1 / 2)


def test_no_utterances_and_unequal_numbers() -> None:
    assert np.isnan(word_errors([], []).rate)
    with pytest.raises(ValueError, match="1 references but 2"):
        word_errors(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="2 utterances but 1 groups"):
        bootstrap_interval(counts_of([1, 0], [5, 5]), ["one"])


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
    assert 930 <= covered <= 965  # chance alone moves a thousand trials by seven


def test_speakers_that_differ_widen_the_interval() -> None:
    errors = [0] * 50 + [8] * 50
    counts = counts_of(errors, [10] * 100)
    speakers = [f"s{n // 10}" for n in range(100)]
    by_utterance = bootstrap_interval(counts)
    by_speaker = bootstrap_interval(counts, speakers)
    assert by_speaker[1] - by_speaker[0] > 2 * (by_utterance[1] - by_utterance[0])


def test_seeds_decide_and_pieces_do_not_matter(monkeypatch) -> None:
    counts = counts_of(np.arange(30) % 4, np.full(30, 9))
    assert bootstrap_interval(counts, seed=3) == bootstrap_interval(counts, seed=3)
    few = [bootstrap_interval(counts, resamples=25, seed=seed) for seed in range(4)]
    assert len(set(few)) > 1
    whole = bootstrap_interval(counts, resamples=300, seed=3)
    monkeypatch.setattr("dualmode.evaluation.wer._DRAWS_AT_ONCE", 40)
    assert bootstrap_interval(counts, resamples=300, seed=3) == whole


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
        allowed = 3.5 * np.sqrt(level * (1 - level) / 1000) + 0.005
        assert abs(np.mean(np.array(values) <= level) - level) < allowed


def test_other_references_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same references"):
        compare(counts_of([1], [5]), counts_of([1], [6]))
