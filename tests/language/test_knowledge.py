"""Several parts as one: scores add up, weights of 0 change nothing, what is kept is the same."""

from __future__ import annotations

import numpy as np
import pytest

from dualmode.language import knowledge
from dualmode.language.hotwords import compile_hotwords
from dualmode.language.knowledge import Fusion
from dualmode.language.ngram_build import build
from dualmode.language.ngram_estimate import estimate
from dualmode.language.phrases import compile_phrases
from dualmode.text import Tokens


def parts(tokens: Tokens):  # type: ignore[no-untyped-def]
    texts = ["the zoo is open", "call zelda", "the radio is off"]
    return (
        compile_phrases(texts, tokens, str),
        compile_hotwords({"zelda": 1.0, "the zoo": 0.5}, tokens, str),
        build(estimate([tokens.encode(t) for t in texts], tokens, order=3)),
    )


def follow(fusion: Fusion, tokens: list[int]) -> float:
    states, total = fusion.start()[None], 0.0
    for token in tokens:
        expansion = fusion.expand(states)
        total += float(expansion.scores[0, token])
        states = expansion.states[:, token]
    return total + float(fusion.final(states)[0])


def test_scores_add_up(tokens: Tokens) -> None:
    phrases, hotwords, model = parts(tokens)
    fusion = Fusion((phrases, hotwords, model), (1.0, 1.0, 0.3), token_bonus=0.25)
    text = tokens.encode("the zoo is open")
    wanted = hotwords.boosts["the zoo"] + 0.3 * model.score(text) + 0.25 * len(text)
    assert follow(fusion, text) == pytest.approx(wanted, abs=1e-3)
    assert follow(fusion, tokens.encode("the zoo is off")) == -np.inf


def test_a_weight_of_zero_changes_nothing(tokens: Tokens) -> None:
    fusion = Fusion(parts(tokens), (0.0, 0.0, 0.0))
    states = np.stack([fusion.start()] * 3)
    for token in tokens.encode("no phrase of any list"):
        expansion = fusion.expand(states)
        assert not expansion.scores.any()
        states = expansion.states[:, token]
        assert not fusion.final(states).any()


def test_kept_rows_equal_new_ones(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "_ROWS_KEPT", 5)
    kept = Fusion(parts(tokens), (1.0, 1.0, 0.5))
    rng = np.random.default_rng(0)
    sizes = (kept.parts[0].size, len(kept.parts[1].table), len(kept.parts[2].shorter))  # type: ignore[attr-defined]
    for _ in range(20):
        states = np.stack([rng.integers(0, min(size, 6), 4) for size in sizes], axis=1)
        new = Fusion(kept.parts, kept.weights).expand(states)
        again = kept.expand(states)
        assert np.array_equal(again.states, new.states)
        assert np.array_equal(again.scores, new.scores)
    assert len(kept._rows) <= 5
