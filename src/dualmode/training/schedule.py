"""Schedules of learning rate, sparsity, temperature and loss weights over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dualmode.config import PretrainingConfig, PruningConfig, TrainingConfig


def run_share(step: int, seconds: float, config: TrainingConfig) -> float:
    """Completed share of the run, 0 to 1, by steps or by its time budget."""
    share = step / config.steps
    if config.minutes is not None:
        share = max(share, seconds / (60 * config.minutes))
    return min(share, 1.0)


def learning_rate(step: int, share: float, config: TrainingConfig) -> float:
    """Linear warm-up, then cosine decay to ``final_learning_rate`` of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    low = config.final_learning_rate
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))


def sparsity_reached(share: float, pruning: PruningConfig) -> float:
    """Share of each target sparsity at this point of the run: the cubic schedule of Zhu & Gupta
    (arXiv 1710.01878), 0 before ``start`` and 1 from ``end`` on."""
    along = (share - pruning.start) / (pruning.end - pruning.start)
    return 1 - (1 - min(max(along, 0.0), 1.0)) ** 3


def gumbel_temperature(share: float, pretraining: PretrainingConfig) -> float:
    """Exponential decay from ``gumbel_start`` to ``gumbel_end``, then constant."""
    along = min(share / pretraining.gumbel_share, 1.0)
    first, last = pretraining.gumbel_start, pretraining.gumbel_end
    return float(first * (last / first) ** along)


@dataclass(frozen=True)
class Weights:
    """Weights of the losses at some point of a run."""

    transducer: float
    ctc: float
    output_pull: float = 0.0


def loss_weights(share: float, config: TrainingConfig) -> Weights:
    """CTC only until ``transducer_start``, then a linear change to the recipe's weights.

    A transducer on an untrained encoder with full context can converge to emitting all tokens at
    the first frame, relying on its predictor alone. CTC has to distribute tokens over time, so an
    encoder trained with it first avoids this.
    """
    if config.transducer_start == 0:
        return Weights(1.0, config.ctc_weight)
    along = (share - config.transducer_start) / config.transducer_ramp
    along = min(max(along, 0.0), 1.0)
    return Weights(along, 1.0 + along * (config.ctc_weight - 1.0))
