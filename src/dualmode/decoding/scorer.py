"""What a search needs to know of a transducer: two methods."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

BLANK = 0  # the symbol that says "nothing more at this frame"


class Scorer(Protocol):
    """A stateless predictor and a joiner, seen from the search.

    The context of a hypothesis is its last ``context_tokens`` tokens, oldest first; an utterance
    starts with blanks.
    """

    @property
    def context_tokens(self) -> int:
        """Tokens that the predictor sees."""
        ...

    def predict(self, context: Tensor) -> Tensor:
        """Contexts (B, context_tokens) int64 -> predictions (B, J)."""
        ...

    def score(self, frames: Tensor, predictions: Tensor) -> Tensor:
        """Frames (B, J) and predictions (B, J) -> log-probabilities (B, V)."""
        ...
