"""Greedy search, batched, for whole utterances and for streams.

The predictor's output changes only when a token is emitted, so a block of frames is scored at
once under the same prediction and searched for its first token (label looping: Bataev et al.,
"Label-looping: highly efficient decoding for transducers", 2024). The number of calls follows
the number of tokens, not of frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dualmode.decoding.scorer import BLANK, Scorer
from dualmode.decoding.transcript import Token

BLOCK_FRAMES = 8  # scored together: more wastes scores after a token, fewer costs more calls


@dataclass(frozen=True)
class GreedyState:
    """One hypothesis for each of B utterances. A search never writes into a state.

    Attributes:
        context: (B, context_tokens) last tokens.
        predictions: (B, J) what the predictor makes of them.
        frames: frames decoded so far, by utterance.
        tokens: tokens emitted so far, by utterance.
    """

    context: Tensor
    predictions: Tensor
    frames: tuple[int, ...]
    tokens: tuple[tuple[Token, ...], ...]


@dataclass(frozen=True)
class GreedySearch:
    """At every frame take the best symbol, until it is blank or ``max_symbols`` were taken."""

    scorer: Scorer
    max_symbols: int = 3

    def __post_init__(self) -> None:
        if self.max_symbols < 1:
            raise ValueError(f"max_symbols must be at least 1, not {self.max_symbols}")

    @torch.inference_mode()
    def start(self, batch: int, device: torch.device | str = "cpu") -> GreedyState:
        """The state before the first frame of ``batch`` utterances."""
        shape = (batch, self.scorer.context_tokens)
        context = torch.full(shape, BLANK, dtype=torch.int64, device=device)
        predictions = self.scorer.predict(context)
        return GreedyState(context, predictions, (0,) * batch, ((),) * batch)

    @torch.inference_mode()
    def advance(self, state: GreedyState, frames: Tensor, lengths: Tensor) -> GreedyState:
        """Decode frames (B, T, J), of which ``lengths`` (B,) are real; ``state`` is kept as is."""
        limits: list[int] = lengths.tolist()
        cursor = _Cursor(limits, self.max_symbols)
        context, predictions = state.context.clone(), state.predictions.clone()
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
        """The tokens so far, utterance by utterance."""
        return list(state.tokens)

    def stable(self, state: GreedyState) -> list[int]:
        """All of them: greedy search never takes a token back."""
        return [len(tokens) for tokens in state.tokens]

    def commit(self, state: GreedyState, tokens: int) -> GreedyState:
        """Drop the first ``tokens`` tokens of a single stream; see :class:`Search`."""
        return replace(state, tokens=(state.tokens[0][tokens:],))

    def _first_tokens(
        self, frames: Tensor, predictions: Tensor, rows: list[int], cursor: _Cursor
    ) -> tuple[list[int], list[int], list[float]]:
        """For each row, how many of the next frames are blank (at most a block), then what follows.

        Frames past an utterance's end are scored too; the caller ignores them.
        """
        device = frames.device
        row = torch.tensor(rows, device=device).unsqueeze(1)
        start = torch.tensor([cursor.position[r] for r in rows], device=device).unsqueeze(1)
        ahead = torch.arange(BLOCK_FRAMES, device=device)
        block = frames[row, (start + ahead).clamp_(max=frames.shape[1] - 1)]
        given = predictions[row].expand(-1, BLOCK_FRAMES, -1)
        scores = self.scorer.score(block.flatten(0, 1), given.flatten(0, 1))
        log_prob, token = scores.view(*block.shape[:2], -1).max(dim=-1)
        emits = token != BLANK
        # argmax of booleans finds the first True; a column of True stands for "none in the block".
        first = torch.cat([emits, emits.new_ones(len(rows), 1)], dim=1).int().argmax(dim=1)
        at = first.clamp(max=BLOCK_FRAMES - 1).unsqueeze(1)
        return (
            first.tolist(),
            token.gather(1, at).squeeze(1).tolist(),
            log_prob.gather(1, at).squeeze(1).tolist(),
        )

    def _extend(
        self, context: Tensor, predictions: Tensor, emitting: list[tuple[int, int]]
    ) -> None:
        rows = torch.tensor([row for row, _ in emitting], device=context.device)
        symbols = torch.tensor([symbol for _, symbol in emitting], device=context.device)
        longer = torch.cat([context[rows, 1:], symbols.unsqueeze(1)], dim=1)
        context[rows] = longer
        predictions[rows] = self.scorer.predict(longer)


class _Cursor:
    """Where each utterance stands, and how many symbols it took at that frame."""

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
        """Stay at the frame that emitted for more, unless it reached the limit."""
        self._symbols[row] = self._symbols[row] + 1 if frame == self.position[row] else 1
        self.position[row] = frame
        if self._symbols[row] == self._max_symbols:
            self.position[row] += 1
            self._symbols[row] = 0
