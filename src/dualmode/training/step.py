"""One step of the optimiser, on every process at once, and what happens to the masks around it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dualmode.data.batches import Batch
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.training.checkpoint import Progress
from dualmode.training.finetune import Losses, Scale, finetune_step
from dualmode.training.schedule import learning_rate, loss_weights, sparsity_reached
from dualmode.training.setup import Run


@dataclass(frozen=True)
class StepResult:
    """What a step gave; ``seconds`` of audio and ``halt``, whether any process was asked to stop,
    are those of all processes."""

    losses: Losses
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
        [float(batch.token_lengths.sum()), float(frames), batch.seconds, float(stopping)],
        dtype=torch.float64,
    )
    if fabric.world_size > 1:
        sums = fabric.all_reduce(sums.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
    tokens, all_frames, seconds, stops = sums.tolist()
    world = fabric.world_size
    scale = Scale(max(tokens, 1.0) / world, max(all_frames, 1.0) / world)
    # Random numbers of a step follow from its number alone, so a resumed run draws the same.
    torch.manual_seed(_step_seed(config.seed, step, fabric.global_rank))
    model.train()
    with fabric.autocast():
        losses = finetune_step(
            model,
            batch,
            _subnets(run, step),
            config,
            loss_weights(share, config),
            scale,
            Tensor.backward,
        )
    parameters = [p for p in model.parameters() if p.grad is not None]
    _average_gradients(run, parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    if norm.isfinite():
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(step, share, config)
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
    reached = sparsity_reached(share, pruning)
    draw_masks(
        run.model.prunable(),
        [target * reached for target in pruning.sparsities],
        allocation=pruning.allocation,
        layer_cap=pruning.layer_cap,
    )
    for ours, averaged in zip(run.model.prunable(), run.average.prunable(), strict=True):
        averaged.blocks.copy_(ours.blocks)
    return replace(progress, masks_fixed=ended)


def _average_gradients(run: Run, parameters: list[torch.nn.Parameter]) -> None:
    """One all-reduce a step over all gradients, however many recognisers added to them."""
    if run.fabric.world_size == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    mean = torch.as_tensor(run.fabric.all_reduce(flat, reduce_op="mean"))
    pieces = torch.split(mean, [p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter).clone()


def _subnets(run: Run, step: int) -> tuple[Subnet, ...]:
    """Device, and if the recipe says so one more subnet, drawn afresh each step."""
    if not run.recipe.training.sampled_subnet:
        return (run.device,)
    rng = random.Random(_step_seed(run.recipe.training.seed, step, -1))
    context = ChunkedContext(
        chunk=rng.choice((4, 8, 16, 32)),
        left=run.recipe.training.device.left_frames,
        lookahead=rng.choice((0, 2, 4, 8)),
    )
    return run.device, Subnet(context, rng.choice((0.0, *run.recipe.pruning.sparsities)))


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 4096 + rank + 1
