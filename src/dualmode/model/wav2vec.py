"""wav2vec 2.0 (Baevski et al., arXiv 2006.11477) in supernet form; only its encoder is kept.

Targets are quantised, unmasked latents. Predictions are the output of a subnet for the same
latents with spans masked. All subnets share the targets.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.config import ModelConfig, PretrainingConfig, PruningConfig
from dualmode.model.masked import MaskedEncoder, pick
from dualmode.model.quantizer import Codes, Quantizer


class Wav2Vec(MaskedEncoder):
    """An encoder, a quantizer of its latents, and projections for comparing the two."""

    def __init__(
        self, model: ModelConfig, pruning: PruningConfig, pretraining: PretrainingConfig
    ) -> None:
        super().__init__(model, pruning)
        self.quantizer = Quantizer(
            model.width, pretraining.codebooks, pretraining.entries, pretraining.code_width
        )
        self.from_frames = nn.Linear(model.width, pretraining.projection_width)
        self.from_codes = nn.Linear(pretraining.code_width, pretraining.projection_width)

    def quantize(
        self, latents: Tensor, frames: Tensor, noise: Tensor | None, temperature: float
    ) -> Codes:
        """Normalise and quantise latents (B, T, D) at ``frames`` (B, K) to codes (B, K, ...)."""
        chosen = pick(latents, frames)
        return self.quantizer(  # type: ignore[no-any-return]
            F.layer_norm(chosen, chosen.shape[-1:]), noise, temperature
        )

    def targets(self, codes: Codes) -> Tensor:
        """Project codes to targets (B, K, P)."""
        output: Tensor = self.from_codes(codes.vectors)
        return output

    def predictions(self, encoded: Tensor, frames: Tensor) -> Tensor:
        """Predictions (B, K, P) from encoded frames (B, T, D), at ``frames`` (B, K)."""
        output: Tensor = self.from_frames(pick(encoded, frames))
        return output
