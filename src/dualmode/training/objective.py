"""Objectives: the interface between the training loop and pre-training or fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from dualmode.config import Recipe
from dualmode.data.batches import Batch, BatchSource
from dualmode.model.backbone import Backbone
from dualmode.model.subnet import Subnet
from dualmode.training.checkpoint import Progress

Model = TypeVar("Model", bound=Backbone)
"""The model that an objective trains."""


@dataclass(frozen=True)
class Losses:
    """Detached losses of one part of a step: every field is a tensor, a scalar or a vector."""


@dataclass(frozen=True)
class LossDenominators:
    """Divisors of the sums over a batch: its targets (tokens or masked frames) and frames in all
    processes, divided by the number of processes, so that gradients averaged over processes
    equal those of a single process."""

    targets: float
    frames: float
    processes: int = 1


@dataclass(frozen=True)
class Part:
    """The part of one recogniser in a split step: ``rows`` (b,) of this process's batch. Sums are
    divided by the ``denominators`` of its parts in all processes."""

    rows: Tensor
    denominators: LossDenominators


@dataclass(frozen=True)
class Step:
    """The arguments of an objective besides the batch.

    Attributes:
        share: completed share of the run, 0 to 1.
        denominators: divisors for the whole batch.
        total: sums a tensor over all processes.
        backward: called with each scalar loss; accumulates gradients.
        parts: part of the batch of each recogniser; None if each trains on the whole batch.
    """

    share: float
    denominators: LossDenominators
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor
    backward: Callable[[Tensor], None] = Tensor.backward
    parts: Mapping[str, Part] | None = None


@dataclass(frozen=True)
class ValidationResult:
    """Result of a validation.

    Attributes:
        values: metrics to log.
        score: selects the best checkpoint, lower is better; None if there is no such metric.
        line: summary for the console.
        warnings: problems of the run, and what to change.
    """

    values: dict[str, float]
    score: float | None
    line: str
    warnings: list[str] = field(default_factory=list)


class Objective(Protocol[Model]):
    """Pre-training or fine-tuning with one recipe."""

    def build(self) -> Model:
        """Create the model with random weights."""

    def targets(self, batch: Batch) -> Tensor:
        """Number of targets (B,) of each utterance of a batch."""

    def accumulate(
        self, model: Model, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> Mapping[str, Losses]:
        """Accumulate the gradients of all subnets; return their losses by name."""

    def measure(self, model: Model, dev: BatchSource, share: float) -> Tensor:
        """Metrics of one pass over ``dev`` as sums, to be added over processes."""

    def judge(self, sums: Tensor, share: float) -> ValidationResult:
        """The result of a validation from the sums of :meth:`measure` over all processes."""

    def settled(self, share: float) -> bool:
        """Whether scores are comparable from now on, so that the best model can be selected."""

    def describe(self, values: dict[str, float]) -> str:
        """Summary of the average losses of recent steps, for the console."""

    def draw(self, folder: Path) -> Path | None:
        """Plot the log in ``folder`` to a file; None if there is nothing to plot."""

    def write_card(
        self, out: Path, model: Model, recipe: Recipe, progress: Progress, data_seconds: float
    ) -> None:
        """Write the model card."""
