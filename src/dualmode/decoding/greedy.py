"""Greedy search, batched, for whole utterances and for streams.

The predictor's output changes only when a token is emitted, so a block of frames is scored at
once under the same prediction and searched for its first token (label looping: Bataev et al.,
"Label-looping: highly efficient decoding for transducers", 2024). The number of calls follows
the number of tokens, not of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dualmode.decoding.outcome import Hypothesis, Outcome
from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK

BLOCK_FRAMES = 8  # frames scored together: more wastes scores after a token, fewer needs more calls


@dataclass(frozen=True)
class GreedyState:
    """One hypothesis for each of B utterances. A search never modifies a state.

    Attributes:
        context: (B, context_tokens) last tokens.
        predictions: (B, J) the predictor's output for them.
        frames: number of frames decoded so far, for each utterance.
        tokens: tokens emitted so far, for each utterance.
    """

    context: Ids
    predictions: Floats
    frames: tuple[int, ...]
    tokens: tuple[tuple[Token, ...], ...]


@dataclass(frozen=True)
class GreedySearch:
    """Emits the best symbol of a frame until it is blank or ``max_symbols`` were emitted.

    ``blank_penalty`` is subtracted from the log-probability of blank when symbols are compared,
    for transducers that delete words; confidences are computed without it.
    """

    scorer: Scorer
    max_symbols: int = 3
    blank_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.max_symbols < 1:
            raise ValueError(f"max_symbols must be at least 1, not {self.max_symbols}")

    def start(self, batch: int) -> GreedyState:
        """The state before the first frame of ``batch`` utterances."""
        context = np.full((batch, self.scorer.context_tokens), BLANK, dtype=np.int64)
        return GreedyState(context, self.scorer.predict(context), (0,) * batch, ((),) * batch)

    def advance(self, state: GreedyState, frames: Floats, lengths: Ids) -> GreedyState:
        """Decode frames (B, T, J) with ``lengths`` (B,); ``state`` is not modified."""
        limits: list[int] = lengths.tolist()
        cursor = _Cursor(limits, self.max_symbols)
        context, predictions = state.context.copy(), state.predictions.copy()
        emitted: list[list[Token]] = [[] for _ in limits]
        rows = cursor.unfinished()
        while rows:
            first, token, log_prob = self._first_tokens(frames, predictions, rows, cursor)
            emitting = []
            for row, skip, symbol, value in zip(rows, first, token, log_prob, strict=True):
                frame = cursor.position[row] + skip
                if skip == BLOCK_FRAMES or frame >= limits[row]:
                    cursor.blank_until(row, frame)
                    continue
                emitted[row].append(Token(symbol, state.frames[row] + frame, value))
                cursor.emitted_at(row, frame)
                emitting.append((row, symbol))
            if emitting:
                self._extend(context, predictions, emitting)
            rows = cursor.unfinished()
        return GreedyState(
            context,
            predictions,
            tuple(done + new for done, new in zip(state.frames, limits, strict=True)),
            tuple(
                old + tuple(new) if new else old
                for old, new in zip(state.tokens, emitted, strict=True)
            ),
        )

    def best(self, state: GreedyState) -> list[tuple[Token, ...]]:
        """The tokens of each utterance so far."""
        return list(state.tokens)

    def stable(self, state: GreedyState) -> list[int]:
        """All tokens are stable: greedy search never retracts a token."""
        return [len(tokens) for tokens in state.tokens]

    def last_frames(self, state: GreedyState) -> list[int | None]:
        """The frame of the latest token, utterance by utterance."""
        return [tokens[-1].frame if tokens else None for tokens in state.tokens]

    def finish(self, state: GreedyState) -> GreedyState:
        """Return the state: any text may end."""
        return state

    def outcomes(self, state: GreedyState, count: int = 1) -> list[Outcome]:
        """The only hypothesis of each utterance; its score is not kept."""
        nan = float("nan")
        return [Outcome((Hypothesis(tokens, nan, nan),)) for tokens in state.tokens]

    @property
    def confined(self) -> bool:
        """Never."""
        return False

    def commit(self, state: GreedyState, tokens: int, restart: bool = False) -> GreedyState:
        """Drop the first ``tokens`` tokens of a single stream; see :class:`Search`."""
        return replace(state, tokens=(state.tokens[0][tokens:],))

    def join(self, states: Sequence[GreedyState]) -> GreedyState:
        """One state of all utterances; see :class:`Search`."""
        if len(states) == 1:
            return states[0]
        return GreedyState(
            np.concatenate([state.context for state in states]),
            np.concatenate([state.predictions for state in states]),
            tuple(count for state in states for count in state.frames),
            tuple(tokens for state in states for tokens in state.tokens),
        )

    def split(self, state: GreedyState) -> list[GreedyState]:
        """The state of each utterance; see :class:`Search`."""
        return [
            GreedyState(
                state.context[row : row + 1].copy(),
                state.predictions[row : row + 1].copy(),
                state.frames[row : row + 1],
                state.tokens[row : row + 1],
            )
            for row in range(len(state.frames))
        ]

    def _first_tokens(
        self, frames: Floats, predictions: Floats, rows: list[int], cursor: _Cursor
    ) -> tuple[list[int], list[int], list[float]]:
        """For each row, the number of blank frames (at most a block) and the symbol after them.

        Frames beyond the end of an utterance are scored too; the caller ignores them.
        """
        row = np.array(rows)[:, None]
        start = np.array([cursor.position[r] for r in rows])[:, None]
        at = np.minimum(start + np.arange(BLOCK_FRAMES), frames.shape[1] - 1)
        block = frames[row, at].reshape(-1, frames.shape[2])
        given = np.repeat(predictions[rows], BLOCK_FRAMES, axis=0)
        log_probs = self.scorer.score(block, given)
        if self.blank_penalty:
            compared = log_probs.copy()
            compared[:, BLANK] -= self.blank_penalty
            token = compared.argmax(axis=1)
        else:
            token = log_probs.argmax(axis=1)
        emits = (token != BLANK).reshape(len(rows), BLOCK_FRAMES)
        first = np.where(emits.any(axis=1), emits.argmax(axis=1), BLOCK_FRAMES)
        chosen = np.minimum(first, BLOCK_FRAMES - 1) + BLOCK_FRAMES * np.arange(len(rows))
        return first.tolist(), token[chosen].tolist(), log_probs[chosen, token[chosen]].tolist()

    def _extend(self, context: Ids, predictions: Floats, emitting: list[tuple[int, int]]) -> None:
        rows = [row for row, _ in emitting]
        symbols = np.array([symbol for _, symbol in emitting], dtype=np.int64)
        longer = np.concatenate([context[rows, 1:], symbols[:, None]], axis=1)
        context[rows] = longer
        predictions[rows] = self.scorer.predict(longer)


class _Cursor:
    """The current frame of each utterance, and the number of symbols emitted there."""

    def __init__(self, limits: list[int], max_symbols: int) -> None:
        self.position = [0] * len(limits)
        self._symbols = [0] * len(limits)
        self._limits = limits
        self._max_symbols = max_symbols

    def unfinished(self) -> list[int]:
        return [row for row, at in enumerate(self.position) if at < self._limits[row]]

    def blank_until(self, row: int, frame: int) -> None:
        self.position[row] = frame
        self._symbols[row] = 0

    def emitted_at(self, row: int, frame: int) -> None:
        """Stay at a frame that emitted a symbol, unless it has reached the limit."""
        self._symbols[row] = self._symbols[row] + 1 if frame == self.position[row] else 1
        self.position[row] = frame
        if self._symbols[row] == self._max_symbols:
            self.position[row] += 1
            self._symbols[row] = 0
