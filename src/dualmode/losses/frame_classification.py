"""Cross-entropy of the phones of frames, the loss of hybrid recognisers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Classified(NamedTuple):
    """Sums over targets: the loss (nats), and the number of right classes, which is detached."""

    loss: Tensor
    correct: Tensor


def frame_classification_loss(logits: Tensor, targets: Tensor) -> Classified:
    """Cross-entropy over the targets that exist.

    Args:
        logits: (B, T, G, P).
        targets: (B, T, G) int64 classes; negative where there is none.
    """
    exists = targets >= 0
    classes = targets.clamp_min(0)
    losses = F.cross_entropy(logits.float().movedim(-1, 1), classes, reduction="none")
    right = (logits.detach().argmax(dim=-1) == classes).float()
    return Classified(torch.where(exists, losses, 0.0).sum(), torch.where(exists, right, 0.0).sum())
