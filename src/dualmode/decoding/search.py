"""What every search offers: a state that is passed in and handed back, never hidden."""

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

    def last_frames(self, state: State) -> list[int | None]:
        """The frame of the latest token that was heard, utterance by utterance."""
        ...

    def finish(self, state: State) -> State:
        """The state after the end of every utterance: what must not end there is dropped, and
        :meth:`best` is the answer."""
        ...

    def outcomes(self, state: State, count: int = 1) -> list[Outcome]:
        """The ``count`` best hypotheses of a finished state, utterance by utterance."""
        ...

    @property
    def confined(self) -> bool:
        """Whether a segment is one phrase, which must not be cut."""
        ...

    def commit(self, state: State, tokens: int, restart: bool = False) -> State:
        """Settle on the best hypothesis of a single stream and drop its first ``tokens`` tokens.

        What follows is decoded as if they were still there, and frames keep their count; but
        memory does not grow with what was dropped. With ``restart`` a new text begins for
        whatever knows the language.
        """
        ...

    def join(self, states: Sequence[State]) -> State:
        """One state of all utterances of several states, in their order."""
        ...

    def split(self, state: State) -> list[State]:
        """The state of each utterance alone."""
        ...
