"""Scores by which blocks of weights are ranked for pruning.

Magnitude needs the weights alone. The others also observe the passes of sparse subnets in every
step until the masks are fixed, and average what they have seen, over all processes. The averages
are part of a checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from dualmode.config import PruningConfig
from dualmode.model.backbone import Backbone
from dualmode.model.layers import ConformerLayer
from dualmode.model.masks import PrunableLinear
from dualmode.model.windows import Windows


class PruningScore(Protocol):
    """Scores of the blocks of a model's prunable layers."""

    def observing(self) -> AbstractContextManager[None]:
        """Observe the forward and backward passes of one step on this process."""

    def update(self, total: Callable[[Tensor], Tensor], processes: int) -> None:
        """Add the observed step to the averages; all processes call it together.

        Args:
            total: sums a tensor over all processes.
            processes: the number of processes, whose mean gradient is that of the step.
        """

    def blocks(self) -> list[Tensor]:
        """Scores (block rows, block columns) of each layer; the lowest are pruned first."""

    def state(self) -> dict[str, Tensor]:
        """The averages, for a checkpoint."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from the averages of a checkpoint.

        Raises:
            ValueError: names or shapes do not fit the model.
        """


def make_score(model: Backbone, pruning: PruningConfig) -> PruningScore:
    """The score that a recipe asks for."""
    if pruning.score == "activation":
        return ActivationScore(model, pruning.score_decay)
    if pruning.score == "taylor":
        return TaylorScore(model, pruning.score_decay)
    return MagnitudeScore(model)


class MagnitudeScore:
    """The L2 norm of each block."""

    def __init__(self, model: Backbone) -> None:
        self._layers = model.prunable()

    def observing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def update(self, total: Callable[[Tensor], Tensor], processes: int) -> None:
        """Nothing is averaged."""

    def blocks(self) -> list[Tensor]:
        return [layer.scores() for layer in self._layers]

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        if state:
            raise ValueError("the norm of weights has no averages")


class _AveragedScore(ABC):
    """A score with an exponential average (sizes[i],) for each layer, in float64."""

    def __init__(self, model: Backbone, decay: float, sizes: Sequence[int]) -> None:
        self._model, self._decay = model, decay
        self._layers, self._sizes = model.prunable(), list(sizes)
        names: dict[nn.Module, str] = {layer: name for name, layer in model.named_modules()}
        self._names = [names[layer] for layer in self._layers]
        place = self._layers[0].weight.device
        self._averages = torch.zeros(sum(sizes), dtype=torch.float64, device=place)
        self._seen = torch.zeros_like(self._averages)

    @contextmanager
    def observing(self) -> Iterator[None]:
        self._seen.zero_()
        pieces = torch.split(self._seen, self._sizes)
        for layer, seen in zip(self._layers, pieces, strict=True):
            layer.observer = partial(self._see, layer, seen)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.observer = None

    def update(self, total: Callable[[Tensor], Tensor], processes: int) -> None:
        step = self._of_step(total(self._seen), processes)
        self._averages.lerp_(step, 1 - self._decay)

    def state(self) -> dict[str, Tensor]:
        pieces = torch.split(self._averages.cpu(), self._sizes)
        return {name: piece.clone() for name, piece in zip(self._names, pieces, strict=True)}

    def restore(self, state: dict[str, Tensor]) -> None:
        if set(state) != set(self._names):
            raise ValueError("averages of the pruning score are missing, or of other layers")
        for name, piece in zip(self._names, torch.split(self._averages, self._sizes), strict=True):
            if state[name].shape != piece.shape:
                raise ValueError(f"the average of {name} has the shape {tuple(state[name].shape)}")
            piece.copy_(state[name])

    @abstractmethod
    def _see(self, layer: PrunableLinear, seen: Tensor, x: Tensor, weight: Tensor) -> None:
        """Add a pass of a layer to what has been ``seen`` in this step."""

    @abstractmethod
    def _of_step(self, seen: Tensor, processes: int) -> Tensor:
        """What a step adds to the average, from the sum over all processes."""

    def blocks(self) -> list[Tensor]:
        averages = torch.split(self._averages, self._sizes)
        return [self._score(*pair) for pair in zip(self._layers, averages, strict=True)]

    @abstractmethod
    def _score(self, layer: PrunableLinear, average: Tensor) -> Tensor:
        """The scores (block rows, block columns) of a layer."""


class ActivationScore(_AveragedScore):
    """Weights times the root mean square of their inputs (Wanda, Sun et al., arXiv 2306.11695).

    Wanda measures the inputs of a trained model once and ranks the weights of each output apart.
    Here the inputs are those of sparse subnets during training, and blocks are ranked by layer.
    The average has the sum of squares of each input, and last the number of frames. Frames of the
    encoder beyond the end of an utterance do not count.
    """

    def __init__(self, model: Backbone, decay: float) -> None:
        super().__init__(model, decay, [layer.weight.shape[1] + 1 for layer in model.prunable()])
        self._valid: Tensor | None = None  # of the encoder layer that is running

    @contextmanager
    def observing(self) -> Iterator[None]:
        handles = []
        for layer in self._model.modules():
            if isinstance(layer, ConformerLayer):
                handles.append(layer.register_forward_pre_hook(self._enter))
                handles.append(layer.register_forward_hook(self._leave))
        try:
            with super().observing():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, _: nn.Module, arguments: tuple[Tensor, Windows, object, object]) -> None:
        self._valid = arguments[1].valid

    def _leave(self, *_: object) -> None:
        self._valid = None

    @torch.no_grad()
    def _see(self, layer: PrunableLinear, seen: Tensor, x: Tensor, weight: Tensor) -> None:
        frames = x.flatten(0, -2).float().square()
        valid = self._valid
        counted = frames.new_ones(len(frames)) if valid is None else valid.flatten().float()
        with torch.autocast(x.device.type, enabled=False):
            seen[:-1] += counted @ frames
        seen[-1] += counted.sum()

    def _of_step(self, seen: Tensor, processes: int) -> Tensor:
        return seen

    def _score(self, layer: PrunableLinear, average: Tensor) -> Tensor:
        """If no sparse subnet has run yet, the norms of the weights."""
        known = average[-1] > 0
        squares = torch.where(known, average[:-1] / average[-1].clamp_min(1e-30), 1.0)
        return layer.scores(squares)


class TaylorScore(_AveragedScore):
    """First-order change of the loss without a block (Molchanov et al., arXiv 1906.10771).

    In each step it is the sum of weight times gradient over a block, where the gradient is that of
    the masked weight, so pruned blocks have one too. As in the paper, the squares are averaged over
    steps; the gradient itself would average to little.
    """

    def __init__(self, model: Backbone, decay: float) -> None:
        super().__init__(model, decay, [layer.blocks[0].numel() for layer in model.prunable()])

    def _see(self, layer: PrunableLinear, seen: Tensor, x: Tensor, weight: Tensor) -> None:
        if weight.requires_grad:  # not while the encoder is frozen
            learn = partial(self._learn, layer, seen)
            weight.register_hook(learn)  # type: ignore[no-untyped-call]

    @staticmethod
    @torch.no_grad()
    def _learn(layer: PrunableLinear, seen: Tensor, gradient: Tensor) -> None:
        seen += layer.block_sums(layer.weight * gradient).flatten()

    def _of_step(self, seen: Tensor, processes: int) -> Tensor:
        return (seen / processes).square()

    def _score(self, layer: PrunableLinear, average: Tensor) -> Tensor:
        """If no sparse subnet has learnt yet, the norms of the weights."""
        scores = average.sqrt().view(layer.blocks.shape[1:])
        return torch.where(average.any(), scores, layer.scores())
