"""The part that all supernets share: an encoder and its subnets."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dualmode.config import ModelConfig, PruningConfig
from dualmode.errors import SubnetError
from dualmode.model.encoder import Encoder
from dualmode.model.layers import ActiveWeights
from dualmode.model.masks import PrunableLinear, prunable
from dualmode.model.subnet import Subnet


class Backbone(nn.Module):
    """An encoder that runs any ``Subnet``. With heads on top it becomes a recogniser or a
    pre-training model.

    Args:
        model, pruning: sections of the recipe.
    """

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        self.pruning = pruning
        self.encoder = Encoder(model, pruning)

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Target sparsities for which there are masks."""
        return self.pruning.sparsities

    def prunable(self) -> list[PrunableLinear]:
        """The linear maps that have masks, in a fixed order."""
        return list(prunable(self.encoder).values())

    def active_weights(self, subnet: Subnet) -> ActiveWeights:
        """The mask and norms that ``subnet`` uses.

        Raises:
            SubnetError: there is no mask for its sparsity.
        """
        norm = int(subnet.streams)
        if subnet.sparsity == 0.0:
            return ActiveWeights(None, norm)
        for index, target in enumerate(self.sparsities):
            if math.isclose(target, subnet.sparsity, abs_tol=1e-6):
                return ActiveWeights(index, norm)
        held = ", ".join(f"{s:g}" for s in (0.0, *self.sparsities))
        raise SubnetError(
            f"the model has no masks for sparsity {subnet.sparsity:g}; it was trained with {held}"
        )

    def latents(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample mel frames (B, M, 80) to latents (B, T, D) and their lengths (B,).

        Latents are the same for all subnets, so a training step computes them once.
        """
        lengths = self.encoder.framing.frame_counts(feature_lengths)
        return self.encoder.subsampling(features), lengths

    def encode(self, latents: Tensor, frame_lengths: Tensor, subnet: Subnet) -> Tensor:
        """Encode latents (B, T, D) with ``subnet`` to frames (B, T, D), zero beyond the lengths."""
        output: Tensor = self.encoder(
            latents, frame_lengths, subnet.context, self.active_weights(subnet)
        )
        return output

    def forward(
        self, features: Tensor, feature_lengths: Tensor, subnet: Subnet
    ) -> tuple[Tensor, Tensor]:
        """Map mel frames (B, M, 80) with ``subnet`` to frames (B, T, D) and their lengths (B,)."""
        latents, lengths = self.latents(features, feature_lengths)
        return self.encode(latents, lengths, subnet), lengths
