"""In-place distillation: server, in its current state, is the teacher of the other subnets.

As in Yu et al., "Dual-mode ASR" (arXiv 2010.06030), the lattice is reduced to next token, blank
and all other tokens. Distilling the frame posteriors of the CTC head is the cheaper alternative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dualmode.losses.joint import length_mask


def lattice_distillation(
    teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], valid: Tensor
) -> Tensor:
    """Sum over frames of the mean KL divergence of their lattice nodes, in nats.

    Args:
        teacher, student: log-probabilities of next token and of blank, each (B, T, S), on the
            same band.
        valid: (B, T, S) True at nodes that exist.
    """
    target, learner = _three_ways(*teacher, valid), _three_ways(*student, valid)
    divergence = (target.exp() * (target - learner)).sum(dim=-1)
    nodes = valid.sum(dim=-1).clamp_min(1)
    return ((divergence * valid).sum(dim=-1) / nodes).sum()


def frame_distillation(teacher: Tensor, student: Tensor, lengths: Tensor) -> Tensor:
    """Sum over frames of the KL divergence of CTC posteriors (B, T, V), in nats."""
    divergence = (teacher.exp() * (teacher - student)).sum(dim=-1)
    return (divergence * length_mask(teacher.shape[1], lengths)).sum()


def _three_ways(token: Tensor, blank: Tensor, valid: Tensor) -> Tensor:
    """Log-probabilities (B, T, S, 3) of next token, blank and all other tokens together."""
    floor = -30.0
    token = torch.where(valid, token, floor).clamp(floor, 0.0)
    blank = torch.where(valid, blank, floor).clamp(floor, 0.0)
    rest = (1.0 - token.exp() - blank.exp()).clamp_min(1e-6).log()
    return torch.stack([token, blank, rest], dim=-1)
