"""The fine-tuning objective: a supernet step of server, device and optionally a sampled subnet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dualmode.config import Recipe, TrainingConfig
from dualmode.data.batches import Batch, BatchSource
from dualmode.errors import DataError
from dualmode.model.subnet import Subnet, trained_subnets
from dualmode.model.supernet import Supernet
from dualmode.text import Tokens
from dualmode.training.card import write_card
from dualmode.training.checkpoint import Progress
from dualmode.training.objective import LossDenominators, Part, Step, ValidationResult
from dualmode.training.original import Heard, Original
from dualmode.training.passes import (
    Pass,
    SubnetLosses,
    TrainingBatch,
    Utterances,
    detached,
    detached_losses,
    distill,
    forward,
    measure,
    no_losses,
    utterances,
    weighted,
)
from dualmode.training.picture import draw_training
from dualmode.training.schedule import Weights, loss_weights
from dualmode.training.validation import word_error_counts


class Finetuning:
    """Fine-tuning as an :class:`dualmode.training.objective.Objective`."""

    def __init__(self, recipe: Recipe, tokens: Tokens, original: Original | None = None) -> None:
        self._recipe, self._tokens = recipe, tokens
        self._original = original if recipe.init.output_pull else None

    def build(self) -> Supernet:
        return Supernet(self._tokens.size, self._recipe.model, self._recipe.pruning)

    def targets(self, batch: Batch) -> Tensor:
        return batch.token_lengths

    def accumulate(
        self, model: Supernet, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> dict[str, SubnetLosses]:
        config = self._recipe.training
        pull = self._recipe.init.output_pull
        weights = replace(loss_weights(step.share, config), output_pull=pull)
        heard = None
        if self._original is not None:
            heard = self._original.hear(batch.features, batch.feature_lengths)
        parts, backward = step.parts, step.backward
        if parts is None:
            whole = step.denominators
            return accumulate(model, batch, subnets, config, weights, whole, backward, heard)
        return accumulate_split(model, batch, subnets, parts, config, weights, backward, heard)

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
        if words == 0:
            raise DataError("data.dev has no words to score: none of its files can be read")
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

    def describe(self, values: dict[str, float]) -> str:
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
    heard: Heard | None = None,
) -> dict[str, SubnetLosses]:
    """Accumulate the gradients of ``subnets``; the first is the teacher of the others.

    The latents are the same for all subnets, so they are computed once and receive their gradient
    at the end. The graph of a subnet is freed before the next is built.
    """
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    leaf = latents.detach().requires_grad_(latents.requires_grad)  # False if it is frozen
    targets = utterances(batch, lengths)
    losses: dict[str, SubnetLosses] = {}
    teacher: Pass | None = None
    for name, subnet in subnets.items():
        encoded = model.encode(leaf, lengths, subnet)
        result = forward(model, encoded, targets, subnet, config, weights)
        taught = leaf.new_zeros(())
        if teacher is not None:
            taught = distill(model, teacher, result, targets, subnet, config)
        pulled = heard.distance(name, result.ctc_log_probs) if heard else leaf.new_zeros(())
        measured = measure(result, taught, pulled, denominators)
        backward(weighted(measured, config, weights))
        losses[name] = detached_losses(measured)
        teacher = teacher or detached(result)
        del encoded, result, measured
    if latents.requires_grad:
        torch.autograd.backward([latents], [leaf.grad])
    return losses


def accumulate_split(
    model: Supernet,
    batch: TrainingBatch,
    subnets: Mapping[str, Subnet],
    parts: Mapping[str, Part],
    config: TrainingConfig,
    weights: Weights,
    backward: Callable[[Tensor], None],
    heard: Heard | None = None,
) -> dict[str, SubnetLosses]:
    """Accumulate the gradients of ``subnets``, each over its own part of the batch.

    If subnets share predictor, joiner and CTC head (``pruning.scope``), these process the frames of
    all subnets at once, because the lattice loops over frames, whatever the number of rows. With
    ``split_taught`` the first subnet, the teacher, also encodes the other parts, without a graph.
    """
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    leaf = latents.detach().requires_grad_(latents.requires_grad)  # False if it is frozen
    batch_targets = utterances(batch, lengths)
    losses = {name: no_losses(leaf) for name in subnets}
    active = [name for name in subnets if len(parts[name].rows)]
    teacher_name = next(iter(subnets))
    teaching = config.step_sharing == "split_taught" and config.distillation != "none"
    for names in [active] if model.pruning.scope == "encoder" else [[name] for name in active]:
        rows = [parts[name].rows.to(leaf.device) for name in names]
        encoded = [
            model.encode(leaf.index_select(0, part), lengths[part], subnets[name])
            for name, part in zip(names, rows, strict=True)
        ]
        targets, subnet = batch_targets.of(torch.cat(rows)), subnets[names[0]]
        result = forward(model, torch.cat(encoded), targets, subnet, config, weights)
        total, start = leaf.new_zeros(()), 0
        for name, part in zip(names, rows, strict=True):
            own = result.of(slice(start, start + len(part)))
            start += len(part)
            taught = leaf.new_zeros(())
            if teaching and name != teacher_name:
                of_part, teaching_subnet = batch_targets.of(part), subnets[teacher_name]
                teacher = _teach(model, leaf[part], of_part, teaching_subnet, config, weights)
                taught = distill(model, teacher, own, of_part, subnets[name], config)
            pulled = leaf.new_zeros(())
            if heard:
                pulled = heard.distance(name, own.ctc_log_probs, part)
            measured = measure(own, taught, pulled, parts[name].denominators)
            total = total + weighted(measured, config, weights)
            losses[name] = detached_losses(measured)
        backward(total)
        del encoded, result, own, measured, total
    if latents.requires_grad:
        torch.autograd.backward([latents], [leaf.grad])
    return losses


@torch.no_grad()
def _teach(
    model: Supernet,
    latents: Tensor,
    targets: Utterances,
    teacher: Subnet,
    config: TrainingConfig,
    weights: Weights,
) -> Pass:
    """The teacher's pass over utterances of another subnet, as far as distillation needs it."""
    if config.distillation != "lattice":
        weights = replace(weights, transducer=0.0)
    encoded = model.encode(latents, targets.frame_lengths, teacher)
    return forward(model, encoded, targets, teacher, config, weights)
