"""Which utterances of a step each recogniser hears, where a step is split between them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from dualmode.config import TrainingConfig


def rows_heard(
    count: int, names: Sequence[str], config: TrainingConfig, *, step: int, rank: int, world: int
) -> dict[str, Tensor]:
    """Deal the ``count`` utterances of a process's batch to the recognisers ``names``.

    Each recogniser gets its share rounded down or up, and over many steps exactly its share, in
    every process as well as in all together, even if a batch has fewer utterances than there are
    recognisers. What is dealt follows from the seed and the step alone.

    Returns:
        (b,) int64 rows of the batch by name; together they are all rows, each once.
    """
    rng = random.Random(f"rows heard, {config.seed}, {step}")
    shares = _shares(names, config)
    left, left_share = list(range(count)), 1.0
    heard: dict[str, Tensor] = {}
    for name in reversed(names[1:]):
        fraction = shares[name] / left_share
        begin = math.modf(rng.random() + rank / world)[0]
        marks = [math.floor(index * fraction + begin) for index in range(len(left) + 1)]
        taken = [marks[index + 1] > marks[index] for index in range(len(left))]
        heard[name] = torch.tensor([row for row, mine in zip(left, taken, strict=True) if mine])
        left = [row for row, mine in zip(left, taken, strict=True) if not mine]
        left_share -= shares[name]
    heard[names[0]] = torch.tensor(left)
    return {name: heard[name].to(torch.int64) for name in names}


def _shares(names: Sequence[str], config: TrainingConfig) -> dict[str, float]:
    """The sampled subnet takes its share of the whole, server and device divide the rest."""
    sampled = config.sampled_share if "sampled" in names else 0.0
    device = config.device_share if "device" in names else 0.0
    if "server" not in names:
        device = 1.0
    rest = 1.0 - sampled
    return {"sampled": sampled, "device": rest * device, "server": rest * (1.0 - device)}
