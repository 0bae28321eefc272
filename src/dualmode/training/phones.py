"""The objective of classifying phones: server and device learn what is said in each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dualmode.config import Recipe
from dualmode.data.batches import Batch, BatchSource, phones_in
from dualmode.data.phones import targets_per_frame
from dualmode.errors import DataError
from dualmode.features import Framing
from dualmode.losses.frame_classification import Classified, frame_classification_loss
from dualmode.model.phones import PhoneClassifier
from dualmode.model.subnet import Subnet, trained_subnets
from dualmode.training.card import write_pretraining_card
from dualmode.training.checkpoint import Progress
from dualmode.training.masked_frames import right_shares
from dualmode.training.objective import Losses, Part, Step, ValidationResult
from dualmode.training.picture import draw_phones


@dataclass(frozen=True)
class PhoneLosses(Losses):
    """Metrics of one recogniser, averaged over targets and detached: loss in nats, share of right
    phones."""

    cross_entropy: Tensor
    accuracy: Tensor


class PhonePretraining:
    """Classification of aligned phones, as an :class:`dualmode.training.objective.Objective`.

    The targets are those of hybrid recognisers (Hinton et al., "Deep neural networks for acoustic
    modeling in speech recognition", IEEE Signal Processing Magazine 2012).
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def build(self) -> PhoneClassifier:
        recipe = self._recipe
        times = targets_per_frame(Framing(recipe.model.frame_ms))
        phones = len(recipe.pretraining.phones)
        return PhoneClassifier(recipe.model, recipe.pruning, phones, times)

    def targets(self, batch: Batch) -> Tensor:
        return (phones_in(batch) >= 0).sum(dim=(1, 2))

    def accumulate(
        self, model: PhoneClassifier, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> dict[str, PhoneLosses]:
        return accumulate(model, batch, subnets, step)

    def measure(self, model: PhoneClassifier, dev: BatchSource, share: float) -> Tensor:
        return measure(
            model, dev, trained_subnets(self._recipe), len(self._recipe.pretraining.phones)
        )

    def judge(self, sums: Tensor, share: float) -> ValidationResult:
        return judge(sums, self._recipe.training.subnets)

    def settled(self, share: float) -> bool:
        """Always True: no metric of pre-training selects a checkpoint."""
        return True

    def describe(self, values: dict[str, float]) -> str:
        names = self._recipe.training.subnets
        losses = " ".join(f"{name} {values[f'{name}/cross_entropy']:.3f}" for name in names)
        right = " ".join(f"{values[f'{name}/accuracy']:.1%}" for name in names)
        return f"phones: {losses}  right {right}"

    def draw(self, folder: Path) -> Path | None:
        return draw_phones(folder, len(self._recipe.pretraining.phones))

    def write_card(
        self,
        out: Path,
        model: PhoneClassifier,
        recipe: Recipe,
        progress: Progress,
        data_seconds: float,
    ) -> None:
        write_pretraining_card(out, model, recipe, progress, data_seconds)


def accumulate(
    model: PhoneClassifier, batch: Batch, subnets: Mapping[str, Subnet], step: Step
) -> dict[str, PhoneLosses]:
    """Accumulate the gradients of all ``subnets``.

    Latents are the same for all subnets, so they are computed once and receive their gradients at
    the end. The graph of a subnet is freed before the next is built. In a split step each subnet
    encodes its own utterances.
    """
    targets = phones_in(batch)
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    leaf = latents.detach().requires_grad_(latents.requires_grad)  # False if it is frozen
    losses: dict[str, PhoneLosses] = {}
    everything = torch.arange(len(lengths))
    for name, subnet in subnets.items():
        part = step.parts[name] if step.parts else Part(everything, step.denominators)
        rows, scale = part.rows.to(lengths.device), part.denominators.targets
        if not len(rows):
            losses[name] = PhoneLosses(*latents.new_zeros(2).unbind())
            continue
        found = _classify(model, leaf.index_select(0, rows), lengths[rows], targets[rows], subnet)
        step.backward(found.loss / scale)
        losses[name] = PhoneLosses(found.loss.detach() / scale, found.correct / scale)
        del found
    if latents.requires_grad:
        torch.autograd.backward([latents], [leaf.grad])
    return losses


def _classify(
    model: PhoneClassifier, latents: Tensor, lengths: Tensor, targets: Tensor, subnet: Subnet
) -> Classified:
    logits = model.logits(model.encode(latents, lengths, subnet))
    return frame_classification_loss(logits[:, : targets.shape[1]], targets)


@torch.inference_mode()
def measure(
    model: PhoneClassifier, dev: BatchSource, subnets: Mapping[str, Subnet], phones: int
) -> Tensor:
    """Sums over one pass of ``dev``: loss and right phones of each subnet; and how often each of
    ``phones`` was a target."""
    sums = torch.zeros(2 * len(subnets), dtype=torch.float64)
    used = torch.zeros(phones, dtype=torch.float64)
    for batch, _ in dev.batches():
        moved = batch.to(model.classify.weight.device)
        targets = phones_in(moved)
        latents, lengths = model.latents(moved.features, moved.feature_lengths)
        found = [_classify(model, latents, lengths, targets, one) for one in subnets.values()]
        sums += torch.stack([part.double().cpu() for one in found for part in one])
        used += torch.bincount(targets[targets >= 0].cpu(), minlength=phones)
    return torch.cat([sums, used])


def judge(sums: Tensor, names: Sequence[str]) -> ValidationResult:
    """The validation result from the sums of :func:`measure` over subnets ``names``.

    Raises:
        DataError: no frame of the development set has a phone.
    """
    keys = [f"dev/{name}/{term}" for name in names for term in ("cross_entropy", "accuracy")]
    used = sums[len(keys) :]
    targets = float(used.sum())
    if not targets:
        raise DataError("no frame of data.dev has a phone of pretraining.phones")
    values = dict(zip(keys, (sums[: len(keys)] / targets).tolist(), strict=True))
    most = values["dev/phones/most_frequent"] = float(used.max()) / targets
    return ValidationResult(
        values,
        score=None,
        line=f"right phones  {right_shares(values, names)}  most frequent {most:.1%}",
    )
