"""Sums of what steps gave since the last log line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from lightning_fabric import Fabric

from dualmode.training.step import StepResult


@dataclass
class Meter:
    """Averages losses and measures speed over the steps since it was made."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    audio_seconds: float = 0.0
    waiting_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, result: StepResult, waited_s: float) -> None:
        """Count one step, before which the process waited ``waited_s`` for data."""
        values = _named(result.losses) | {"gradient_norm": float(result.gradient_norm)}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.audio_seconds += result.seconds
        self.waiting_s += waited_s

    def read(self, fabric: Fabric) -> dict[str, float]:
        """Mean losses over steps and processes, hours of audio per hour, share spent waiting."""
        elapsed = time.perf_counter() - self.began
        means = {name: total / self.steps for name, total in self.sums.items()}
        if fabric.world_size > 1:
            mine = torch.tensor(list(means.values()), device=fabric.device)
            over_processes = torch.as_tensor(fabric.all_reduce(mine, reduce_op="mean"))
            means = dict(zip(means, over_processes.tolist(), strict=True))
        return means | {
            "audio_hours_per_hour": self.audio_seconds / elapsed,
            "waiting_share": self.waiting_s / elapsed,
        }


def _named(losses: Mapping[str, Any]) -> dict[str, float]:
    """Every number by its name; those of a vector are counted from 1."""
    named: dict[str, float] = {}
    for part, terms in losses.items():
        for term in fields(terms):
            value = getattr(terms, term.name)
            if value.dim():
                many = enumerate(value.tolist(), start=1)
                named |= {f"{part}/{term.name}_{number}": one for number, one in many}
            else:
                named[f"{part}/{term.name}"] = float(value)
    return named
