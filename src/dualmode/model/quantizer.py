"""Product quantisation with Gumbel softmax: what wav2vec 2.0 predicts instead of the latents.

Each codebook gives one of its codewords, and a latent's code is those of all codebooks side by
side (Jegou et al., 2011; Jang et al., arXiv 1611.01144; Baevski et al., arXiv 1910.05453).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Codes(NamedTuple):
    """Quantised latents.

    Attributes:
        vectors: (..., Q) codewords of all codebooks, side by side.
        entries: (..., G) int64, the codeword that each codebook gave.
        probabilities: (..., G, E) how likely each was, noise left out.
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
        # Far apart to begin with, so that the first codes already tell latents from each other.
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.codewords = nn.Parameter(torch.rand(codebooks, entries, code_width // codebooks))

    def forward(self, latents: Tensor, noise: Tensor | None, temperature: float) -> Codes:
        """Quantise latents (..., D).

        Args:
            noise: (..., G, E) Gumbel noise, with which a codeword is drawn, and gradients pass
                straight through to the scores; None takes the likeliest codeword.
            temperature: of the softmax that the gradients are those of.
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
