"""The fine-tuning objective: one supernet step of server, device and perhaps a sampled subnet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.config import TrainingConfig
from dualmode.losses.distillation import frame_distillation, lattice_distillation
from dualmode.losses.transducer import TransducerLoss, band_log_probs, pruned_transducer_loss
from dualmode.model.subnet import SERVER, Subnet
from dualmode.model.supernet import Supernet
from dualmode.training.schedule import Weights


class TrainingBatch(Protocol):
    """What the objective needs of a batch; shapes as in :class:`dualmode.data.batches.Batch`."""

    @property
    def features(self) -> Tensor: ...
    @property
    def feature_lengths(self) -> Tensor: ...
    @property
    def tokens(self) -> Tensor: ...
    @property
    def token_lengths(self) -> Tensor: ...


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
class _Band:
    """The transducer's part of a forward pass."""

    frames: Tensor
    predictions: Tensor
    loss: TransducerLoss


@dataclass(frozen=True)
class _Pass:
    """One recogniser's forward pass, kept for distillation."""

    ctc_log_probs: Tensor
    band: _Band | None


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
    weights: Weights,
    scale: Scale,
    backward: Callable[[Tensor], None],
) -> Losses:
    """Accumulate the gradients of server and of each of ``subnets`` (device first).

    Args:
        backward: called with each scalar loss; accumulates gradients.
    """
    return Losses(*accumulate(model, batch, (SERVER, *subnets), config, weights, scale, backward))


def accumulate(
    model: Supernet,
    batch: TrainingBatch,
    subnets: tuple[Subnet, ...],
    config: TrainingConfig,
    weights: Weights,
    scale: Scale,
    backward: Callable[[Tensor], None],
) -> list[SubnetLosses]:
    """Accumulate the gradients of ``subnets``, the first of which teaches the others.

    The latents are the same for all, so they are computed once and take their gradient at the
    end; each recogniser's graph is freed before the next is built.
    """
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    leaf = latents.detach().requires_grad_()
    losses: list[SubnetLosses] = []
    teacher: _Pass | None = None
    for subnet in subnets:
        result = _forward(model, leaf, lengths, batch, subnet, config, weights)
        taught = leaf.new_zeros(())
        if teacher is not None:
            taught = _distill(model, teacher, result, lengths, batch, subnet, config)
        measured = _measure(result, lengths, batch, taught, scale)
        backward(
            weights.transducer * (measured.transducer + config.simple_weight * measured.simple)
            + weights.ctc * measured.ctc
            + config.distillation_weight * measured.distillation
        )
        losses.append(SubnetLosses(*(getattr(measured, f.name).detach() for f in fields(measured))))
        teacher = teacher or _detached(result)
        del result, measured
    torch.autograd.backward([latents], [leaf.grad])
    return losses


def _forward(
    model: Supernet,
    latents: Tensor,
    lengths: Tensor,
    batch: TrainingBatch,
    subnet: Subnet,
    config: TrainingConfig,
    weights: Weights,
) -> _Pass:
    encoded = model.encode(latents, lengths, subnet)
    ctc_log_probs = model.ctc_log_probs(encoded)
    if weights.transducer == 0:
        return _Pass(ctc_log_probs, None)
    predicted = model.predict(batch.tokens, subnet)
    frames = model.project_frames(encoded, subnet)
    predictions = model.project_predictions(predicted, subnet)
    loss = pruned_transducer_loss(
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
    return _Pass(ctc_log_probs, _Band(frames, predictions, loss))


def _measure(
    result: _Pass, lengths: Tensor, batch: TrainingBatch, taught: Tensor, scale: Scale
) -> SubnetLosses:
    ctc = F.ctc_loss(
        result.ctc_log_probs.transpose(0, 1),
        batch.tokens,
        lengths,
        batch.token_lengths,
        reduction="sum",
        zero_infinity=True,
    )
    transducer = simple = ctc.new_zeros(())
    if result.band is not None:
        transducer, simple = result.band.loss.pruned, result.band.loss.simple
    return SubnetLosses(
        transducer / scale.tokens, simple / scale.tokens, ctc / scale.tokens, taught / scale.frames
    )


def _detached(result: _Pass) -> _Pass:
    """The teacher, freed of its graph."""
    ctc_log_probs, band = result.ctc_log_probs.detach(), result.band
    if band is None:
        return _Pass(ctc_log_probs, None)
    loss = replace(
        band.loss,
        simple=band.loss.simple.detach(),
        pruned=band.loss.pruned.detach(),
        token_log_probs=band.loss.token_log_probs.detach(),
        blank_log_probs=band.loss.blank_log_probs.detach(),
    )
    return _Pass(ctc_log_probs, _Band(band.frames.detach(), band.predictions.detach(), loss))


def _distill(
    model: Supernet,
    teacher: _Pass,
    student: _Pass,
    lengths: Tensor,
    batch: TrainingBatch,
    subnet: Subnet,
    config: TrainingConfig,
) -> Tensor:
    if config.distillation == "ctc":
        return frame_distillation(teacher.ctc_log_probs, student.ctc_log_probs, lengths)
    if config.distillation == "none" or teacher.band is None or student.band is None:
        return student.ctc_log_probs.new_zeros(())
    taught = teacher.band.loss
    starts, band = taught.starts, taught.token_log_probs.shape[2]
    learnt = band_log_probs(
        student.band.frames,
        student.band.predictions,
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
    return lattice_distillation((taught.token_log_probs, taught.blank_log_probs), learnt, valid)
