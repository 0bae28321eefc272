"""Greedy and beam search against plain loops and exhaustive enumeration."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.decoding.beam import BeamSearch, Emitted
from dualmode.decoding.greedy import GreedySearch
from dualmode.decoding.search import Search
from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids
from dualmode.runtime.arrays import log_softmax
from dualmode.text import BLANK


@dataclass
class RandomScorer:
    """A predictor and joiner with random weights; ``blank_bias`` makes blanks rarer or commoner."""

    vocabulary: int = 7
    width: int = 6
    context_tokens: int = 2
    blank_bias: float = 0.5
    seed: int = 0
    predicted: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.embedding = rng.standard_normal((self.context_tokens, self.vocabulary, self.width))
        self.out = 2 * rng.standard_normal((self.width, self.vocabulary))

    def predict(self, context: Ids) -> Floats:
        assert context.ndim == 2
        self.predicted += len(context)
        return sum(self.embedding[i][context[:, i]] for i in range(self.context_tokens))

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        assert frames.shape == predictions.shape
        logits = np.tanh(frames + predictions) @ self.out
        logits[:, BLANK] += self.blank_bias
        return log_softmax(logits)


def random_frames(seed: int, batch: int, frames: int, width: int = 6) -> Floats:
    return 2 * np.random.default_rng(seed).standard_normal((batch, frames, width))


def decode(search: Search, frames: Floats, lengths: list[int]) -> list[tuple[Token, ...]]:
    return search.best(search.advance(search.start(len(lengths)), frames, np.array(lengths)))


def same(first: list[tuple[Token, ...]], second: list[tuple[Token, ...]]) -> bool:
    """Equal tokens and frames, log-probabilities to rounding."""
    flat = lambda rows: [[(t.id, t.frame) for t in row] for row in rows]  # noqa: E731
    values = [[t.log_prob for row in rows for t in row] for rows in (first, second)]
    return flat(first) == flat(second) and np.allclose(*values, atol=1e-5)


def plain_greedy(
    scorer: RandomScorer, frames: Floats, limit: int, penalty: float = 0.0
) -> list[tuple[int, int]]:
    context, found = [BLANK] * scorer.context_tokens, []
    for number, frame in enumerate(frames):
        for _ in range(limit):
            prediction = scorer.predict(np.array([context]))
            log_probs = scorer.score(frame[None], prediction)[0]
            log_probs[BLANK] -= penalty
            symbol = int(log_probs.argmax())
            if symbol == BLANK:
                break
            context = [*context[1:], symbol]
            found.append((symbol, number))
    return found


SEARCHES = [
    lambda scorer: GreedySearch(scorer, max_symbols=1),
    lambda scorer: GreedySearch(scorer, max_symbols=3),
    lambda scorer: GreedySearch(scorer, blank_penalty=1.5),
    lambda scorer: BeamSearch(scorer, width=1),
    lambda scorer: BeamSearch(scorer, width=5),
    lambda scorer: BeamSearch(scorer, width=4, blank_penalty=1.5),
]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(-1.0, 4.0), st.floats(0.0, 3.0))
def test_greedy_equals_a_plain_loop(
    seed: int, limit: int, blank_bias: float, penalty: float
) -> None:
    scorer = RandomScorer(seed=seed, blank_bias=blank_bias)
    frames = random_frames(seed, 1, 30)
    (tokens,) = decode(GreedySearch(scorer, limit, penalty), frames, [30])
    assert [(t.id, t.frame) for t in tokens] == plain_greedy(scorer, frames[0], limit, penalty)


@pytest.mark.parametrize("search", [GreedySearch, BeamSearch])
def test_a_blank_penalty_emits_more_and_leaves_confidences_alone(search) -> None:  # type: ignore[no-untyped-def]
    scorer = RandomScorer(seed=4, blank_bias=3.0)
    frames = random_frames(4, 1, 40)
    (plain,) = decode(search(scorer, 1), frames, [40])
    (pushed,) = decode(search(scorer, 1, blank_penalty=4.0), frames, [40])
    assert len(pushed) > len(plain) + 5
    context = [BLANK] * scorer.context_tokens
    for token in pushed:
        prediction = scorer.predict(np.array([context]))
        log_probs = scorer.score(frames[0, token.frame][None], prediction)[0]
        assert token.log_prob == pytest.approx(log_probs[token.id], abs=1e-5)
        context = [*context[1:], token.id]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 4.0))
def test_a_penalised_beam_equals_a_scorer_with_a_lower_blank(seed: int, penalty: float) -> None:
    scorer = RandomScorer(seed=seed, blank_bias=2.0)
    lowered = RandomScorer(seed=seed, blank_bias=2.0 - penalty)
    frames = random_frames(seed, 2, 20)
    found = decode(BeamSearch(scorer, 4, penalty), frames, [20, 13])
    expected = decode(BeamSearch(lowered, 4), frames, [20, 13])
    shape = [[(t.id, t.frame) for t in row] for row in found]
    assert shape == [[(t.id, t.frame) for t in row] for row in expected]


class Counting:
    """Emits 1, 2, 3, ... until the last token is what the frame holds."""

    context_tokens = 1

    def predict(self, context: Ids) -> Floats:
        return context.astype(np.float32)

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        wanted, last = frames[:, 0], predictions[:, 0]
        token = np.where(last < wanted, last + 1, 0).astype(int)
        return np.where(np.eye(12, dtype=bool)[token], 0.0, -np.inf)


@pytest.mark.parametrize("silent", range(20))
def test_the_limit_counts_the_symbols_of_one_frame(silent: int) -> None:
    wanted = [1.0] * (1 + silent) + [3.0] + [0.0] * 5 + [9.0]
    frames = np.array(wanted, np.float32).reshape(1, -1, 1)
    (tokens,) = decode(GreedySearch(Counting(), max_symbols=2), frames, [len(wanted)])
    loud = silent + 1
    assert [t.frame for t in tokens] == [0, loud, loud, loud + 6, loud + 6]


@pytest.mark.parametrize("make", SEARCHES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_streamed_in_any_cuts_equals_whole(make, seed: int, cuts: list[int]) -> None:  # type: ignore[no-untyped-def]
    search = make(RandomScorer(seed=seed))
    frames = random_frames(seed, 1, sum(cuts))
    state, at = search.start(1), 0
    for cut in cuts:
        state = search.advance(state, frames[:, at : at + cut], np.array([cut]))
        at += cut
    assert same(search.best(state), decode(search, frames, [sum(cuts)]))


@pytest.mark.parametrize("make", SEARCHES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 20), min_size=2, max_size=6))
def test_batch_of_many_equals_batches_of_one(make, seed: int, lengths: list[int]) -> None:  # type: ignore[no-untyped-def]
    search = make(RandomScorer(seed=seed))
    frames = random_frames(seed, len(lengths), max(lengths))
    alone = [
        decode(search, frames[row : row + 1, :length], [length])[0]
        for row, length in enumerate(lengths)
    ]
    assert same(decode(search, frames, lengths), alone)


@pytest.mark.parametrize("make", SEARCHES)
def test_ragged_stream_equals_each_alone(make) -> None:  # type: ignore[no-untyped-def]
    search = make(RandomScorer(seed=3))
    frames = random_frames(3, 3, 12)
    state = search.advance(search.start(3), frames[:, :5], np.array([5, 2, 0]))
    state = search.advance(state, frames[:, 5:], np.array([7, 3, 4]))
    alone = [
        frames[:1],
        np.concatenate([frames[1:2, :2], frames[1:2, 5:8]], axis=1),
        frames[2:, 5:9],
    ]
    expected = [decode(search, f, [f.shape[1]])[0] for f in alone]
    assert same(search.best(state), expected)


@pytest.mark.parametrize("make", SEARCHES)
def test_states_of_streams_that_began_apart_join_and_split(make) -> None:  # type: ignore[no-untyped-def]
    search = make(RandomScorer(seed=8))
    frames = random_frames(8, 3, 24)
    expected = [decode(search, frames[row : row + 1], [24])[0] for row in range(3)]
    at, states = [7, 0, 12], []
    for row in range(3):
        early = frames[row : row + 1, : at[row]]
        states.append(search.advance(search.start(1), early, np.array([at[row]])))
    late = np.zeros((3, 24, frames.shape[2]))
    for row in range(3):
        late[row, : 24 - at[row]] = frames[row, at[row] :]
    joined = search.advance(search.join(states), late, np.array([24 - a for a in at]))
    assert same(search.best(joined), expected)
    apart = search.split(joined)
    assert same([search.best(state)[0] for state in apart], expected)
    assert same(search.best(search.join(apart[::-1])), expected[::-1])


def test_a_long_past_is_freed_without_recursion() -> None:
    past = None
    for frame in range(200_000):
        past = Emitted(past, Token(2, frame, -0.1))
    del past


@pytest.mark.parametrize("make", SEARCHES)
def test_a_state_is_never_written_into(make) -> None:  # type: ignore[no-untyped-def]
    search = make(RandomScorer(seed=5))
    frames = random_frames(5, 2, 20)
    state = search.advance(search.start(2), frames[:, :8], np.array([8, 8]))
    first = search.advance(state, frames[:, 8:], np.array([12, 12]))
    again = search.advance(state, frames[:, 8:], np.array([12, 12]))
    assert same(search.best(first), search.best(again))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_beam_of_one_is_greedy_with_one_symbol(seed: int) -> None:
    scorer = RandomScorer(seed=seed)
    frames, lengths = random_frames(seed, 3, 25), [25, 11, 0]
    greedy = decode(GreedySearch(scorer, max_symbols=1), frames, lengths)
    assert same(decode(BeamSearch(scorer, width=1), frames, lengths), greedy)


def exhaustive(scorer: RandomScorer, frames: Floats) -> dict[tuple[int, ...], float]:
    """Log-probability of every token sequence: the sum over all choices of one symbol a frame."""
    totals: dict[tuple[int, ...], list[float]] = {}
    for path in itertools.product(range(scorer.vocabulary), repeat=len(frames)):
        context, total = [BLANK] * scorer.context_tokens, 0.0
        for frame, symbol in zip(frames, path, strict=True):
            prediction = scorer.predict(np.array([context]))
            total += float(scorer.score(frame[None], prediction)[0, symbol])
            if symbol != BLANK:
                context = [*context[1:], symbol]
        totals.setdefault(tuple(s for s in path if s != BLANK), []).append(total)
    return {key: float(np.logaddexp.reduce(v)) for key, v in totals.items()}


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_sums_over_all_alignments_and_finds_the_best(seed: int) -> None:
    scorer = RandomScorer(vocabulary=3, seed=seed)
    frames = random_frames(seed, 1, 5)
    expected = exhaustive(scorer, frames[0])
    search = BeamSearch(
        scorer, width=100, gap=np.inf
    )  # more than the 63 sequences of at most 5 tokens
    state = search.advance(search.start(1), frames, np.array([5]))
    found = state.scores[0][state.scores[0] > -np.inf]
    assert len(found) == len(expected), "each sequence once"
    assert np.allclose(found, sorted(expected.values(), reverse=True), atol=1e-4)
    assert tuple(t.id for t in search.best(state)[0]) == max(expected, key=lambda k: expected[k])


@pytest.mark.parametrize("seed", range(20))
def test_beam_scores_at_least_what_greedy_does(seed: int) -> None:
    scorer = RandomScorer(seed=seed, vocabulary=5)
    frames, lengths = random_frames(seed, 1, 6), np.array([6])
    narrow, wide = BeamSearch(scorer, width=1), BeamSearch(scorer, width=64, gap=np.inf)
    greedy = narrow.advance(narrow.start(1), frames, lengths)
    beam = wide.advance(wide.start(1), frames, lengths)
    assert float(beam.scores[0, 0]) >= float(greedy.scores[0, 0]) - 1e-5


@pytest.mark.parametrize("make", SEARCHES)
@pytest.mark.parametrize("dropped", [0, 2, 5])
def test_commit_changes_neither_later_tokens_nor_frames(make, dropped: int) -> None:  # type: ignore[no-untyped-def]
    search = make(RandomScorer(seed=1, blank_bias=0.0))
    frames = random_frames(1, 1, 60)
    state = search.advance(search.start(1), frames[:, :30], np.array([30]))
    before = search.best(state)[0]
    assert len(before) >= dropped
    committed = search.commit(state, dropped)
    assert search.best(committed)[0] == before[dropped:]
    assert search.stable(committed)[0] == len(before) - dropped
    after = search.best(search.advance(committed, frames[:, 30:], np.array([30])))[0]
    greedy_alike = isinstance(search, GreedySearch) or search.width == 1
    if greedy_alike:
        assert same([after], [decode(search, frames, [60])[0][dropped:]])
    assert after[: len(before) - dropped] == before[dropped:]
    assert all(t.frame >= 30 for t in after[len(before) - dropped :])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_stable_tokens_of_a_beam_do_not_change(seed: int) -> None:
    search = BeamSearch(RandomScorer(seed=seed), width=4)
    frames = random_frames(seed, 1, 30)
    state = search.start(1)
    for at in range(0, 30, 3):
        settled = [t.id for t in search.best(state)[0]][: search.stable(state)[0]]
        state = search.advance(state, frames[:, at : at + 3], np.array([3]))
        assert [t.id for t in search.best(state)[0]][: len(settled)] == settled


def test_the_predictor_runs_only_for_what_was_emitted() -> None:
    scorer = RandomScorer(seed=2, blank_bias=2.0)
    search = GreedySearch(scorer)
    tokens = decode(search, random_frames(2, 4, 40), [40, 40, 30, 1])
    assert scorer.predicted == 4 + sum(len(row) for row in tokens)


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="max_symbols"):
        GreedySearch(RandomScorer(), max_symbols=0)
    with pytest.raises(ValueError, match="width"):
        BeamSearch(RandomScorer(), width=0)
