"""What is kept of token histories equals what is computed anew, and changes no result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dualmode.decoding import foreseen, histories
from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.beam_step import largest
from dualmode.decoding.foreseen import ForeseenPredictions
from dualmode.decoding.histories import Histories
from dualmode.decoding.outcome import Outcome
from dualmode.language.hotwords import compile_hotwords
from dualmode.language.knowledge import Fusion
from dualmode.language.ngram_build import build
from dualmode.language.ngram_estimate import estimate
from dualmode.language.phrases import compile_phrases
from dualmode.runtime.arrays import log_softmax

MARK = "\u2581"


class Letters:
    """Blank, <unk>, the mark of words, and two letters."""

    pieces = ("<blk>", "<unk>", MARK, "a", "b")

    def encode(self, text: str) -> list[int]:
        return [self.pieces.index(c) for c in MARK + text.replace(" ", MARK)]


class RandomScorer:
    """A predictor and joiner with random weights that counts its contexts."""

    width = 6

    def __init__(self, seed: int = 0, context_tokens: int = 2) -> None:
        rng = np.random.default_rng(seed)
        self.context_tokens = context_tokens
        self.embedding = rng.standard_normal((context_tokens, len(Letters.pieces), self.width))
        self.out = 2 * rng.standard_normal((self.width, len(Letters.pieces)))
        self.predicted = 0

    def predict(self, context: np.ndarray) -> np.ndarray:
        self.predicted += len(context)
        return sum(self.embedding[i][context[:, i]] for i in range(self.context_tokens))

    def score(self, frames: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return log_softmax(np.tanh(frames + predictions) @ self.out)


def fusions() -> dict[str, Fusion]:
    letters, texts = Letters(), ["a b", "ab a", "ba"]
    model = build(estimate([letters.encode(text) for text in texts], letters, order=3))
    hotwords = compile_hotwords({"ab": 0.7}, letters, str)
    phrases = compile_phrases(texts, letters, str)
    return {
        "lm": Fusion((hotwords, model), (1.0, 0.4), 0.3, 0.5),
        "all": Fusion((phrases, hotwords, model), (1.0, 1.0, 0.4), 0.1, 0.2, confined=True),
    }


FUSIONS = fusions()


def frames_of(seed: int, batch: int, frames: int) -> np.ndarray:
    return 2 * np.random.default_rng(seed).standard_normal((batch, frames, RandomScorer.width))


def decode(search: BeamSearch, frames: np.ndarray, lengths: list[int]) -> list[Outcome]:
    state = search.advance(search.start(len(lengths)), frames, np.array(lengths))
    return search.outcomes(search.finish(state), 4)


def plain(outcomes: list[Outcome]) -> list[list[tuple[int, int]]]:
    return [[(t.id, t.frame) for t in outcome.tokens] for outcome in outcomes]


@pytest.mark.parametrize("name", FUSIONS)
def test_rows_hold_what_predictor_and_language_say(name: str) -> None:
    scorer, fusion, rng = RandomScorer(1), FUSIONS[name], np.random.default_rng(0)
    table = Histories(scorer, fusion)
    rows = np.zeros(40, dtype=np.int64)
    contexts, states = np.zeros((40, 2), dtype=np.int64), np.tile(fusion.start(), (40, 1))
    for _ in range(6):
        after, added = fusion.expand(states)
        prior = scorer.score(np.zeros((40, scorer.width)), scorer.predict(contexts))[:, 1:]
        prior = prior - np.logaddexp.reduce(prior, axis=1, keepdims=True)
        added[:, 1:] -= np.float32(fusion.prior_weight) * prior
        assert np.allclose(table.predictions[rows], scorer.predict(contexts))
        assert np.allclose(table.added[rows], added, atol=1e-5)
        if fusion.confined:
            assert np.array_equal(table.complete[rows], fusion.accepts(after))
        symbols = rng.integers(1, len(Letters.pieces), 40)
        contexts, states = np.stack([contexts[:, 1], symbols], 1), after[np.arange(40), symbols]
        rows = table.after(rows, symbols)
        assert np.array_equal(table.contexts[rows], contexts)
        assert np.array_equal(table.states[rows], states)
        assert np.array_equal(table.rows(contexts, states), rows)
    keys = np.concatenate([table.contexts, table.states], axis=1)[: rows.max() + 1]
    assert len(np.unique(keys, axis=0)) == len(keys), "each history once"


@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("most", [0, 1e9])
def test_foreseen_predictions_are_the_predictors(
    tokens: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreseen, "MOST_BYTES", most)
    scorer = RandomScorer(context_tokens=tokens)
    ahead = ForeseenPredictions(scorer)
    rng = np.random.default_rng(0)
    asked = rng.integers(0, len(Letters.pieces), (200, tokens))
    assert np.allclose(ahead.predict(asked), scorer.predict(asked))
    before = scorer.predicted
    assert np.allclose(ahead.predict(asked[:5]), ahead.predict(asked)[:5])
    assert (scorer.predicted == before) == bool(most), "nothing is computed twice, if it is kept"


@pytest.mark.parametrize("name", FUSIONS)
def test_a_table_that_is_replaced_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, search = frames_of(2, 2, 30), BeamSearch(RandomScorer(2), 4, fusion=FUSIONS[name])
    whole = decode(search, frames, [30, 30])
    monkeypatch.setattr(histories, "ROWS_KEPT", 0)
    state = search.start(2)
    for at in range(0, 30, 3):
        state = search.advance(state, frames[:, at : at + 3], np.array([3, 3]))
    pieces = search.outcomes(search.finish(state), 4)
    assert plain(pieces) == plain(whole)
    for ours, theirs in zip(pieces, whole, strict=True):
        assert [h.score for h in ours.hypotheses] == pytest.approx(
            [h.score for h in theirs.hypotheses], abs=1e-5
        )


def test_threads_share_a_search() -> None:
    frames = [frames_of(seed, 2, 40) for seed in range(8)]
    alone = [
        plain(decode(BeamSearch(RandomScorer(0), 4, fusion=FUSIONS["all"]), f, [40, 31]))
        for f in frames
    ]
    search = BeamSearch(ForeseenPredictions(RandomScorer(0)), 4, fusion=FUSIONS["all"])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda f: plain(decode(search, f, [40, 31])), frames))
    assert found == alone


@pytest.mark.parametrize("count", [9, 20])
def test_the_largest_are_found_in_order(count: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.permutation(5 * 40).reshape(5, 40).astype(float)
    values[rng.random(values.shape) < 0.3] = -np.inf
    indices, found = largest(values.copy(), count)
    expected = np.argsort(-values, axis=1)[:, :count] + 40 * np.arange(5)[:, None]
    assert np.array_equal(indices[found > -np.inf], expected[found > -np.inf])
    assert np.array_equal(found, values.ravel()[expected])


def test_few_ties_are_found_by_column() -> None:
    values = np.random.default_rng(0).integers(0, 9, (5, 40)).astype(float)
    indices, _ = largest(values.copy(), 7)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :7] + 40 * np.arange(5)[:, None]
    assert np.array_equal(indices, expected)
