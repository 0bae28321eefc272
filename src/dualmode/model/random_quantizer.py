"""The random-projection quantiser, whose codes are the targets of BEST-RQ.

Nothing in it is trained: mel frames are projected at random, and the code of a frame is the nearest
of random codewords (Chiu et al., arXiv 2202.01855).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.config import RandomQuantizerConfig
from dualmode.features import MELS, Framing

_LEAST_DEVIATION = 1e-3  # of a mel bin in an utterance, in nats


class RandomQuantizer(nn.Module):
    """G random projections of stacked mel frames to Q values, with E random codewords each.

    Both are buffers, so they are stored with the model and receive no gradient. They depend on the
    seed and the configuration only.

    Args:
        framing: of the encoder.
    """

    projections: Tensor
    codewords: Tensor

    def __init__(self, config: RandomQuantizerConfig, framing: Framing, seed: int) -> None:
        super().__init__()
        self.framing, self.stacked = framing, config.stacked_mels
        inputs, width = MELS * config.stacked_mels, config.width
        generator = torch.Generator().manual_seed(seed)
        # The paper's initialisation: Xavier for the projection, normal for the codewords.
        reach = (6 / (inputs + width)) ** 0.5
        shape = (config.codebooks, inputs, width)
        self.register_buffer(
            "projections", reach * (2 * torch.rand(shape, generator=generator) - 1)
        )
        codewords = torch.randn(config.codebooks, config.entries, width, generator=generator)
        self.register_buffer("codewords", F.normalize(codewords, dim=-1))

    @torch.no_grad()
    def forward(self, mels: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
        """Codes (B, K, G) int64 of the encoder's frames ``frames`` (B, K).

        Mel frames (B, M, 80) of ``lengths`` (B,) are normalised in each utterance, by bin, and in
        each stack. Otherwise loudness and microphone alone would decide on most of the codes. The
        stack of a frame is the middle of what the subsampling reads for it.
        """
        unread = self.framing.reach_mels - self.stacked
        first = self.framing.stride_mels * frames + unread // 2
        index = first[..., None] + torch.arange(self.stacked, device=mels.device)
        rows = torch.arange(len(mels), device=mels.device)[:, None, None]
        with torch.autocast(mels.device.type, enabled=False):  # bfloat16 would change the nearest
            normal = _normalised(mels.float(), lengths)
            stacks = normal[rows, index.clamp_max(mels.shape[1] - 1)].flatten(2)
            stacks = F.layer_norm(stacks, stacks.shape[-1:])
            projected = F.normalize(torch.einsum("bki,giw->bkgw", stacks, self.projections), dim=-1)
            # Of unit vectors, the nearest has the greatest cosine.
            return torch.einsum("bkgw,gew->bkge", projected, self.codewords).argmax(dim=-1)


def _normalised(mels: Tensor, lengths: Tensor) -> Tensor:
    """Mel frames (B, M, 80) with mean 0 and deviation 1 in each bin of each utterance."""
    index = torch.arange(mels.shape[1], device=mels.device)
    valid = (index < lengths[:, None]).float()[..., None]
    counts = valid.sum(dim=1, keepdim=True).clamp_min(1)
    centred = mels - (mels * valid).sum(dim=1, keepdim=True) / counts
    squares = (centred.square() * valid).sum(dim=1, keepdim=True) / counts
    return centred / squares.sqrt().clamp_min(_LEAST_DEVIATION)
