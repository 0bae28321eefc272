"""One step of the optimiser, on every process at once, and what happens to the masks around it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dualmode.config import InitConfig
from dualmode.data.batches import Batch
from dualmode.model.backbone import Backbone
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.training.checkpoint import Progress
from dualmode.training.objective import LossDenominators, Step
from dualmode.training.schedule import learning_rate, sparsity_reached
from dualmode.training.setup import Run


@dataclass(frozen=True)
class StepResult:
    """What a step gave; ``seconds`` of audio and ``halt``, whether any process was asked to stop,
    are those of all processes."""

    losses: Mapping[str, Any]
    gradient_norm: Tensor
    seconds: float
    halt: bool


def take_step(run: Run, batch: Batch, step: int, share: float, stopping: bool) -> StepResult:
    """Add up the gradients of all recognisers and processes, and move the weights and their
    average; a step whose gradient is not finite moves nothing."""
    config, fabric, model = run.recipe.training, run.fabric, run.model
    batch = batch.to(fabric.device)
    frames = (batch.feature_lengths // 4).sum()
    sums = torch.tensor(
        [run.objective.targets(batch), float(frames), batch.seconds, float(stopping)],
        dtype=torch.float64,
    )
    targets, all_frames, seconds, stops = _total(run, sums).tolist()
    world = fabric.world_size
    denominators = LossDenominators(max(targets, 1.0) / world, max(all_frames, 1.0) / world, world)
    # Random numbers of a step follow from its number alone, so a resumed run draws the same.
    torch.manual_seed(_step_seed(config.seed, step, fabric.global_rank))
    model.train()
    _freeze(model, step, run.recipe.init)
    with fabric.autocast():
        losses = run.objective.accumulate(
            model, batch, _subnets(run, step), Step(share, denominators, partial(_total, run))
        )
    parameters = [p for p in model.parameters() if p.grad is not None]
    _average_gradients(run, parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    if norm.isfinite():
        for group in run.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(step, share, config)
        run.optimizer.step()
        decay = min(config.average_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(run.average.parameters()), [p.detach() for p in model.parameters()], 1 - decay
        )
    run.optimizer.zero_grad(set_to_none=True)
    return StepResult(losses, norm, seconds, stops > 0)


def update_masks(run: Run, progress: Progress, share: float) -> Progress:
    """Redraw the masks when it is time, from the current weights, until they are fixed."""
    pruning = run.recipe.pruning
    ended = share >= pruning.end
    due = share > pruning.start and progress.step % pruning.every_steps == 0
    if progress.masks_fixed or not (due or ended):
        return progress
    reached = max(sparsity_reached(share, pruning), progress.sparsity_kept)
    draw_masks(
        run.model.prunable(),
        [target * reached for target in pruning.sparsities],
        allocation=pruning.allocation,
        layer_cap=pruning.layer_cap,
    )
    for ours, averaged in zip(run.model.prunable(), run.average.prunable(), strict=True):
        averaged.blocks.copy_(ours.blocks)
    return replace(progress, masks_fixed=ended)


def _freeze(model: Backbone, step: int, init: InitConfig) -> None:
    """Hold still, for the first steps, what came trained while the rest finds its place."""
    if init.model is None:
        return
    encoder = step >= init.freeze_encoder_steps
    model.encoder.requires_grad_(encoder)
    model.encoder.subsampling.requires_grad_(encoder and step >= init.freeze_subsampling_steps)


def _total(run: Run, mine: Tensor) -> Tensor:
    """The sum of a tensor over all processes, where the tensor was."""
    if run.fabric.world_size == 1:
        return mine
    summed = run.fabric.all_reduce(mine.to(run.fabric.device), reduce_op="sum")
    return torch.as_tensor(summed).to(mine.device)


def _average_gradients(run: Run, parameters: list[torch.nn.Parameter]) -> None:
    """One all-reduce a step over all gradients, however many recognisers added to them."""
    if run.fabric.world_size == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    mean = torch.as_tensor(run.fabric.all_reduce(flat, reduce_op="mean"))
    pieces = torch.split(mean, [p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter).clone()


def _subnets(run: Run, step: int) -> dict[str, Subnet]:
    """The recipe's recognisers, and if it says so one more subnet, drawn afresh each step."""
    subnets = dict(run.subnets)
    if run.recipe.training.sampled_subnet:
        rng = random.Random(_step_seed(run.recipe.training.seed, step, -1))
        context = ChunkedContext(
            chunk=rng.choice((4, 8, 16, 32)),
            left=run.recipe.training.device_subnet.left_frames,
            lookahead=rng.choice((0, 2, 4, 8)),
        )
        subnets["sampled"] = Subnet(context, rng.choice((0.0, *run.recipe.pruning.sparsities)))
    return subnets


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 4096 + rank + 1
