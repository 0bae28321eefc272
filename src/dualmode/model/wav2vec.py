"""wav2vec 2.0 in supernet form: a model to be pre-trained, of which the encoder is kept.

Baevski et al., arXiv 2006.11477. Targets are quantised latents, seen unmasked; predictions are
what a subnet makes of the same latents with spans hidden. Every subnet has the same targets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.config import ModelConfig, PretrainingConfig, PruningConfig
from dualmode.model.backbone import Backbone
from dualmode.model.quantizer import Codes, Quantizer


class Wav2Vec(Backbone):
    """An encoder, a quantizer of its latents, and projections in which the two compare."""

    def __init__(
        self, model: ModelConfig, pruning: PruningConfig, pretraining: PretrainingConfig
    ) -> None:
        super().__init__(model, pruning)
        self.hidden = nn.Parameter(torch.rand(model.width))
        self.quantizer = Quantizer(
            model.width, pretraining.codebooks, pretraining.entries, pretraining.code_width
        )
        self.from_frames = nn.Linear(model.width, pretraining.projection_width)
        self.from_codes = nn.Linear(pretraining.code_width, pretraining.projection_width)

    def hide(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Put one learnt vector in the place of latents (B, T, D) where ``mask`` (B, T)."""
        return torch.where(mask[..., None], self.hidden.to(latents.dtype), latents)

    def quantize(
        self, latents: Tensor, frames: Tensor, noise: Tensor | None, temperature: float
    ) -> Codes:
        """Codes (B, K, ...) of the latents (B, T, D) at ``frames`` (B, K), normalised first."""
        chosen = pick(latents, frames)
        return self.quantizer(  # type: ignore[no-any-return]
            F.layer_norm(chosen, chosen.shape[-1:]), noise, temperature
        )

    def targets(self, codes: Codes) -> Tensor:
        """Targets (B, K, P) that codes stand for."""
        output: Tensor = self.from_codes(codes.vectors)
        return output

    def predictions(self, encoded: Tensor, frames: Tensor) -> Tensor:
        """Predictions (B, K, P) from encoded frames (B, T, D), at ``frames`` (B, K)."""
        output: Tensor = self.from_frames(pick(encoded, frames))
        return output


def pick(sequence: Tensor, frames: Tensor) -> Tensor:
    """(B, K, D): of a sequence (B, T, D), those at ``frames`` (B, K)."""
    return sequence.gather(1, frames[..., None].expand(-1, -1, sequence.shape[-1]))
