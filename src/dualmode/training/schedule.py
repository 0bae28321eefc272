"""What changes over a run, as functions of how far it is: learning rate and sparsity."""

from __future__ import annotations

import math

from dualmode.config import PruningConfig, TrainingConfig


def run_share(step: int, seconds: float, config: TrainingConfig) -> float:
    """How much of the run is behind it, 0 to 1, by steps or by its budget of time."""
    share = step / config.steps
    if config.minutes is not None:
        share = max(share, seconds / (60 * config.minutes))
    return min(share, 1.0)


def learning_rate(step: int, share: float, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine down to ``final_learning_rate`` of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    low = config.final_learning_rate
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))


def sparsity_reached(share: float, pruning: PruningConfig) -> float:
    """Share of each target sparsity that masks have by now: the cubic schedule of Zhu & Gupta
    (arXiv 1710.01878), 0 before ``start`` and 1 from ``end`` on."""
    along = (share - pruning.start) / (pruning.end - pruning.start)
    return 1 - (1 - min(max(along, 0.0), 1.0)) ** 3
