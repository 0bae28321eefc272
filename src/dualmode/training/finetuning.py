"""The fine-tuning objective: one supernet step of server, device and perhaps a sampled subnet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.config import Recipe, TrainingConfig
from dualmode.data.batches import Batch, BatchSource
from dualmode.losses.distillation import frame_distillation, lattice_distillation
from dualmode.losses.transducer_loss import TransducerLoss, band_log_probs, pruned_transducer_loss
from dualmode.model.subnet import Subnet
from dualmode.model.supernet import Supernet, trained_subnets
from dualmode.text import Tokens
from dualmode.training.card import write_card
from dualmode.training.checkpoint import Progress
from dualmode.training.objective import LossDenominators, Step, ValidationResult
from dualmode.training.picture import draw_training
from dualmode.training.schedule import Weights, loss_weights
from dualmode.training.validation import word_error_counts


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


class Finetuning:
    """Fine-tuning as an :class:`dualmode.training.objective.Objective`."""

    def __init__(self, recipe: Recipe, tokens: Tokens) -> None:
        self._recipe, self._tokens = recipe, tokens

    def build(self) -> Supernet:
        return Supernet(self._tokens.size, self._recipe.model, self._recipe.pruning)

    def targets(self, batch: Batch) -> float:
        return float(batch.token_lengths.sum())

    def accumulate(
        self, model: Supernet, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> dict[str, SubnetLosses]:
        config = self._recipe.training
        weights = loss_weights(step.share, config)
        return accumulate(model, batch, subnets, config, weights, step.denominators, step.backward)

    def measure(self, model: Supernet, dev: BatchSource, share: float) -> Tensor:
        return word_error_counts(
            model,
            dev,
            self._tokens,
            trained_subnets(self._recipe),
            blank_penalty=self._recipe.decoding.blank_penalty,
            by_ctc=not self.settled(share),
        )

    def judge(self, sums: Tensor, share: float) -> ValidationResult:
        *errors, words = sums.tolist()
        names = self._recipe.training.subnets
        rates = {name: count / words for name, count in zip(names, errors, strict=True)}
        return ValidationResult(
            {f"wer/{name}": rate for name, rate in rates.items()},
            score=sum(rates.values()) / len(rates),
            line="WER  " + "  ".join(f"{name} {rate:.2%}" for name, rate in rates.items()),
        )

    def settled(self, share: float) -> bool:
        """Whether the transducer has its full weight; until then the CTC head is measured."""
        return loss_weights(share, self._recipe.training).transducer == 1

    def describe(self, step: int, values: dict[str, float]) -> str:
        names = self._recipe.training.subnets
        head = "transducer" if values[f"{names[0]}/transducer"] else "ctc"
        losses = " ".join(f"{name} {values[f'{name}/{head}']:.3f}" for name in names)
        return f"{head}: {losses}"

    def draw(self, folder: Path) -> Path | None:
        return draw_training(folder)

    def write_card(
        self, out: Path, model: Supernet, recipe: Recipe, progress: Progress, data_seconds: float
    ) -> None:
        write_card(out, model, recipe, progress, data_seconds)


def accumulate(
    model: Supernet,
    batch: TrainingBatch,
    subnets: Mapping[str, Subnet],
    config: TrainingConfig,
    weights: Weights,
    denominators: LossDenominators,
    backward: Callable[[Tensor], None],
) -> dict[str, SubnetLosses]:
    """Accumulate the gradients of ``subnets``, the first of which teaches the others.

    The latents are the same for all, so they are computed once and take their gradient at the
    end; each recogniser's graph is freed before the next is built.
    """
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    leaf = latents.detach().requires_grad_(latents.requires_grad)  # not where it is frozen
    losses: dict[str, SubnetLosses] = {}
    teacher: _Pass | None = None
    for name, subnet in subnets.items():
        result = _forward(model, leaf, lengths, batch, subnet, config, weights)
        taught = leaf.new_zeros(())
        if teacher is not None:
            taught = _distill(model, teacher, result, lengths, batch, subnet, config)
        measured = _measure(result, lengths, batch, taught, denominators)
        backward(
            weights.transducer * (measured.transducer + config.simple_weight * measured.simple)
            + weights.ctc * measured.ctc
            + config.distillation_weight * measured.distillation
        )
        losses[name] = SubnetLosses(*(getattr(measured, f.name).detach() for f in fields(measured)))
        teacher = teacher or _detached(result)
        del result, measured
    if latents.requires_grad:
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
    result: _Pass,
    lengths: Tensor,
    batch: TrainingBatch,
    taught: Tensor,
    denominators: LossDenominators,
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
        transducer / denominators.targets,
        simple / denominators.targets,
        ctc / denominators.targets,
        taught / denominators.frames,
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
