"""BEST-RQ (Chiu et al., arXiv 2202.01855) in supernet form; only its encoder is kept.

Targets are the codes of a frozen random quantiser of the mel frames. Predictions are computed from
the output of a subnet for latents with spans masked. All subnets share targets and masks.
"""

from __future__ import annotations

from torch import Tensor, nn

from dualmode.config import ModelConfig, PretrainingConfig, PruningConfig
from dualmode.model.masked import MaskedEncoder, pick
from dualmode.model.random_quantizer import RandomQuantizer


class BestRq(MaskedEncoder):
    """An encoder, a frozen quantiser of mel frames, and a classifier of its codes.

    Frames are masked where wav2vec 2.0 masks them, after the subsampling and by a learnt vector.
    The paper replaces mel frames by noise instead. Here a frame reads seven mel frames (15 if it
    lasts 80 ms), almost half of which the next frame reads too, so noise would also enter frames
    that are not masked; and the front end would learn from noise that recognisers never hear.

    Args:
        seed: of the quantiser.
    """

    def __init__(
        self, model: ModelConfig, pruning: PruningConfig, pretraining: PretrainingConfig, seed: int
    ) -> None:
        super().__init__(model, pruning)
        config = pretraining.random_quantizer
        self.quantizer = RandomQuantizer(config, self.encoder.framing, seed)
        self.classify = nn.Linear(model.width, config.codebooks * config.entries)
        self._codes = (config.codebooks, config.entries)

    def targets(self, features: Tensor, feature_lengths: Tensor, frames: Tensor) -> Tensor:
        """Codes (B, K, G) of mel frames (B, M, 80) at the encoder's ``frames`` (B, K)."""
        codes: Tensor = self.quantizer(features, feature_lengths, frames)
        return codes

    def logits(self, encoded: Tensor, frames: Tensor) -> Tensor:
        """Logits (B, K, G, E) from encoded frames (B, T, D), at ``frames`` (B, K)."""
        output: Tensor = self.classify(pick(encoded, frames))
        return output.view(*output.shape[:-1], *self._codes)
