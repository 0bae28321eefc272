"""An encoder with a classifier of phones on top; only the encoder is kept."""

from __future__ import annotations

from torch import Tensor, nn

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.backbone import Backbone


class PhoneClassifier(Backbone):
    """A backbone with one linear classifier for each of the times in a frame.

    Args:
        phones: number of phones, P.
        targets: times in a frame, G.
    """

    def __init__(
        self, model: ModelConfig, pruning: PruningConfig, phones: int, targets: int
    ) -> None:
        super().__init__(model, pruning)
        self.classify = nn.Linear(model.width, targets * phones)
        self._shape = (targets, phones)

    def logits(self, encoded: Tensor) -> Tensor:
        """Logits (B, T, G, P) of the phones in encoded frames (B, T, D)."""
        output: Tensor = self.classify(encoded)
        return output.view(*output.shape[:-1], *self._shape)
