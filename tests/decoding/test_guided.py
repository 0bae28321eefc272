"""Beam search with what is known of the language, against enumeration of everything."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.decoding import beam_run
from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.beam_run import BeamRun
from dualmode.decoding.outcome import Outcome
from dualmode.language.hotwords import compile_hotwords
from dualmode.language.knowledge import Fusion
from dualmode.language.ngram_build import build
from dualmode.language.ngram_estimate import estimate
from dualmode.language.phrases import compile_phrases

MARK = "\u2581"


class Letters:
    """Blank, <unk>, two words' beginnings and two letters."""

    pieces = ("<blk>", "<unk>", MARK, "a", "b", MARK + "a", "ab")

    def encode(self, text: str) -> list[int]:
        return [self.pieces.index(c) for c in MARK + text.replace(" ", MARK)]


LETTERS = Letters()


@dataclass
class RandomScorer:
    """A predictor and joiner with random weights."""

    seed: int
    blank_bias: float = 0.5
    context_tokens: int = 1
    width: int = 5

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.embedding = rng.normal(size=(len(Letters.pieces), self.width))
        self.out = 2 * rng.normal(size=(self.width, len(Letters.pieces)))

    def predict(self, context: np.ndarray) -> np.ndarray:
        return self.embedding[context[:, -1]].astype(np.float32)

    def score(self, frames: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        logits = np.tanh(frames + predictions) @ self.out
        logits[:, 0] += self.blank_bias
        logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return logits.astype(np.float32)


def frames_of(seed: int, batch: int, frames: int) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    return (2 * rng.normal(size=(batch, frames, RandomScorer.width))).astype(np.float32)


def fusions() -> dict[str, Fusion]:
    phrases = compile_phrases(["a b", "ab", "ab a", "ba"], LETTERS, str)
    hotwords = compile_hotwords({"ab": 0.7, "b": -0.4}, LETTERS, str)
    model = build(estimate([LETTERS.encode(t) for t in ("a b", "ab", "ba")], LETTERS, order=3))
    return {
        "phrases": Fusion((phrases,), (1.0,), confined=True),
        "hotwords": Fusion((hotwords,), (1.0,)),
        "lm": Fusion((model,), (0.4,), token_bonus=0.3, prior_weight=0.5),
        "all": Fusion((phrases, hotwords, model), (1.0, 1.0, 0.4), 0.1, 0.2, confined=True),
    }


FUSIONS = fusions()


def decode(
    search: BeamSearch, frames: np.ndarray, lengths: list[int], count: int = 1
) -> list[Outcome]:
    state = search.advance(search.start(len(lengths)), frames, np.array(lengths))
    return search.outcomes(search.finish(state), count)


def language_score(fusion: Fusion, scorer: RandomScorer, tokens: tuple[int, ...]) -> float:
    """By asking for one token after the other."""
    states, total, last = fusion.start()[None], 0.0, 0
    for token in tokens:
        prior = scorer.score(np.zeros((1, scorer.width)), scorer.predict(np.array([[last]])))[0, 1:]
        prior = prior - np.logaddexp.reduce(prior)
        expansion = fusion.expand(states)
        total += float(expansion.scores[0, token]) - fusion.prior_weight * float(prior[token - 1])
        states, last = expansion.states[:, token], token
    return total + float(fusion.final(states)[0])


def enumerated(
    fusion: Fusion, scorer: RandomScorer, frames: np.ndarray
) -> dict[tuple[int, ...], float]:
    """Score of every text that may end: the sum over alignments, and what the language adds."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(len(Letters.pieces)), repeat=len(frames)):
        last, total = 0, 0.0
        for frame, symbol in zip(frames, path, strict=True):
            total += float(scorer.score(frame[None], scorer.predict(np.array([[last]])))[0, symbol])
            last = symbol or last
        key = tuple(symbol for symbol in path if symbol)
        totals[key] = np.logaddexp(totals.get(key, -np.inf), total)
    scored = {key: total + language_score(fusion, scorer, key) for key, total in totals.items()}
    return {key: score for key, score in scored.items() if score > -np.inf}


@pytest.mark.parametrize("name", FUSIONS)
def test_n_best_scores_equal_enumeration(name: str) -> None:
    scorer, frames = RandomScorer(seed=len(name)), frames_of(3, 1, 4)
    wanted = enumerated(FUSIONS[name], scorer, frames[0])
    best = sorted(wanted, key=lambda key: -wanted[key])[:5]
    # Wide enough for all texts of at most 4 of 6 tokens.
    (outcome,) = decode(
        BeamSearch(scorer, 1600, fusion=FUSIONS[name], gap=np.inf), frames, [4], count=5
    )
    found = [tuple(token.id for token in h.tokens) for h in outcome.hypotheses]
    scores = [h.score for h in outcome.hypotheses]
    assert scores == pytest.approx([wanted[key] for key in best], abs=1e-3)
    assert found == best or scores != sorted(set(scores), reverse=True), "in order, ties apart"
    for hypothesis, key in zip(outcome.hypotheses, found, strict=True):
        added = language_score(FUSIONS[name], scorer, key)
        assert hypothesis.score - hypothesis.acoustic == pytest.approx(added, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(-1, 2))
def test_confined_output_is_in_the_list(seed: int, width: int, blank_bias: float) -> None:
    scorer = RandomScorer(seed, blank_bias)
    search = BeamSearch(scorer, width, fusion=FUSIONS["phrases"])
    for outcome in decode(search, frames_of(seed, 3, 20), [20, 9, 0]):
        text = "".join(Letters.pieces[token.id] for token in outcome.tokens).replace(MARK, " ")
        assert text.strip() in ("a b", "ab", "ab a", "ba", "")
        assert bool(text) == bool(outcome.hypotheses)


def plain(outcomes: list[Outcome]) -> list[list[tuple[int, int]]]:
    return [[(t.id, t.frame) for t in outcome.tokens] for outcome in outcomes]


@pytest.mark.parametrize("name", ["hotwords", "lm"])
@pytest.mark.parametrize("seed", range(5))
def test_weights_of_zero_change_nothing(name: str, seed: int) -> None:
    scorer, frames = RandomScorer(seed), frames_of(seed, 3, 15)
    nothing = Fusion(FUSIONS[name].parts, (0.0,))
    without = decode(BeamSearch(scorer, 3), frames, [15, 4, 9], count=3)
    zero = decode(BeamSearch(scorer, 3, fusion=nothing), frames, [15, 4, 9], count=3)
    assert plain(zero) == plain(without)
    for ours, theirs in zip(zero, without, strict=True):
        assert [h.score for h in ours.hypotheses] == pytest.approx(
            [h.score for h in theirs.hypotheses]
        )


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("seed", range(4))
def test_streams_in_any_company_equal_the_whole_alone(name: str, seed: int) -> None:
    search = BeamSearch(RandomScorer(seed), 3, blank_penalty=0.3, fusion=FUSIONS[name])
    frames, rng = frames_of(seed, 3, 16), np.random.default_rng(seed)
    alone = [decode(search, frames[row : row + 1], [16])[0] for row in range(3)]
    states, done = [search.start(1) for _ in range(3)], [0, 0, 0]
    while min(done) < 16:
        counts = np.array([int(rng.integers(0, min(5, 16 - at) + 1)) for at in done])
        size = max(1, int(counts.max()))
        block = np.stack(
            [
                np.resize(frames[r, done[r] :], (size, 5)) if done[r] < 16 else np.zeros((size, 5))
                for r in range(3)
            ]
        )
        for row in range(3):
            block[row, : counts[row]] = frames[row, done[row] : done[row] + counts[row]]
        before = search.join(states)
        states = search.split(search.advance(before, block.astype(np.float32), counts))
        done = [at + int(count) for at, count in zip(done, counts, strict=True)]
    streamed = search.outcomes(search.finish(search.join(states)))
    assert plain(streamed) == plain(alone)
    for ours, theirs in zip(streamed, alone, strict=True):
        assert [h.score for h in ours.hypotheses] == pytest.approx(
            [h.score for h in theirs.hypotheses], abs=1e-4
        )
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-4)
        assert ours.rejected == theirs.rejected


def regret(scorer: RandomScorer, frames: np.ndarray, outcome: Outcome) -> float:
    """By how much the best symbols were more probable than the answer's, frame by frame."""
    emitted = {token.frame: token.id for token in outcome.tokens}
    last, total = 0, 0.0
    for number, frame in enumerate(frames):
        log_probs = scorer.score(frame[None], scorer.predict(np.array([[last]])))[0]
        symbol = emitted.get(number, 0)
        total += float(log_probs.max() - log_probs[symbol])
        last = symbol or last
    return total


@pytest.mark.parametrize("seed", range(8))
def test_the_margin_is_the_regret_of_the_answer(seed: int) -> None:
    scorer, frames = RandomScorer(seed), frames_of(seed, 1, 12)
    (outcome,) = decode(BeamSearch(scorer, 6, fusion=FUSIONS["phrases"]), frames, [12])
    assert outcome.hypotheses
    wanted = -regret(scorer, frames[0], outcome) / len(outcome.tokens)
    assert outcome.margin == pytest.approx(wanted, abs=1e-4)


def quietest(scorer: RandomScorer, frames: np.ndarray) -> np.ndarray:
    """The frame at which blank is most probable, whatever the last token."""
    flat = frames.reshape(-1, scorer.width)
    lasts = np.arange(len(Letters.pieces))[:, None]
    blank = [scorer.score(flat, scorer.predict(np.tile(t, (len(flat), 1))))[:, 0] for t in lasts]
    return flat[np.min(blank, axis=0).argmax()]


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("gap", [1.0, 4.0, 10.0])
def test_rows_of_quiet_frames_equal_frame_by_frame(
    name: str, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, skipped = RandomScorer(7, blank_bias=3.0), []
    search = BeamSearch(scorer, 4, fusion=FUSIONS[name], gap=gap)
    # The last of each is long and silent after a while, so that there are rows of quiet frames.
    frames, lengths = frames_of(7, 3, 80), [80, 53, 0]
    frames[:, 20:60] = quietest(scorer, frames)
    skip = BeamRun._skip_quiet
    monkeypatch.setattr(BeamRun, "_skip_quiet", lambda run: skipped.append(skip(run)))
    fast = decode(search, frames, lengths, count=3)
    assert skipped
    monkeypatch.setattr(beam_run, "_CALM_FRAMES", 1000)
    slow = decode(search, frames, lengths, count=3)
    assert plain(fast) == plain(slow)
    for ours, theirs in zip(fast, slow, strict=True):
        assert [h.score for h in ours.hypotheses] == pytest.approx(
            [h.score for h in theirs.hypotheses], abs=1e-6
        )
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-6)
        assert ours.rejected == theirs.rejected


def test_a_phrase_that_fits_badly_is_none_of_them() -> None:
    scorer, frames = RandomScorer(2, blank_bias=-1.0), frames_of(2, 1, 12)
    phrases = FUSIONS["phrases"].parts
    accepting = BeamSearch(scorer, 4, fusion=Fusion(phrases, (1.0,), confined=True))
    (found,) = decode(accepting, frames, [12])
    assert found.hypotheses
    assert not found.rejected
    assert found.margin is not None
    strict = Fusion(phrases, (1.0,), confined=True, threshold=found.margin + 0.01)
    (none,) = decode(BeamSearch(scorer, 4, fusion=strict), frames, [12])
    assert none.tokens == ()
    assert none.rejected, "something else was heard"
    assert none.margin == pytest.approx(found.margin)


def test_after_a_segment_another_phrase_may_follow() -> None:
    search = BeamSearch(RandomScorer(4), 4, fusion=FUSIONS["phrases"])
    frames = frames_of(4, 1, 24)
    state = search.finish(search.advance(search.start(1), frames[:, :12], np.array([12])))
    (first,) = search.outcomes(state)
    state = search.commit(state, len(first.tokens), restart=True)
    assert search.best(state) == [()]
    state = search.finish(search.advance(state, frames[:, 12:], np.array([12])))
    (second,) = search.outcomes(state)
    assert first.hypotheses
    assert second.hypotheses
    assert all(token.frame >= 12 for token in second.tokens)
