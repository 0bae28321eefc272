"""An encoder whose latents are masked, the part that all models of pre-training share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.backbone import Backbone


class MaskedEncoder(Backbone):
    """A backbone with the vector that replaces masked latents."""

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__(model, pruning)
        self.hidden = nn.Parameter(torch.rand(model.width))

    def hide(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Replace latents (B, T, D) by one learnt vector where ``mask`` (B, T) is True."""
        return torch.where(mask[..., None], self.hidden.to(latents.dtype), latents)


def pick(sequence: Tensor, frames: Tensor) -> Tensor:
    """Select the elements (B, K, D) of a sequence (B, T, D) at ``frames`` (B, K)."""
    return sequence.gather(1, frames[..., None].expand(-1, -1, sequence.shape[-1]))
