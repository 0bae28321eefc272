"""Averages over the steps between two log lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric
from torch import Tensor

from dualmode.training.objective import Losses

if TYPE_CHECKING:
    from dualmode.training.step import StepResult

_GIGABYTE = 1e9


@dataclass
class Meter:
    """Averages losses and measures speed over the steps since it was created.

    Losses stay on their device until :meth:`read`, because reading them synchronises the device
    with the host. Steps without a finite gradient are counted but not averaged, and a recogniser's
    losses are averaged over the steps in which it had utterances.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    skipped: int = 0
    audio_seconds: float = 0.0
    waiting_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, result: StepResult, waited_s: float) -> None:
        """Add a step, before which the process waited ``waited_s`` seconds for data."""
        self.steps += 1
        self.audio_seconds += result.seconds
        self.waiting_s += waited_s
        if not result.finite:
            self.skipped += 1
            return
        for name, value in _named(result.losses, result.gradient_norm).items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] += name.partition("/")[0] not in result.unheard

    def read(self, fabric: Fabric) -> dict[str, float]:
        """Mean losses over steps and processes, hours of audio per hour, the share of time spent
        waiting for data, the number of skipped steps and, on a GPU, memory use."""
        elapsed = time.perf_counter() - self.began
        speed = {
            "audio_hours_per_hour": self.audio_seconds / elapsed,
            "waiting_share": self.waiting_s / elapsed,
            "skipped_steps": float(self.skipped),
        }
        return self._means(fabric) | speed | _memory(fabric.device)

    def _means(self, fabric: Fabric) -> dict[str, float]:
        """Mean losses; empty, in all processes alike, if no step had a finite gradient. The mean is
        not a number if a recogniser had no utterance."""
        if not self.sums:
            return {}
        means = torch.cat([v.flatten() / self.counts[name] for name, v in self.sums.items()])
        if fabric.world_size > 1:
            means = torch.as_tensor(fabric.all_reduce(means, reduce_op="mean"))
        names = [name for key, value in self.sums.items() for name in _numbered(key, value)]
        return dict(zip(names, means.tolist(), strict=True))


def _named(losses: Mapping[str, Losses], gradient_norm: Tensor) -> dict[str, Tensor]:
    named = {
        f"{part}/{term.name}": getattr(terms, term.name)
        for part, terms in losses.items()
        for term in fields(terms)
    }
    return named | {"gradient_norm": gradient_norm}


def _numbered(name: str, value: Tensor) -> list[str]:
    """Names of the elements of a vector, numbered from 1; a scalar keeps its name."""
    return [f"{name}_{number}" for number in range(1, len(value) + 1)] if value.dim() else [name]


def _memory(device: torch.device) -> dict[str, float]:
    """Peak memory of tensors on a GPU, in absolute terms and as a share of its capacity."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device)
    whole = torch.cuda.get_device_properties(device).total_memory
    return {"gpu_memory_gb": peak / _GIGABYTE, "gpu_memory_share": peak / whole}
