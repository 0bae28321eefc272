"""What every search offers: a state that is passed in and handed back, never hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids

State = TypeVar("State")
SearchName = Literal["greedy", "beam"]


class Search(Protocol[State]):
    """Search over frames that arrive in pieces, in NumPy: it knows nothing of a model but a
    :class:`~dualmode.runtime.Scorer`.

    Decoding a whole utterance is one ``advance`` from ``start``; decoding a stream is one
    ``advance`` for each piece of it. Both give the same tokens. A state holds B utterances or
    streams; states can be joined and split, so many streams advance together.
    """

    def start(self, batch: int) -> State:
        """The state before the first frame of ``batch`` utterances."""
        ...

    def advance(self, state: State, frames: Floats, lengths: Ids) -> State:
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

    def join(self, states: Sequence[State]) -> State:
        """One state of all utterances of several states, in their order."""
        ...

    def split(self, state: State) -> list[State]:
        """The state of each utterance alone."""
        ...
