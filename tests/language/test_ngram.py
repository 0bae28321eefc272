"""N-gram models: probabilities add up to 1, whole equals written and read, pruning costs little."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dualmode.errors import LanguageError
from dualmode.language.arpa import read_arpa
from dualmode.language.ngram import UNSEEN, NGram, read_ngram
from dualmode.language.ngram_build import build
from dualmode.language.ngram_estimate import estimate
from dualmode.text import Tokens


class Vocabulary:
    """Eight tokens."""

    pieces = ("<blk>", "<unk>", *("\u2581" + c for c in "abcdef"))


def corpus(seed: int = 0, texts: int = 300) -> list[list[int]]:
    """Texts in which a token says much about the next."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(6, 0.4), size=(8, 8))
    found = []
    for _ in range(texts):
        text = [0, 0]
        for _ in range(int(rng.integers(1, 12))):
            text.append(int(rng.choice(6, p=rows[text[-2], text[-1]])) + 2)
        found.append(text[2:])
    return found


def model(order: int = 4, megabytes: float = 8.0, seed: int = 0) -> NGram:
    return build(estimate(corpus(seed), Vocabulary(), order, megabytes))


def perplexity(model: NGram, texts: list[list[int]]) -> float:
    return math.exp(-sum(map(model.score, texts)) / sum(len(text) + 1 for text in texts))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("megabytes", [8.0, 0.006])
def test_probabilities_add_up_to_one(order: int, megabytes: float) -> None:
    found = model(order, megabytes)
    states = np.arange(len(found.shorter))
    scores = found.expand(states).scores.astype(float)
    total = np.exp(scores[:, 2:]).sum(axis=1) + np.exp(found.final(states).astype(float))
    assert np.allclose(total, 1, atol=1e-4)


def test_the_unigrams_of_one_order_are_discounted_counts() -> None:
    texts = corpus()
    found = model(order=1)
    counts = Counter(token for text in texts for token in [*text, 0])
    scores = found.expand(np.array([0])).scores[0]
    ranked = sorted(range(2, 8), key=lambda token: counts[token])
    assert sorted(range(2, 8), key=lambda token: scores[token]) == ranked
    total = sum(counts.values())
    assert np.exp(scores[ranked[-1]]) == pytest.approx(counts[ranked[-1]] / total, abs=3e-3)


def test_a_higher_order_predicts_better_and_pruning_costs_little() -> None:
    held_out = corpus(seed=0, texts=600)[300:]
    full = [perplexity(model(order), held_out) for order in (1, 2, 3)]
    assert full == sorted(full, reverse=True)
    small = model(3, megabytes=0.0022)
    assert small.nbytes < 0.8 * model(3).nbytes
    assert full[2] <= perplexity(small, held_out) < full[1] * 1.05


def asked_node_by_node(model: NGram, state: int, token: int) -> tuple[int, float]:
    """What one token leads to and costs, by the definition of back-off."""
    arcs = slice(int(model.begin[state]), int(model.begin[state + 1]))
    at = np.flatnonzero(model.token[arcs] == token)
    if len(at):
        return int(model.into[arcs][at[0]]), float(model.log_prob[arcs][at[0]])
    if state == 0:
        return 0, UNSEEN + float(model.backoff[0])
    after, log_prob = asked_node_by_node(model, int(model.shorter[state]), token)
    return after, log_prob + float(model.backoff[state])


@pytest.mark.parametrize("megabytes", [8.0, 0.006])
def test_many_contexts_at_once_equal_node_by_node(megabytes: float) -> None:
    found = model(5, megabytes)
    states = np.random.default_rng(0).permutation(len(found.shorter))[:300]
    expansion, ends = found.expand(states), found.final(states)
    for row, state in enumerate(states.tolist()):
        for token in range(1, found.vocabulary):
            after, log_prob = asked_node_by_node(found, state, token)
            assert expansion.states[row, token] == after
            assert expansion.scores[row, token] == pytest.approx(log_prob, abs=1e-4)
        assert ends[row] == pytest.approx(asked_node_by_node(found, state, 0)[1], abs=1e-4)


def naive(model: NGram, texts: list[list[int]], text: list[int]) -> float:
    """The same score by asking for each token alone."""
    state, total = model.start, 0.0
    for token in text:
        expansion = model.expand(np.array([state]))
        total += float(expansion.scores[0, token])
        state = int(expansion.states[0, token])
    return total + float(model.final(np.array([state]))[0])


def test_a_text_scores_as_its_tokens_do_one_by_one() -> None:
    found = model()
    for text in corpus(seed=5, texts=20):
        assert found.score(text) == pytest.approx(naive(found, corpus(), text), abs=1e-4)


def test_written_and_read_it_is_the_same_to_half_precision(tmp_path: Path) -> None:
    found = model()
    found.write(tmp_path / "deep" / "lm")
    again = read_ngram(tmp_path / "deep" / "lm")
    assert isinstance(again.token.base, np.memmap)
    texts = corpus(seed=3, texts=20)
    assert [again.score(t) for t in texts] == pytest.approx(
        [found.score(t) for t in texts], rel=1e-3
    )
    assert (again.order, again.start, again.nbytes) == (4, found.start, found.nbytes)
    assert not list((tmp_path / "deep").glob(".*")), "no part is left"


def arpa_text(found: list[list[int]]) -> str:
    """The bigrams of some texts in the ARPA format, by plain formulas."""
    words = {0: "</s>", **{n: Vocabulary.pieces[n] for n in range(2, 8)}}
    unigrams = Counter(t for text in found for t in [*text, 0])
    bigrams = Counter(p for text in found for p in zip([-1, *text], [*text, 0], strict=True))
    after = Counter(first for first, _ in bigrams.elements())
    total = sum(unigrams.values())
    lines = ["\\data\\", f"ngram 1={len(unigrams) + 1}", f"ngram 2={len(bigrams)}", ""]
    lines += ["\\1-grams:", "-99\t<s>\t-0.30103"]
    lines += [
        f"{math.log10(n / total):.6f}\t{words[t]}" + ("" if t == 0 else "\t-0.30103")
        for t, n in sorted(unigrams.items())
    ]
    lines += ["", "\\2-grams:"]
    lines += [
        f"{math.log10(0.5 * n / after[a]):.6f}\t{'<s>' if a < 0 else words[a]} {words[b]}"
        for (a, b), n in sorted(bigrams.items())
    ]
    return "\n".join([*lines, "", "\\end\\", ""])


def test_arpa_is_read_as_it_is_defined(tmp_path: Path) -> None:
    texts = corpus(texts=40)
    path = tmp_path / "lm.arpa.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(arpa_text(texts))
    found = build(read_arpa(path, Vocabulary()))
    unigrams = Counter(t for text in texts for t in [*text, 0])
    bigrams = Counter(p for text in texts for p in zip([-1, *text], [*text, 0], strict=True))
    after = Counter(first for first, _ in bigrams.elements())
    total = sum(unigrams.values())
    for text in corpus(seed=9, texts=10):
        wanted = sum(
            math.log(0.5 * bigrams[pair] / after[pair[0]])
            if pair in bigrams
            else math.log(0.5 * unigrams[pair[1]] / total)
            for pair in zip([-1, *text], [*text, 0], strict=True)
        )
        assert found.score(text) == pytest.approx(wanted, abs=1e-3)


def test_bad_models_have_named_errors(tmp_path: Path, tokens: Tokens) -> None:
    with pytest.raises(LanguageError, match="no text"):
        estimate([[]], Vocabulary())
    with pytest.raises(LanguageError, match="order"):
        estimate([[2]], Vocabulary(), order=40)
    path = tmp_path / "lm"
    with pytest.raises(LanguageError, match="cannot read"):
        read_ngram(path)
    path.write_text("something else")
    with pytest.raises(LanguageError, match="not a language model"):
        read_ngram(path)
    model().write(path)
    with pytest.raises(LanguageError, match="other tokens"):
        read_ngram(path).check(tokens)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LanguageError, match="cannot read"):
        read_ngram(path)
    path.write_bytes(whole[:-16] + b"\xff" * 16)
    with pytest.raises(LanguageError, match="damaged"):
        read_ngram(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\u2581b", "bee"), "not a token"),
        (lambda text: text.replace("\\end\\", ""), "truncated"),
        (lambda text: text.replace("\t<s>\t-0.30103", "\t<s>\t-0.3 4 5"), "line 6"),
        (lambda text: "nothing", "truncated"),
        (lambda text: text.replace("-99", "ninety"), "cannot read"),
    ],
)
def test_bad_arpa_files_have_named_errors(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "lm.arpa"
    path.write_text(change(arpa_text(corpus(texts=10))), encoding="utf-8")
    with pytest.raises(LanguageError, match=message):
        read_arpa(path, Vocabulary())
