"""What changes over a run, as functions of how far it is: learning rate and sparsity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dualmode.config import PretrainingConfig, PruningConfig, TrainingConfig


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


def gumbel_temperature(share: float, pretraining: PretrainingConfig) -> float:
    """Falls by the same factor a step from ``gumbel_start`` to ``gumbel_end``, and stays there."""
    along = min(share / pretraining.gumbel_share, 1.0)
    first, last = pretraining.gumbel_start, pretraining.gumbel_end
    return float(first * (last / first) ** along)


@dataclass(frozen=True)
class Weights:
    """Weights of the two families of losses at some point of a run."""

    transducer: float
    ctc: float


def loss_weights(share: float, config: TrainingConfig) -> Weights:
    """CTC alone until ``transducer_start``, then a linear change to the recipe's weights.

    A transducer that starts on an encoder that knows nothing yet can settle on emitting
    everything at the first frame of full context, where its predictor is all it needs. CTC has
    to spread its tokens over time, and an encoder that does so leaves the transducer no doubt.
    """
    if config.transducer_start == 0:
        return Weights(1.0, config.ctc_weight)
    along = (share - config.transducer_start) / config.transducer_ramp
    along = min(max(along, 0.0), 1.0)
    return Weights(along, 1.0 + along * (config.ctc_weight - 1.0))
