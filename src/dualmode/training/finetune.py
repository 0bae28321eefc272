"""The fine-tuning objective: one supernet step of server, device and perhaps a sampled subnet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.config import TrainingConfig
from dualmode.losses.distillation import frame_distillation, lattice_distillation
from dualmode.losses.transducer import TransducerLoss, band_log_probs, pruned_transducer_loss
from dualmode.model.subnet import SERVER, Subnet
from dualmode.model.supernet import Supernet


class TrainingBatch(Protocol):
    """What the objective needs of a batch; shapes as in :class:`dualmode.data.batches.Batch`."""

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor


@dataclass(frozen=True)
class SubnetLosses:
    """Losses of one recogniser in nats a token (distillation: nats a frame), detached."""

    transducer: Tensor
    simple: Tensor
    ctc: Tensor
    distillation: Tensor


@dataclass(frozen=True)
class Losses:
    """What one supernet step gave."""

    server: SubnetLosses
    device: SubnetLosses
    sampled: SubnetLosses | None = None


@dataclass(frozen=True)
class _Pass:
    """One recogniser's forward pass, kept for distillation."""

    frames: Tensor
    predictions: Tensor
    lattice: TransducerLoss
    ctc_log_probs: Tensor


@dataclass(frozen=True)
class Scale:
    """What sums over a batch are divided by: tokens and frames of the batch that all processes
    share, over the number of processes, so that averaged gradients are those of one process."""

    tokens: float
    frames: float


def finetune_step(
    model: Supernet,
    batch: TrainingBatch,
    subnets: tuple[Subnet, ...],
    config: TrainingConfig,
    scale: Scale,
    backward: Callable[[Tensor], None],
) -> Losses:
    """Accumulate the gradients of server and of each of ``subnets`` (device first).

    The latents are the same for all, so they are computed once and take their gradient at the
    end; each recogniser's graph is freed before the next is built.

    Args:
        backward: called with each scalar loss; accumulates gradients.
    """
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    leaf = latents.detach().requires_grad_()
    server = _forward(model, leaf, lengths, batch, SERVER, config)
    zero = leaf.new_zeros(())
    losses = [_backward(server, lengths, batch, zero, config, scale, backward)]
    teacher = _detached(server)
    for subnet in subnets:
        student = _forward(model, leaf, lengths, batch, subnet, config)
        distillation = _distill(model, teacher, student, lengths, batch, subnet, config)
        losses.append(_backward(student, lengths, batch, distillation, config, scale, backward))
        del student
    torch.autograd.backward([latents], [leaf.grad])
    return Losses(losses[0], losses[1], losses[2] if len(losses) > 2 else None)


def _forward(
    model: Supernet,
    latents: Tensor,
    lengths: Tensor,
    batch: TrainingBatch,
    subnet: Subnet,
    config: TrainingConfig,
) -> _Pass:
    encoded = model.encode(latents, lengths, subnet)
    predicted = model.predict(batch.tokens, subnet)
    frames = model.project_frames(encoded, subnet)
    predictions = model.project_predictions(predicted, subnet)
    lattice = pruned_transducer_loss(
        frames,
        predictions,
        lambda f, p: model.join(f, p, subnet),
        model.simple_frames(encoded),
        model.simple_predictions(predicted),
        batch.tokens,
        lengths,
        batch.token_lengths,
        band=config.band,
        reduction="sum",
    )
    return _Pass(frames, predictions, lattice, model.ctc_log_probs(encoded))


def _backward(
    result: _Pass,
    lengths: Tensor,
    batch: TrainingBatch,
    distillation: Tensor,
    config: TrainingConfig,
    scale: Scale,
    backward: Callable[[Tensor], None],
) -> SubnetLosses:
    ctc = F.ctc_loss(
        result.ctc_log_probs.transpose(0, 1),
        batch.tokens,
        lengths,
        batch.token_lengths,
        reduction="sum",
        zero_infinity=True,
    )
    transducer = result.lattice.pruned / scale.tokens
    simple = result.lattice.simple / scale.tokens
    ctc = ctc / scale.tokens
    distillation = distillation / scale.frames
    backward(
        transducer
        + config.simple_weight * simple
        + config.ctc_weight * ctc
        + config.distillation_weight * distillation
    )
    return SubnetLosses(
        transducer.detach(), simple.detach(), ctc.detach(), distillation.detach()
    )


def _detached(result: _Pass) -> _Pass:
    lattice = TransducerLoss(
        result.lattice.simple.detach(),
        result.lattice.pruned.detach(),
        result.lattice.starts,
        result.lattice.token_log_probs.detach(),
        result.lattice.blank_log_probs.detach(),
    )
    return _Pass(
        result.frames.detach(), result.predictions.detach(), lattice, result.ctc_log_probs.detach()
    )


def _distill(
    model: Supernet,
    teacher: _Pass,
    student: _Pass,
    lengths: Tensor,
    batch: TrainingBatch,
    subnet: Subnet,
    config: TrainingConfig,
) -> Tensor:
    if config.distillation == "none":
        return student.frames.new_zeros(())
    if config.distillation == "ctc":
        return frame_distillation(teacher.ctc_log_probs, student.ctc_log_probs, lengths)
    starts, band = teacher.lattice.starts, teacher.lattice.token_log_probs.shape[2]
    token, blank = band_log_probs(
        student.frames,
        student.predictions,
        lambda f, p: model.join(f, p, subnet),
        batch.tokens,
        starts,
        band,
        batch.token_lengths,
        lengths,
    )
    index = starts[:, :, None] + torch.arange(band, device=starts.device)
    frames = torch.arange(starts.shape[1], device=starts.device)
    valid = (index <= batch.token_lengths[:, None, None]) & (frames < lengths[:, None])[..., None]
    taught = (teacher.lattice.token_log_probs, teacher.lattice.blank_log_probs)
    return lattice_distillation(taught, (token, blank), valid)
