"""What a run optimises: all in which pre-training and fine-tuning differ. The loop is the same."""

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
    """Losses of one part of a step, detached: every field is a tensor, a number or a vector."""


@dataclass(frozen=True)
class LossDenominators:
    """What sums over a batch are divided by: targets (tokens or hidden frames) and frames of the
    batch that all processes share, over their number, so that gradients averaged over
    ``processes`` are those of one process."""

    targets: float
    frames: float
    processes: int = 1


@dataclass(frozen=True)
class Part:
    """What one recogniser hears of a split step: ``rows`` (b,) of this process's batch. Its sums
    are divided by the ``denominators`` of what it hears in all processes."""

    rows: Tensor
    denominators: LossDenominators


@dataclass(frozen=True)
class Step:
    """What an objective needs to know of a step, besides the batch.

    Attributes:
        share: how much of the run is behind it, 0 to 1.
        denominators: of the whole batch.
        total: sums a tensor over all processes.
        backward: called with each scalar loss; accumulates gradients.
        parts: what each recogniser hears, by name; None where each hears the whole batch.
    """

    share: float
    denominators: LossDenominators
    total: Callable[[Tensor], Tensor] = lambda mine: mine
    backward: Callable[[Tensor], None] = Tensor.backward
    parts: Mapping[str, Part] | None = None


@dataclass(frozen=True)
class ValidationResult:
    """What a validation found.

    Attributes:
        values: to be logged.
        score: the lower, the better; None where figures cannot choose among checkpoints.
        line: for people.
        warnings: what is going wrong, and what to change.
    """

    values: dict[str, float]
    score: float | None
    line: str
    warnings: list[str] = field(default_factory=list)


class Objective(Protocol[Model]):
    """One of pre-training and fine-tuning, for one recipe."""

    def build(self) -> Model:
        """The model to be trained, with random weights."""

    def targets(self, batch: Batch) -> Tensor:
        """How many targets (B,) each utterance of a batch has."""

    def accumulate(
        self, model: Model, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> Mapping[str, Losses]:
        """Accumulate the gradients of all subnets; their losses, by name."""

    def measure(self, model: Model, dev: BatchSource, share: float) -> Tensor:
        """Sums over one pass of ``dev``, which are then added up over processes."""

    def judge(self, sums: Tensor, share: float) -> ValidationResult:
        """Read those sums."""

    def settled(self, share: float) -> bool:
        """Whether what is measured is by now what is wanted."""

    def describe(self, values: dict[str, float]) -> str:
        """One line for people about the steps since the last, from the averages of their losses."""

    def draw(self, folder: Path) -> Path | None:
        """A picture of the run from its log in ``folder``; None where there is none yet."""

    def write_card(
        self, out: Path, model: Model, recipe: Recipe, progress: Progress, data_seconds: float
    ) -> None:
        """The model card, at the end."""
