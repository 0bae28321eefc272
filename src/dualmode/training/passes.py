"""The pass of one recogniser over utterances: from frames to losses, and distillation."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.config import TrainingConfig
from dualmode.losses.distillation import frame_distillation, lattice_distillation
from dualmode.losses.joint import length_mask
from dualmode.losses.transducer_loss import TransducerLoss, band_log_probs, pruned_transducer_loss
from dualmode.model.subnet import Subnet
from dualmode.model.supernet import Supernet
from dualmode.training.objective import LossDenominators, Losses
from dualmode.training.schedule import Weights


class TrainingBatch(Protocol):
    """The tensors of a :class:`dualmode.data.batches.Batch` that fine-tuning needs."""

    @property
    def features(self) -> Tensor: ...
    @property
    def feature_lengths(self) -> Tensor: ...
    @property
    def tokens(self) -> Tensor: ...
    @property
    def token_lengths(self) -> Tensor: ...


@dataclass(frozen=True)
class Utterances:
    """Lengths and transcripts of utterances: ``frame_lengths`` (B,), tokens (B, U) and their
    lengths (B,); ``host_lengths`` (2, B) are copies of both lengths on the host."""

    frame_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    host_lengths: Tensor

    def of(self, rows: Tensor) -> Utterances:
        """Select utterances."""
        return Utterances(
            self.frame_lengths[rows],
            self.tokens[rows],
            self.token_lengths[rows],
            self.host_lengths[:, rows.cpu()],
        )


def utterances(batch: TrainingBatch, frame_lengths: Tensor) -> Utterances:
    """The utterances of a batch, with ``frame_lengths`` (B,) of their latents."""
    host = torch.stack([frame_lengths, batch.token_lengths]).cpu()
    return Utterances(frame_lengths, batch.tokens, batch.token_lengths, host)


@dataclass(frozen=True)
class SubnetLosses(Losses):
    """Losses of one recogniser in nats per token (distillation and pull: nats per frame)."""

    transducer: Tensor
    simple: Tensor
    ctc: Tensor
    distillation: Tensor
    output_pull: Tensor


@dataclass(frozen=True)
class Band:
    """The transducer's part of a pass: projected frames and predictions, and the loss with
    ``simple`` and ``pruned`` of shape (B,)."""

    frames: Tensor
    predictions: Tensor
    loss: TransducerLoss


@dataclass(frozen=True)
class Pass:
    """Outputs for utterances: log-probabilities (B, T, V) and loss (B,) of the CTC head, and the
    transducer's part if it is trained."""

    ctc_log_probs: Tensor
    ctc: Tensor
    band: Band | None

    def of(self, rows: slice) -> Pass:
        """Select utterances, except in the log-probabilities of the band."""
        band = self.band
        if band is not None:
            loss = replace(band.loss, simple=band.loss.simple[rows], pruned=band.loss.pruned[rows])
            band = Band(band.frames[rows], band.predictions[rows], loss)
        return Pass(self.ctc_log_probs[rows], self.ctc[rows], band)


def forward(
    model: Supernet,
    encoded: Tensor,
    targets: Utterances,
    subnet: Subnet,
    config: TrainingConfig,
    weights: Weights,
) -> Pass:
    """Run the heads of ``subnet`` on frames (B, T, D) and compute its losses."""
    ctc_log_probs = model.ctc_log_probs(encoded)
    ctc = F.ctc_loss(
        ctc_log_probs.transpose(0, 1),
        targets.tokens,
        targets.host_lengths[0],  # torch would copy lengths on the device and synchronise
        targets.host_lengths[1],
        reduction="none",
        zero_infinity=True,
    )
    if weights.transducer == 0:
        return Pass(ctc_log_probs, ctc, None)
    predicted = model.predict(targets.tokens, subnet)
    frames = model.project_frames(encoded, subnet)
    predictions = model.project_predictions(predicted, subnet)
    loss = pruned_transducer_loss(
        frames,
        predictions,
        lambda f, p: model.join(f, p, subnet),
        model.simple_frames(encoded),
        model.simple_predictions(predicted),
        targets.tokens,
        targets.frame_lengths,
        targets.token_lengths,
        band=config.band,
        reduction="none",
    )
    return Pass(ctc_log_probs, ctc, Band(frames, predictions, loss))


def measure(
    result: Pass, taught: Tensor, pulled: Tensor, denominators: LossDenominators
) -> SubnetLosses:
    """Losses of a pass; ``taught`` and ``pulled``, the divergences from server and from the
    original recogniser, are summed over frames."""
    transducer = simple = taught.new_zeros(())
    if result.band is not None:
        transducer, simple = result.band.loss.pruned.sum(), result.band.loss.simple.sum()
    return SubnetLosses(
        transducer / denominators.targets,
        simple / denominators.targets,
        result.ctc.sum() / denominators.targets,
        taught / denominators.frames,
        pulled / denominators.frames,
    )


def weighted(losses: SubnetLosses, config: TrainingConfig, weights: Weights) -> Tensor:
    """The weighted sum of the losses, which is minimised."""
    return (
        weights.transducer * (losses.transducer + config.simple_weight * losses.simple)
        + weights.ctc * losses.ctc
        + config.distillation_weight * losses.distillation
        + weights.output_pull * losses.output_pull
    )


def detached_losses(losses: SubnetLosses) -> SubnetLosses:
    """The same losses, detached."""
    return SubnetLosses(*(getattr(losses, term.name).detach() for term in fields(losses)))


def no_losses(like: Tensor) -> SubnetLosses:
    """Zero losses, of a recogniser without utterances in a step."""
    return SubnetLosses(*(like.new_zeros(()) for _ in fields(SubnetLosses)))


def detached(result: Pass) -> Pass:
    """The same pass, detached."""
    band = result.band
    if band is not None:
        loss = replace(
            band.loss,
            simple=band.loss.simple.detach(),
            pruned=band.loss.pruned.detach(),
            token_log_probs=band.loss.token_log_probs.detach(),
            blank_log_probs=band.loss.blank_log_probs.detach(),
        )
        band = Band(band.frames.detach(), band.predictions.detach(), loss)
    return Pass(result.ctc_log_probs.detach(), result.ctc.detach(), band)


def distill(
    model: Supernet,
    teacher: Pass,
    student: Pass,
    targets: Utterances,
    subnet: Subnet,
    config: TrainingConfig,
) -> Tensor:
    """Distillation loss of ``student``, a pass of ``subnet``, summed over frames."""
    lengths = targets.frame_lengths
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
        targets.tokens,
        starts,
        band,
        targets.token_lengths,
        lengths,
    )
    index = starts[:, :, None] + torch.arange(band, device=starts.device)
    inside = length_mask(starts.shape[1], lengths)
    valid = (index <= targets.token_lengths[:, None, None]) & inside[..., None]
    return lattice_distillation((taught.token_log_probs, taught.blank_log_probs), learnt, valid)
