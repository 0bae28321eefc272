"""The interface of searches, whose state is passed in and returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dualmode.decoding.outcome import Outcome
from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids

State = TypeVar("State")
SearchName = Literal["greedy", "beam"]
Scores = npt.NDArray[np.float64]


class Search(Protocol[State]):
    """A search over frames that arrive in pieces, in NumPy. It depends on a
    :class:`~dualmode.runtime.Scorer` only.

    Decoding a whole utterance is one ``advance`` from ``start``; decoding a stream is one
    ``advance`` for each piece of it. Both give the same tokens. A state contains B utterances or
    streams; states can be joined and split, so that many streams advance as a batch.
    """

    def start(self, batch: int) -> State:
        """The state before the first frame of ``batch`` utterances."""
        ...

    def advance(self, state: State, frames: Floats, lengths: Ids) -> State:
        """Decode frames (B, T, J) with ``lengths`` (B,); ``state`` is not modified."""
        ...

    def best(self, state: State) -> list[tuple[Token, ...]]:
        """The best tokens of each utterance so far."""
        ...

    def stable(self, state: State) -> list[int]:
        """Number of leading tokens of :meth:`best` that no later frame can change."""
        ...

    def last_frames(self, state: State) -> list[int | None]:
        """The frame of the latest token of each utterance, or None."""
        ...

    def finish(self, state: State) -> State:
        """The state after the end of every utterance, without hypotheses that must not end there;
        :meth:`best` is the result."""
        ...

    def outcomes(self, state: State, count: int = 1) -> list[Outcome]:
        """The ``count`` best hypotheses of each utterance of a finished state."""
        ...

    @property
    def confined(self) -> bool:
        """Whether a segment is one phrase, which must not be divided."""
        ...

    def commit(self, state: State, tokens: int, restart: bool = False) -> State:
        """Commit to the best hypothesis of a single stream and drop its first ``tokens`` tokens.

        Later frames are decoded as if the tokens were still present, and frames keep their
        numbers, but the memory of dropped tokens is freed. With ``restart``, a new text begins for
        language parts.
        """
        ...

    def join(self, states: Sequence[State]) -> State:
        """Concatenate the utterances of several states, in order."""
        ...

    def split(self, state: State) -> list[State]:
        """Split into one state per utterance."""
        ...
