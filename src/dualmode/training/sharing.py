"""Divide the utterances of a step between recognisers, for split steps."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from dualmode.config import TrainingConfig


def assign_rows(
    count: int,
    names: Sequence[str],
    config: TrainingConfig,
    *,
    step: int,
    rank: int,
    world: int,
    pruned: bool = False,
) -> dict[str, Tensor]:
    """Assign the ``count`` utterances of a process's batch to the recognisers ``names``.

    Each recogniser gets its share rounded down or up and, averaged over many steps, exactly its
    share, both in every process and in total, even if a batch has fewer utterances than there are
    recognisers. The assignment depends on the seed and the step only.

    Args:
        pruned: whether the masks are fixed, from when on device may have another share.

    Returns:
        rows of the batch (b,) int64 by name; each row is assigned once.
    """
    rng = random.Random(f"rows heard, {config.seed}, {step}")
    shares = _shares(names, config, pruned)
    left, left_share = list(range(count)), 1.0
    assigned: dict[str, Tensor] = {}
    for name in reversed(names[1:]):
        fraction = shares[name] / left_share
        begin = math.modf(rng.random() + rank / world)[0]
        marks = [math.floor(index * fraction + begin) for index in range(len(left) + 1)]
        taken = [marks[index + 1] > marks[index] for index in range(len(left))]
        assigned[name] = torch.tensor([row for row, take in zip(left, taken, strict=True) if take])
        left = [row for row, take in zip(left, taken, strict=True) if not take]
        left_share -= shares[name]
    assigned[names[0]] = torch.tensor(left)
    return {name: assigned[name].to(torch.int64) for name in names}


def _shares(names: Sequence[str], config: TrainingConfig, pruned: bool) -> dict[str, float]:
    """Shares of the recognisers: server and device divide what the sampled subnet leaves."""
    sampled = config.sampled_share if "sampled" in names else 0.0
    device = config.device_share
    if pruned and config.device_share_when_pruned is not None:
        device = config.device_share_when_pruned
    if "server" not in names or "device" not in names:
        device = float("device" in names)
    rest = 1.0 - sampled
    return {"sampled": sampled, "device": rest * device, "server": rest * (1.0 - device)}
