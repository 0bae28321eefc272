"""Modified beam search, batched over utterances and beams, for whole utterances and for streams.

A frame emits at most one symbol (Kang et al., "Fast and parallel decoding for transducer",
arXiv 2211.00484). The probability of a token sequence is the sum over the frames that may have
emitted its tokens: before the best are chosen, a hypothesis that was extended joins one that
already holds the same tokens, by log-add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_HASH_FACTOR = np.int64(6364136223846793005)  # Knuth's MMIX multiplier; int64 wraps around
_NEVER = -np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """A token, and what the hypothesis had emitted before it. Hypotheses share their past."""

    before: Emitted | None
    token: Token


Pasts = npt.NDArray[Any]  # of Emitted | None


@dataclass(frozen=True)
class BeamState:
    """K hypotheses for each of B utterances, best first. A search never writes into a state.

    Attributes:
        scores: (B, K) log-probabilities; -inf where there is no hypothesis (yet).
        context: (B, K, context_tokens) last tokens.
        predictions: (B, K, J) the predictor's output for them.
        keys: (B, K, 2) int64 hashes of the tokens, and of all tokens but the last.
        frames: (B,) frames decoded so far.
        past: (B, K) the last :class:`Emitted` of each, or None.
    """

    scores: Scores
    context: Ids
    predictions: Floats
    keys: Ids
    frames: Ids
    past: Pasts


@dataclass(frozen=True)
class BeamSearch:
    """Keep the ``width`` most probable token sequences, one symbol a frame.

    ``blank_penalty`` is subtracted from blank's logit when hypotheses are compared; the
    confidences of tokens are taken without it.
    """

    scorer: Scorer
    width: int = 4
    blank_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")

    def start(self, batch: int) -> BeamState:
        """The state before the first frame of ``batch`` utterances."""
        shape = (batch, self.width)
        scores = np.full(shape, _NEVER)
        scores[:, 0] = 0.0
        context = np.full((*shape, self.scorer.context_tokens), BLANK, dtype=np.int64)
        predictions = self.scorer.predict(context.reshape(batch * self.width, -1))
        return BeamState(
            scores,
            context,
            predictions.reshape(*shape, -1),
            np.zeros((*shape, 2), dtype=np.int64),
            np.zeros(batch, dtype=np.int64),
            np.full(shape, None, dtype=object),
        )

    def advance(self, state: BeamState, frames: Floats, lengths: Ids) -> BeamState:
        """Decode frames (B, T, J), of which ``lengths`` (B,) are real; ``state`` is kept as is."""
        start = state.frames
        for at in range(int(lengths.max(initial=0))):
            alive = lengths > at
            state = self._frame(state, frames[:, at], alive)
            state = replace(state, frames=state.frames + alive)
        return replace(state, frames=start + lengths)

    def best(self, state: BeamState) -> list[tuple[Token, ...]]:
        """The most probable tokens so far, utterance by utterance."""
        return [_tokens(past) for past in state.past[:, 0]]

    def stable(self, state: BeamState) -> list[int]:
        """How many tokens of :meth:`best` all hypotheses share."""
        return [
            _shared([_tokens(past) for past in pasts[scores > _NEVER]])
            for pasts, scores in zip(state.past, state.scores, strict=True)
        ]

    def commit(self, state: BeamState, tokens: int) -> BeamState:
        """Keep only the best hypothesis of a single stream; see :class:`Search`."""
        past: Emitted | None = None
        for token in self.best(state)[0][tokens:]:
            past = Emitted(past, token)
        # Copies of the best: only the first is alive, the others wait at -inf.
        first = np.zeros((1, self.width), dtype=np.int64)
        scores = np.full((1, self.width), _NEVER)
        scores[0, 0] = 0.0
        pasts = np.full((1, self.width), None, dtype=object)
        pasts[0, 0] = past
        return BeamState(
            scores,
            _pick(state.context, first),
            _pick(state.predictions, first),
            _pick(state.keys, first),
            state.frames,
            pasts,
        )

    def join(self, states: Sequence[BeamState]) -> BeamState:
        """One state of all utterances; see :class:`Search`."""
        if len(states) == 1:
            return states[0]
        names = [field.name for field in fields(BeamState)]
        return BeamState(*(np.concatenate([getattr(s, name) for s in states]) for name in names))

    def split(self, state: BeamState) -> list[BeamState]:
        """The state of each utterance; see :class:`Search`."""
        arrays = [getattr(state, field.name) for field in fields(BeamState)]
        return [
            BeamState(*(array[row : row + 1].copy() for array in arrays))
            for row in range(len(state.frames))
        ]

    def _frame(self, state: BeamState, frames: Floats, alive: Flags) -> BeamState:
        """Decode one frame (B, J) of the utterances that are ``alive`` (B,)."""
        batch, width = state.scores.shape
        given = state.predictions.reshape(batch * width, -1)
        log_probs = self.scorer.score(np.repeat(frames, width, axis=0), given)
        log_probs = log_probs.reshape(batch, width, -1)
        scores, origin, token = self._choose(state, self._penalized(log_probs), alive[:, None])
        rows = np.arange(batch)[:, None]
        past = state.past[rows, origin]
        for row, column in zip(*np.nonzero(token != BLANK), strict=True):
            symbol = int(token[row, column])
            log_prob = float(log_probs[row, origin[row, column], symbol])
            emitted = Token(symbol, int(state.frames[row]), log_prob)
            past[row, column] = Emitted(past[row, column], emitted)
        context, predictions, keys = self._extend(state, origin, token)
        return BeamState(scores, context, predictions, keys, state.frames, past)

    def _penalized(self, log_probs: Floats) -> Scores:
        """Log-probabilities (..., V) after blank's logit was lowered, normalised again."""
        scores = log_probs.astype(np.float64)
        if self.blank_penalty:
            blank = np.exp(scores[..., BLANK])
            scores[..., BLANK] -= self.blank_penalty
            scores -= np.log1p(blank * np.expm1(-self.blank_penalty))[..., None]
        return scores

    def _choose(self, state: BeamState, log_probs: Scores, alive: Flags) -> tuple[Scores, Ids, Ids]:
        """Extend hypotheses by a frame and keep the best.

        Args:
            log_probs: (B, K, V) of the frame.
            alive: (B, 1) whether the utterance has this frame.
        Returns:
            (B, K) new scores, which hypothesis each extends, and by what.
        """
        last = state.context[..., -1]
        candidates = state.scores[..., None] + log_probs
        joined = _merge(candidates, state.scores, last, state.keys)
        flat = candidates.reshape(len(candidates), -1)
        index = _largest(flat, self.width)
        origin, token = np.divmod(index, log_probs.shape[2])
        rows = np.arange(len(flat))[:, None]
        # A merged hypothesis keeps the history of whichever of the two was more probable.
        source = joined[rows, origin]
        merged = (token == BLANK) & (source >= 0)
        token = np.where(merged, last[rows, origin], token)
        origin = np.where(merged, source, origin)
        return (
            np.where(alive, flat[rows, index], state.scores),
            np.where(alive, origin, np.arange(self.width)),
            np.where(alive, token, BLANK),
        )

    def _extend(self, state: BeamState, origin: Ids, token: Ids) -> tuple[Ids, Floats, Ids]:
        context, predictions = _pick(state.context, origin), _pick(state.predictions, origin)
        keys = _pick(state.keys, origin)
        grown = token != BLANK
        if grown.any():
            symbols, earlier = token[grown], keys[grown][:, 0]
            context[grown] = np.concatenate([context[grown][:, 1:], symbols[:, None]], axis=1)
            predictions[grown] = self.scorer.predict(context[grown])
            keys[grown] = np.stack([earlier * _HASH_FACTOR + symbols + 1, earlier], axis=1)
        return context, predictions, keys


def _merge(candidates: Scores, scores: Scores, last: Ids, keys: Ids) -> Ids:
    """Join "g extended by v" to "h and blank" where both hold the same tokens.

    There is at most one such g for an h, as hypotheses differ from each other. Candidates
    (B, K, V) are changed in place: h's blank gets the joined probability and g's v none.

    Returns:
        (B, K) which g made h's blank more probable than h itself did, or -1.
    """
    alive = scores > _NEVER
    same = (keys[:, :, None, 1] == keys[:, None, :, 0]) & (last != BLANK)[:, :, None]
    same &= alive[:, :, None] & alive[:, None, :]
    joined = np.full(scores.shape, -1)
    for row, h in zip(*np.nonzero(same.any(axis=2)), strict=True):
        g = int(same[row, h].argmax())
        extended = candidates[row, g, last[row, h]]
        stayed = candidates[row, h, BLANK]
        if extended > stayed:
            joined[row, h] = g
        candidates[row, h, BLANK] = np.logaddexp(stayed, extended)
        candidates[row, g, last[row, h]] = _NEVER
    return joined


def _largest(values: Scores, count: int) -> Ids:
    """Columns (B, count) of the largest of values (B, X), largest first; ties by column."""
    split = values.shape[1] - count
    chosen = np.sort(np.argpartition(values, split, axis=1)[:, split:], axis=1)
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1, kind="stable")
    largest: Ids = np.take_along_axis(chosen, order, axis=1)
    return largest


def _pick(values: npt.NDArray[Any], origin: Ids) -> npt.NDArray[Any]:
    """Values (B, K, D) of the hypotheses ``origin`` (B, K)."""
    picked: npt.NDArray[Any] = values[np.arange(len(values))[:, None], origin]
    return picked


def _tokens(past: Emitted | None) -> tuple[Token, ...]:
    """All tokens of a hypothesis, oldest first."""
    tokens = []
    while past is not None:
        tokens.append(past.token)
        past = past.before
    return tuple(reversed(tokens))


def _shared(hypotheses: list[tuple[Token, ...]]) -> int:
    """How many tokens all hypotheses begin with."""
    shared = 0
    for column in zip(*([token.id for token in tokens] for tokens in hypotheses), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared
