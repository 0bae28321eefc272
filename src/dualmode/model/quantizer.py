"""Product quantisation with Gumbel softmax, the targets of wav2vec 2.0.

Each codebook contributes one of its codewords; the code of a latent is their concatenation
(Jegou et al., 2011; Jang et al., arXiv 1611.01144; Baevski et al., arXiv 1910.05453).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Codes(NamedTuple):
    """Quantised latents.

    Attributes:
        vectors: (..., Q) codewords of all codebooks, concatenated.
        entries: (..., G) int64, index of the codeword in each codebook.
        probabilities: (..., G, E) of each codeword, without noise.
    """

    vectors: Tensor
    entries: Tensor
    probabilities: Tensor


class Quantizer(nn.Module):
    """G codebooks of E codewords, Q / G wide.

    Args:
        width: D, of latents.
        codebooks, entries, code_width: G, E and Q.
    """

    def __init__(self, width: int, codebooks: int, entries: int, code_width: int) -> None:
        super().__init__()
        self.codebooks, self.entries = codebooks, entries
        self.score = nn.Linear(width, codebooks * entries)
        # Far apart initially, so that the first codes already distinguish latents.
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.codewords = nn.Parameter(torch.rand(codebooks, entries, code_width // codebooks))

    def forward(self, latents: Tensor, noise: Tensor | None, temperature: float) -> Codes:
        """Quantise latents (..., D).

        Args:
            noise: (..., G, E) Gumbel noise for sampling a codeword, with a straight-through
                gradient to the scores; None selects the most probable codeword.
            temperature: temperature of the softmax from which gradients are computed.
        """
        scores = self.score(latents).unflatten(-1, (self.codebooks, self.entries)).float()
        drawn = scores if noise is None else (scores + noise) / temperature
        entries = drawn.argmax(-1)
        chosen = torch.zeros_like(scores).scatter_(-1, entries[..., None], 1.0)
        if noise is not None:
            soft = drawn.softmax(-1)
            chosen = chosen + (soft - soft.detach())
        with torch.autocast(latents.device.type, enabled=False):  # codewords are looked up exactly
            vectors = torch.einsum("...ge,gew->...gw", chosen, self.codewords.float())
        return Codes(vectors.flatten(-2), entries, scores.softmax(-1))
