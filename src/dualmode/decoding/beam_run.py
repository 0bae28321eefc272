"""One advance of a beam search, in arrays that are modified in place.

The speed depends on the number of NumPy calls, each of which takes microseconds: a frame of all
utterances is decoded by a few dozen calls over all hypotheses (N = B K). The values of a hypothesis
besides its score are columns of two arrays, each of which is reordered by one call.
"""

from __future__ import annotations

import math

import numpy as np

from dualmode.decoding.beam_state import NEVER, BeamState, Guided, Trail, in_order
from dualmode.decoding.beam_step import Flags, keep_complete, largest, merge
from dualmode.decoding.histories import Histories
from dualmode.decoding.search import Scores
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK

QUIET_FRAMES = 8  # frames scored together during silence
_CALM_FRAMES = 2  # consecutive frames without a token before several are scored together
_MOST_PATIENCE = 64  # upper limit of that number
_MOST_OWN, _DISTINCT_FRAMES = 0.85, 8  # see BeamRun._own
_LOWEST = -1e300  # below all possible scores
# Keys of hypotheses that do not exist, and before the first token; they equal no other key.
_NO_KEY, _NO_KEY_BEFORE, _NOTHING_BEFORE = -3, -2, -1
_HASH_FACTOR = np.int64(6364136223846793005)  # Knuth's MMIX multiplier; int64 wraps around

# Columns of integers: row of the history, hashes of the tokens with and without the last one, last
# token, node of the trail, latest frame with speech.
ROW, KEY, BEFORE, LAST, NODE, SPEECH = range(6)
GAINED, REGRET = range(2)  # columns of floats; see Guided


class BeamRun:
    """Decodes frames (B, T, J) with ``lengths`` (B,), starting from a state.

    Args:
        gap: hypotheses that are ``gap`` nats less probable than the best are dropped.
        confined: whether decoding is confined to phrases.
    """

    def __init__(
        self,
        scorer: Scorer,
        histories: Histories,
        state: BeamState,
        frames: Floats,
        lengths: Ids,
        *,
        blank_penalty: float,
        gap: float,
        confined: bool,
    ) -> None:
        self._scorer, self._histories = scorer, histories
        self._penalty, self._gap, self._confined = blank_penalty, gap, confined
        self._state, self._frames, self._lengths = state, frames, lengths
        batch, self._width = state.scores.shape
        self._trail = Trail(state.past)
        self._scores = state.scores.ravel().copy()
        self._marks, self._sums = _columns(state, histories)
        self._flat_frames = frames.reshape(-1, frames.shape[-1])
        self._utterance = np.arange(batch)  # those with frames left
        self._begin()
        self._at = np.zeros(batch, dtype=np.int64)  # next frame of each
        self._left = 0  # number of frames that all of them have left
        self._calm = 0  # number of consecutive frames without a token
        self._patience = _CALM_FRAMES  # calm frames before several are scored together
        self._distinct = 0  # number of frames for which histories are assumed to be distinct
        self._ends = self._scores.copy(), self._marks.copy(), self._sums.copy()

    def _begin(self) -> None:
        """Set values that are constant until an utterance ends."""
        rows, width = np.arange(len(self._utterance)), self._width
        self._base = np.repeat(rows * width, width)  # the first hypothesis of the utterance
        self._first_frame = self._utterance * self._frames.shape[1]
        self._shift = self._state.frames[self._utterance]  # the number of frame 0
        self._candidates: Scores = np.empty((len(rows) * width, self._histories.vocabulary))

    def decode(self) -> BeamState:
        """Decode all frames and return the state after them."""
        self._leave()
        while len(self._utterance):
            if self._calm >= self._patience:
                self._skip_quiet()
            else:
                self._frame()
            if self._left <= 0:
                self._leave()
        return self._ended()

    def _leave(self) -> None:
        """Remove the utterances that have no frames left."""
        left = self._lengths[self._utterance] - self._at
        if not left.all():
            every = np.arange(self._width)
            ended, going = (left == 0).nonzero()[0], left.nonzero()[0]
            source = (ended[:, None] * self._width + every).ravel()
            target = (self._utterance[ended][:, None] * self._width + every).ravel()
            current = self._scores, self._marks, self._sums
            for end, now in zip(self._ends, current, strict=True):
                end[target] = now[source]
            keep = (going[:, None] * self._width + every).ravel()
            self._scores, self._marks, self._sums = (array[keep] for array in current)
            self._utterance, self._at = self._utterance[going], self._at[going]
            self._begin()
            left = left[going]
        self._left = int(left.min()) if len(left) else 0

    def _frame(self) -> None:
        """Decode the next frame of every utterance."""
        batch, width, marks = len(self._utterance), self._width, self._marks
        log_probs = self._score(1)[:, 0]
        candidates = self._candidates
        candidates[:] = log_probs
        candidates += (self._scores - self._normalizer(candidates[:, BLANK]))[:, None]
        if self._penalty:
            candidates[:, BLANK] -= self._penalty
        if self._guided:
            candidates += self._histories.added.take(marks[:, ROW], axis=0)
        flat = candidates.reshape(batch, -1)
        floor = np.maximum(flat.max(axis=1) - self._gap, _LOWEST).repeat(width)
        if self._confined:
            floor = self._drop(candidates, floor)
        beam = (batch, width)
        keys, before = marks[:, KEY].reshape(beam), marks[:, BEFORE].reshape(beam)
        merge(candidates, floor, marks[:, LAST], keys, before)
        indices, found = largest(flat, width)
        if self._confined and width > 1:
            keep_complete(flat, self._histories.complete, marks[:, ROW], indices, found)
        origin, token = np.divmod(indices.ravel(), candidates.shape[1])
        scores = found.ravel()
        none = (~(scores >= floor)).nonzero()[0]
        if len(none):
            scores[none], token[none] = NEVER, BLANK
        self._scores = scores
        self._follow(log_probs, origin, token)
        if len(none):
            self._marks[none, KEY], self._marks[none, BEFORE] = _NO_KEY, _NO_KEY_BEFORE

    def _drop(self, candidates: Scores, floor: Scores) -> Scores:
        """Remove candidates (N, V) below the floor (N,) of their utterance in place, except texts
        that may end. Returns the remaining floor, below all scores."""
        low = candidates < floor[:, None]
        low[:, BLANK] &= ~self._histories.complete[self._marks[:, ROW], BLANK]
        np.copyto(candidates, NEVER, where=low)
        return np.full(len(floor), _LOWEST)

    def _follow(self, log_probs: Floats, origin: Ids, token: Ids) -> None:
        """Replace the hypotheses by ``origin`` (N,), extended by the frame's ``token`` (N,)."""
        marks = self._marks.take(origin, axis=0)
        if self._guided:
            self._sums = self._sums.take(origin, axis=0)
        number = self._at + self._shift
        grown = token.nonzero()[0]
        if len(grown):
            came, symbols = marks.take(grown, axis=0), token.take(grown)
            row, key = came[:, ROW].copy(), came[:, KEY].copy()
            if self._guided:
                self._sums[grown, GAINED] += self._histories.added[row, symbols]
            came[:, ROW] = self._histories.after(row, symbols)
            came[:, KEY] = key * _HASH_FACTOR + symbols + 1
            came[:, BEFORE], came[:, LAST] = key, symbols
            now, said = number[grown // self._width], log_probs[origin.take(grown), symbols]
            came[:, NODE] = self._trail.grow(came[:, NODE].copy(), symbols, now, said)
            marks[grown] = came
        if self._confined:
            stayed, spoken = log_probs[:, BLANK] - self._penalty, log_probs[:, BLANK + 1 :].max(1)
            chosen = log_probs[origin, token] - self._penalty * (token == BLANK)
            self._sums[:, REGRET] += np.maximum(stayed, spoken)[origin] - chosen
            speech = (spoken > stayed)[origin].nonzero()[0]
            marks[speech, SPEECH] = number[speech // self._width]
        self._marks = marks
        self._at += 1
        self._left -= 1
        self._distinct = max(0, self._distinct - 1)
        self._calm = 0 if len(grown) else self._calm + 1

    def _skip_quiet(self) -> None:
        """Decode the next frames of every utterance while only blank is within the gap for every
        hypothesis, by adding blanks without a selection."""
        batch, width = len(self._utterance), self._width
        rows, ahead = np.arange(batch), np.arange(QUIET_FRAMES)
        log_probs = self._score(QUIET_FRAMES)
        blank = log_probs[..., BLANK].astype(np.float64)
        normalizer = self._normalizer(blank)
        blank -= self._penalty + normalizer
        stay = self._scores[:, None] + np.cumsum(blank, axis=1)
        quiet = self._quiet(log_probs, normalizer, stay, blank)
        quiet &= ahead < (self._lengths[self._utterance] - self._at)[:, None]
        run = np.logical_and.accumulate(quiet, axis=1).sum(axis=1)
        after = stay.reshape(batch, width, -1)[rows, :, np.maximum(run, 1) - 1]
        now = self._scores.reshape(batch, width)
        self._scores = np.where((run > 0)[:, None], after, now).ravel()
        if self._confined:
            inside = ahead < np.repeat(run, width)[:, None]
            number = np.repeat(self._at + self._shift, width)[:, None] + ahead
            spoken = log_probs[..., BLANK + 1 :].max(axis=2) - normalizer
            self._sums[:, REGRET] += (np.maximum(spoken - blank, 0) * inside).sum(axis=1)
            latest = np.where((spoken > blank) & inside, number, -1).max(axis=1)
            self._marks[:, SPEECH] = np.maximum(self._marks[:, SPEECH], latest)
        self._at += run
        self._left = 0
        if (run < QUIET_FRAMES).any():
            self._calm = 0
        vain = run.sum() * 2 < run.size * QUIET_FRAMES
        self._patience = min(2 * self._patience, _MOST_PATIENCE) if vain else _CALM_FRAMES

    def _quiet(self, log_probs: Floats, normalizer: Scores, stay: Scores, blank: Scores) -> Flags:
        """(B, F) whether only blank is within the gap for every hypothesis.

        Args:
            log_probs: (N, F, V) output of the scorer.
            normalizer: (N, F) normaliser after the blank penalty.
            stay: (N, F) scores if this frame and those before it are blank.
            blank: (N, F) log-probability of blank.
        """
        beam = (len(self._utterance), self._width, QUIET_FRAMES)
        row = self._marks[:, ROW]
        symbols = log_probs[..., BLANK + 1 :]
        if self._guided:
            symbols = symbols + self._histories.added[row, None, BLANK + 1 :]
        grown = stay - blank + symbols.max(axis=2) - normalizer
        floor = np.repeat(stay.reshape(beam).max(axis=1) - self._gap, self._width, axis=0)
        kept = stay >= floor
        if self._confined:
            kept |= self._histories.complete[row, BLANK, None]
        alive = (self._scores > NEVER)[:, None]
        quiet: Flags = (kept & (grown < floor) | ~alive).reshape(beam).all(axis=1)
        return quiet

    def _score(self, count: int) -> Floats:
        """Log-probabilities (N, count, V) of the next frames for every hypothesis.

        Hypotheses of an utterance with the same history are scored once. Those that do not exist
        are copies.
        """
        width, row = self._width, self._marks[:, ROW].copy()
        asked = None if self._distinct else self._own(row)
        at = self._at[:, None] + np.arange(count)
        place = self._first_frame[:, None] + np.minimum(at, self._frames.shape[1] - 1)
        if asked is None:
            place, given = place.repeat(width, axis=0), row
        else:
            place, given = place[asked // width], row[asked]
        given = given if count == 1 else given.repeat(count)
        log_probs = self._scorer.score(
            self._flat_frames.take(place.ravel(), axis=0),
            self._histories.predictions.take(given, axis=0),
        ).reshape(len(place), count, -1)
        return log_probs if asked is None else log_probs.take(self._shared, axis=0)

    def _own(self, row: Ids) -> Ids | None:
        """Indices of the hypotheses whose history occurs first in the beam; None if nearly all of
        them are distinct, which is then assumed for some frames, since duplicates cost little."""
        beam = row.reshape(-1, self._width)
        first = (beam[:, :, None] == beam[:, None, :]).argmax(axis=2)
        own = (first == np.arange(self._width)).ravel()
        asked: Ids = own.nonzero()[0]
        if len(asked) > _MOST_OWN * len(row):
            self._distinct = _DISTINCT_FRAMES
            return None
        self._shared = (own.cumsum() - 1).take(first.ravel() + self._base)
        return asked

    def _normalizer(self, blank: Scores) -> Scores:
        """Logarithm of the sum of all probabilities after the blank penalty."""
        if not self._penalty:
            return np.zeros(blank.shape)
        normalizer: Scores = np.log1p(np.exp(blank) * math.expm1(-self._penalty))
        return normalizer

    @property
    def _guided(self) -> bool:
        return self._state.guided is not None

    def _ended(self) -> BeamState:
        scores, marks, sums = self._ends
        shape = self._state.scores.shape
        row = marks[:, ROW]
        guided = None
        if self._guided:
            guided = Guided(
                self._histories.states[row].reshape(*shape, -1),
                sums[:, GAINED].reshape(shape),
                sums[:, REGRET].reshape(shape),
                marks[:, SPEECH].reshape(shape),
            )
        ended = BeamState(
            scores.reshape(shape),
            self._histories.contexts[row].reshape(*shape, -1),
            marks[:, [KEY, BEFORE]].reshape(*shape, 2),
            self._state.frames + self._lengths,
            self._trail.pasts(marks[:, NODE].reshape(shape)),
            guided,
        )
        return in_order(ended)


def _columns(state: BeamState, histories: Histories) -> tuple[Ids, Scores]:
    """Columns of integers (N, 6) and of floats (N, 2) of the hypotheses of a state."""
    count = state.scores.size
    marks = np.zeros((count, 6), dtype=np.int64)
    sums = np.zeros((count, 2))
    context = state.context.reshape(count, -1)
    states = np.zeros((count, 0), dtype=np.int64)
    if state.guided is not None:
        states = state.guided.states.reshape(count, -1)
        sums[:, GAINED], sums[:, REGRET] = state.guided.gained.ravel(), state.guided.regret.ravel()
        marks[:, SPEECH] = state.guided.speech.ravel()
    marks[:, ROW] = histories.rows(context, states)
    marks[:, KEY], marks[:, BEFORE] = state.keys.reshape(count, 2).T
    marks[:, LAST], marks[:, NODE] = context[:, -1], np.arange(count)
    marks[marks[:, LAST] == BLANK, BEFORE] = _NOTHING_BEFORE
    marks[state.scores.ravel() == NEVER, KEY : BEFORE + 1] = _NO_KEY, _NO_KEY_BEFORE
    return marks, sums
