"""One advance of a beam search: frames are decoded in arrays that are written into.

Speed is the number of NumPy's calls, which cost microseconds whatever they do: a frame of all
utterances is decoded by a few dozen of them, over hypotheses that lie in one row (N = B K). What
a hypothesis carries besides its score is columns of two arrays, reordered by one call each.
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

QUIET_FRAMES = 8  # scored together where nothing is said
_CALM_FRAMES = 2  # frames in a row in which nothing was emitted, before more are scored together
_MOST_OWN, _DISTINCT_FRAMES = 0.85, 8  # see BeamRun._own
_LOWEST = -1e300  # below every score that is possible
# Keys of hypotheses that there are not, and of what was before the first token: equal to no other.
_NO_KEY, _NO_KEY_BEFORE, _NOTHING_BEFORE = -3, -2, -1
_HASH_FACTOR = np.int64(6364136223846793005)  # Knuth's MMIX multiplier; int64 wraps around

# Columns of what is whole numbers: the row of the history, the hashes of the tokens with and
# without the last, the last token, the node of the trail, the latest frame with a token heard.
ROW, KEY, BEFORE, LAST, NODE, HEARD = range(6)
GAINED, REGRET = range(2)  # columns of what is not; see Guided


class BeamRun:
    """Decodes frames (B, T, J), of which ``lengths`` (B,) are real, from a state.

    Args:
        gap: hypotheses that are so many nats less probable than the best are dropped.
        confined: whether the histories know which texts may end.
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
        self._utterance = np.arange(batch)  # those that have frames left
        self._begin()
        self._at = np.zeros(batch, dtype=np.int64)  # the next frame of each
        self._left = 0  # frames that all of them have left
        self._calm = 0  # frames without a token, up to here
        self._distinct = 0  # frames for which histories are taken to be distinct
        self._ends = self._scores.copy(), self._marks.copy(), self._sums.copy()

    def _begin(self) -> None:
        """What does not change as long as no utterance ends."""
        rows, width = np.arange(len(self._utterance)), self._width
        self._base = np.repeat(rows * width, width)  # the first hypothesis of the utterance
        self._first_frame = self._utterance * self._frames.shape[1]
        self._shift = self._state.frames[self._utterance]  # the number of frame 0
        self._candidates: Scores = np.empty((len(rows) * width, self._histories.vocabulary))

    def decode(self) -> BeamState:
        """The state after all frames."""
        self._leave()
        while len(self._utterance):
            if self._calm >= _CALM_FRAMES:
                self._skip_quiet()
            else:
                self._frame()
            if self._left <= 0:
                self._leave()
        return self._ended()

    def _leave(self) -> None:
        """Put aside the utterances that have no frames left."""
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
            complete = self._histories.complete.take(marks[:, ROW], axis=0)
            floor = self._drop(candidates, floor, complete)
        beam = (batch, width)
        keys, before = marks[:, KEY].reshape(beam), marks[:, BEFORE].reshape(beam)
        merge(candidates, floor, marks[:, LAST], keys, before)
        indices, found = largest(flat, width)
        if self._confined and width > 1:
            keep_complete(flat, complete.reshape(flat.shape), indices, found)
        origin, token = np.divmod(indices.ravel(), candidates.shape[1])
        scores = found.ravel()
        none = (~(scores >= floor)).nonzero()[0]
        if len(none):
            scores[none], token[none] = NEVER, BLANK
        self._scores = scores
        self._follow(log_probs, origin, token)
        if len(none):
            self._marks[none, KEY], self._marks[none, BEFORE] = _NO_KEY, _NO_KEY_BEFORE

    def _drop(self, candidates: Scores, floor: Scores, complete: Flags) -> Scores:
        """Forbid candidates (N, V) below the floor (N,) of their utterance, in place; but a text
        that may end is an answer, whatever follows. Gives the floor that is left, which is none."""
        low = candidates < floor[:, None]
        low[:, BLANK] &= ~complete[:, BLANK]
        np.copyto(candidates, NEVER, where=low)
        return np.full(len(floor), _LOWEST)

    def _follow(self, log_probs: Floats, origin: Ids, token: Ids) -> None:
        """Let every hypothesis be what ``origin`` (N,) is after the frame's ``token`` (N,)."""
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
            heard = (spoken > stayed)[origin].nonzero()[0]
            marks[heard, HEARD] = number[heard // self._width]
        self._marks = marks
        self._at += 1
        self._left -= 1
        self._distinct = max(0, self._distinct - 1)
        self._calm = 0 if len(grown) else self._calm + 1

    def _skip_quiet(self) -> None:
        """Decode the next frames of every utterance as long as nothing but blank is within the
        gap, for every hypothesis that there is: then blanks are added, and nothing is chosen."""
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
            self._marks[:, HEARD] = np.maximum(self._marks[:, HEARD], latest)
        self._at += run
        self._left = 0
        if (run < QUIET_FRAMES).any():
            self._calm = 0

    def _quiet(self, log_probs: Floats, normalizer: Scores, stay: Scores, blank: Scores) -> Flags:
        """(B, F) whether blank alone is within the gap, for every hypothesis that there is.

        Args:
            log_probs: (N, F, V) as the scorer gave them.
            normalizer, blank: (N, F) of the penalty of blanks; log-probability of blank.
            stay: (N, F) scores if that frame and those before it are blank.
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
        """(N, count, V) log-probabilities of the next frames, under every hypothesis.

        Hypotheses of an utterance that share a history are scored once, and so are those that
        there are not: they are copies.
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
        """Which hypotheses have a history that none before them in the beam has; None if nearly
        all do, which is then taken for true for some frames: to score some twice costs little."""
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
        """Logarithm of the sum of all probabilities after blank's logit was lowered."""
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
                marks[:, HEARD].reshape(shape),
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
    """Whole numbers (N, 6) and others (N, 2) of the hypotheses of a state."""
    count = state.scores.size
    marks = np.zeros((count, 6), dtype=np.int64)
    sums = np.zeros((count, 2))
    context = state.context.reshape(count, -1)
    states = np.zeros((count, 0), dtype=np.int64)
    if state.guided is not None:
        states = state.guided.states.reshape(count, -1)
        sums[:, GAINED], sums[:, REGRET] = state.guided.gained.ravel(), state.guided.regret.ravel()
        marks[:, HEARD] = state.guided.heard.ravel()
    marks[:, ROW] = histories.rows(context, states)
    marks[:, KEY], marks[:, BEFORE] = state.keys.reshape(count, 2).T
    marks[:, LAST], marks[:, NODE] = context[:, -1], np.arange(count)
    marks[marks[:, LAST] == BLANK, BEFORE] = _NOTHING_BEFORE
    marks[state.scores.ravel() == NEVER, KEY : BEFORE + 1] = _NO_KEY, _NO_KEY_BEFORE
    return marks, sums
