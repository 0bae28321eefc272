"""The loss of BEST-RQ (Chiu et al., arXiv 2202.01855): cross-entropy over masked frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Prediction(NamedTuple):
    """Sums over masked frames of means over codebooks: the loss (nats), and the number of right
    codes, which is detached."""

    loss: Tensor
    correct: Tensor


def masked_prediction_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Prediction:
    """Cross-entropy of the codes of masked frames.

    Args:
        logits: (B, K, G, E).
        targets: (B, K, G) int64.
        valid: (B, K) True where a masked frame exists.
    """
    logits = logits.float()
    losses = F.cross_entropy(logits.movedim(-1, 1), targets, reduction="none").mean(dim=-1)
    right = (logits.detach().argmax(dim=-1) == targets).float().mean(dim=-1)
    return Prediction(torch.where(valid, losses, 0.0).sum(), torch.where(valid, right, 0.0).sum())
