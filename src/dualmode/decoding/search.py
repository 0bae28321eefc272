"""What every search offers: a state that is passed in and handed back, never hidden."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from dualmode.decoding.transcript import Token

State = TypeVar("State")


class Search(Protocol[State]):
    """Search over frames that arrive in pieces.

    Decoding a whole utterance is one ``advance`` from ``start``; decoding a stream is one
    ``advance`` for each piece of it. Both give the same tokens.
    """

    def start(self, batch: int, device: torch.device | str = "cpu") -> State:
        """The state before the first frame of ``batch`` utterances."""
        ...

    def advance(self, state: State, frames: Tensor, lengths: Tensor) -> State:
        """Decode frames (B, T, J), of which ``lengths`` (B,) are real; ``state`` is kept as is."""
        ...

    def best(self, state: State) -> list[tuple[Token, ...]]:
        """The best tokens so far, utterance by utterance."""
        ...

    def stable(self, state: State) -> list[int]:
        """How many tokens of :meth:`best` no later frame can change."""
        ...

    def commit(self, state: State, tokens: int) -> State:
        """Settle on the best hypothesis of a single stream and drop its first ``tokens`` tokens.

        What follows is decoded as if they were still there, and frames keep their count; but
        memory does not grow with what was dropped.
        """
        ...
