"""One step of the optimiser in all processes, and the update of the masks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, distributed
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dualmode.config import InitConfig
from dualmode.data.batches import Batch
from dualmode.data.left_out import Problem
from dualmode.features import Framing
from dualmode.model.backbone import Backbone
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.training.checkpoint import Progress
from dualmode.training.objective import LossDenominators, Losses, Model, Part, Step
from dualmode.training.original import pull_weights
from dualmode.training.schedule import learning_rate, sparsity_reached
from dualmode.training.setup import Run
from dualmode.training.sharing import assign_rows


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step.

    Attributes:
        losses: detached losses of this process.
        gradient_norm: norm of the averaged gradient, before clipping.
        finite: whether the gradient was finite, so that the weights were updated.
        seconds: audio in the batches of all processes.
        halt: whether any process was asked to stop.
        unreadable: utterances that any process could not read.
        unheard: recognisers that had no utterance in any process.
    """

    losses: Mapping[str, Losses]
    gradient_norm: Tensor
    finite: bool
    seconds: float
    halt: bool
    unreadable: Sequence[Problem] = ()
    unheard: frozenset[str] = frozenset()


def take_step(run: Run[Model], batch: Batch, step: int, share: float, stopping: bool) -> StepResult:
    """Accumulate the gradients of all recognisers and processes, and update the weights and their
    moving average, unless the gradient is not finite."""
    config, fabric, model = run.recipe.training, run.fabric, run.model
    subnets = _subnets(run, step)
    rows = _rows(run, batch, subnets, step, share)
    agreed = _agree(run, batch, rows, share, stopping)
    batch = batch.to(fabric.device)
    # The random seed depends on the step, so that a resumed run draws the same numbers.
    torch.manual_seed(_step_seed(config.seed, step, fabric.global_rank))
    model.train()
    _freeze(model, step, run.recipe.init)
    drawing = share < run.recipe.pruning.end  # later masks are not drawn again
    with fabric.autocast(), run.score.observing() if drawing else nullcontext():
        losses = run.objective.accumulate(model, batch, subnets, agreed.step)
    parameters = [p for p in model.parameters() if p.grad is not None]
    gradient = _average_gradients(run, parameters)
    norm = gradient.norm()
    finite = bool(norm.isfinite())  # the only synchronisation with the device in every step
    if finite:
        gradient.mul_((config.clip_norm / (norm + 1e-6)).clamp_max(1.0))
        for group in run.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(step, share, config)
        run.optimizer.step()
        if run.anchors is not None:
            pull_weights(run.optimizer.param_groups, run.anchors, run.recipe.init.weight_pull)
        decay = min(config.average_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            move(list(run.average.parameters()), list(model.parameters()), step)
        if drawing:
            run.score.update(partial(_total, run), fabric.world_size)
    run.optimizer.zero_grad(set_to_none=True)
    return StepResult(
        losses, norm, finite, agreed.seconds, agreed.stopping, agreed.problems, agreed.unheard
    )


def update_masks(run: Run[Model], progress: Progress, share: float) -> Progress:
    """Redraw the masks by their score when they are due, until they are fixed."""
    pruning = run.recipe.pruning
    ended = share >= pruning.end
    due = share > pruning.start and progress.step % pruning.every_steps == 0
    if progress.masks_fixed or not (due or ended):
        return progress
    reached = max(sparsity_reached(share, pruning), progress.sparsity_kept)
    draw_masks(
        run.model.prunable(),
        [target * reached for target in pruning.sparsities],
        scores=run.score.blocks(),
        allocation=pruning.allocation,
        layer_cap=pruning.layer_cap,
    )
    for layer, averaged in zip(run.model.prunable(), run.average.prunable(), strict=True):
        averaged.blocks.copy_(layer.blocks)
    return replace(progress, masks_fixed=ended)


def _freeze(model: Backbone, step: int, init: InitConfig) -> None:
    """Freeze pre-trained layers during the first steps, while only the other layers learn."""
    if init.model is None:
        return
    encoder = step >= init.freeze_encoder_steps
    model.encoder.requires_grad_(encoder)
    model.encoder.subsampling.requires_grad_(encoder and step >= init.freeze_subsampling_steps)


def _total(run: Run[Model], tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, on the same device."""
    if run.fabric.world_size == 1:
        return tensor
    return _summed(tensor.to(run.fabric.device, copy=True)).to(tensor.device)


def _summed(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes in place, without the barrier of Fabric's all-reduce."""
    distributed.all_reduce(tensor)
    return tensor


def _rows(
    run: Run[Model], batch: Batch, subnets: Mapping[str, Subnet], step: int, share: float
) -> dict[str, Tensor] | None:
    """Rows of this process's batch for each recogniser; None if each trains on all of them."""
    config, fabric = run.recipe.training, run.fabric
    if config.step_sharing == "all" or len(subnets) < 2:
        return None
    rank, world = fabric.global_rank, fabric.world_size
    pruned = share >= run.recipe.pruning.end
    return assign_rows(
        len(batch.ids), list(subnets), config, step=step, rank=rank, world=world, pruned=pruned
    )


@dataclass(frozen=True)
class _Agreed:
    """What all processes know of a step: its denominators; recognisers without an utterance,
    seconds of audio and unreadable utterances of all; and whether one was asked to stop."""

    step: Step
    unheard: frozenset[str]
    seconds: float
    stopping: bool
    problems: list[Problem]


def _agree(
    run: Run[Model], batch: Batch, rows: Mapping[str, Tensor] | None, share: float, stopping: bool
) -> _Agreed:
    """Add up the counts of all processes."""
    targets = run.objective.targets(batch).double()
    framing = Framing(run.recipe.model.frame_ms)
    frames = framing.frame_counts(batch.feature_lengths)
    assigned = [(targets[each].sum(), frames[each].sum()) for each in (rows or {}).values()]
    counts = [number for pair in ((targets.sum(), frames.sum()), *assigned) for number in pair]
    others = (batch.seconds, float(stopping), float(len(batch.unreadable)))
    sums = torch.tensor([*map(float, counts), *others], dtype=torch.float64)
    *totals, seconds, stops, unreadable = _total(run, sums).tolist()
    world = run.fabric.world_size
    whole, *each = [
        LossDenominators(max(tokens, 1.0) / world, max(length, 1.0) / world, world)
        for tokens, length in zip(totals[::2], totals[1::2], strict=True)
    ]
    unheard = frozenset(
        name for name, length in zip(rows or (), totals[3::2], strict=True) if not length
    )
    parts = None
    if rows is not None:
        pairs = zip(rows.items(), each, strict=True)
        parts = {name: Part(part, denominators) for (name, part), denominators in pairs}
    return _Agreed(
        Step(share, whole, partial(_total, run), parts=parts),
        unheard,
        seconds,
        stops > 0,
        _problems(run, batch, unreadable),
    )


def _problems(run: Run[Model], batch: Batch, count: float) -> list[Problem]:
    """Unreadable utterances of all processes, exchanged only if there are any."""
    if not count or run.fabric.world_size == 1:
        return list(batch.unreadable)
    lists: list[list[Problem]] = [[] for _ in range(run.fabric.world_size)]
    distributed.all_gather_object(lists, list(batch.unreadable))
    return [problem for problems in lists for problem in problems]


def _average_gradients(run: Run[Model], parameters: list[torch.nn.Parameter]) -> Tensor:
    """Average the gradients over processes in one flat tensor and return its norm. The gradients
    of the parameters become views of it, for a single all-reduce, norm and scaling."""
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    if run.fabric.world_size > 1:
        _summed(flat).div_(run.fabric.world_size)
    pieces = torch.split(flat, [p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter)
    return flat


def _subnets(run: Run[Model], step: int) -> dict[str, Subnet]:
    """The recipe's recognisers and, if it asks for one, a subnet sampled for this step."""
    subnets = dict(run.subnets)
    if run.recipe.training.sampled_subnet:
        rng = random.Random(_step_seed(run.recipe.training.seed, step, -1))
        frame_ms = run.recipe.model.frame_ms
        context = ChunkedContext(
            chunk=rng.choice((160, 320, 640, 1280)) // frame_ms,
            left=run.recipe.training.device_subnet.left_frames,
            lookahead=rng.choice((0, 80, 160, 320)) // frame_ms,
        )
        subnets["sampled"] = Subnet(context, rng.choice((0.0, *run.recipe.pruning.sparsities)))
    return subnets


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 4096 + rank + 1
