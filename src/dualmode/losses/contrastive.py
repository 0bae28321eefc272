"""Contrastive and diversity losses of wav2vec 2.0 (Baevski et al., arXiv 2006.11477).

The masked frames of an utterance are padded to K. Distractors are indices of other masked frames
of the same utterance, so the similarities of all pairs (K, K) contain every comparison, and cost
less than gathering the vectors of the distractors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Contrast(NamedTuple):
    """Sums over masked frames: the loss (nats), the number of right choices, and the cosines of
    predictions with their targets and, on average, with their distractors. All but the loss are
    detached."""

    loss: Tensor
    correct: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor


def contrastive_loss(
    predictions: Tensor,
    targets: Tensor,
    entries: Tensor,
    distractors: Tensor,
    valid: Tensor,
    temperature: float,
) -> Contrast:
    """InfoNCE loss of the prediction of each masked frame, over its target and its distractors.

    Args:
        predictions, targets: (B, K, P).
        entries: (B, K, G) code of each target; distractors with the same code are excluded.
        distractors: (B, K, N) indices 0 .. K - 1 of masked frames.
        valid: (B, K) True where a masked frame exists.
        temperature: divisor of the cosines.
    """
    predictions = F.normalize(predictions.float(), dim=-1, eps=1e-8)
    targets = F.normalize(targets.float(), dim=-1, eps=1e-8)
    with torch.autocast(predictions.device.type, enabled=False):  # bfloat16 would make ties
        cosines = torch.bmm(predictions, targets.transpose(1, 2))
    own = cosines.diagonal(dim1=1, dim2=2)
    others = cosines.gather(2, distractors)
    same = _same_code(entries, distractors)
    scores = torch.cat([own[..., None], others.masked_fill(same, -torch.inf)], dim=2) / temperature
    losses = torch.logsumexp(scores, dim=2) - scores[..., 0]
    with torch.no_grad():
        best = others.masked_fill(same, -torch.inf).amax(dim=2)
        different = (~same).sum(dim=2)
        negative = others.masked_fill(same, 0.0).sum(dim=2) / different.clamp_min(1)
        correct = (own > best) & (different > 0)
    return Contrast(
        _sum(losses, valid), _sum(correct, valid), _sum(own.detach(), valid), _sum(negative, valid)
    )


def _same_code(entries: Tensor, distractors: Tensor) -> Tensor:
    """(B, K, N): whether a distractor has the same code as the target."""
    same = torch.ones_like(distractors, dtype=torch.bool)
    for codebook in entries.unbind(-1):
        codes = codebook[:, None, :].expand(-1, distractors.shape[1], -1).gather(2, distractors)
        same &= codes == codebook[..., None]
    return same


def _sum(values: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, values.float(), 0.0).sum()


def perplexities(mean_probabilities: Tensor) -> Tensor:
    """Perplexity (G,) of the mean distributions (G, E): the effective number of codewords."""
    # The floor changes no value, but it keeps the gradient finite where a softmax underflows.
    logs = torch.xlogy(mean_probabilities, mean_probabilities.clamp_min(1e-30))
    return torch.exp(-logs.sum(dim=-1))


def diversity_loss(mean_probabilities: Tensor) -> Tensor:
    """Share of the codewords (G, E) that are not in use, measured by their perplexity."""
    total = mean_probabilities.numel()
    return (total - perplexities(mean_probabilities).sum()) / total
