"""The objective of BEST-RQ: server and device predict the codes of masked mel frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dualmode.config import RandomQuantizerConfig, Recipe
from dualmode.data.batches import Batch, BatchSource, hidden_of
from dualmode.data.spans import Hidden
from dualmode.losses.contrastive import perplexities
from dualmode.losses.masked_prediction import Prediction, masked_prediction_loss
from dualmode.model.best_rq import BestRq
from dualmode.model.subnet import Subnet, trained_subnets
from dualmode.training.card import write_pretraining_card
from dualmode.training.checkpoint import Progress
from dualmode.training.masked_frames import little_used, mean_metrics, right_shares
from dualmode.training.objective import Losses, Part, Step, ValidationResult
from dualmode.training.picture import draw_masked_prediction

_EARLY = 0.1  # share of a run before predictions are compared with the most frequent code


@dataclass(frozen=True)
class PredictionLosses(Losses):
    """Metrics of one recogniser, averaged over masked frames and codebooks and detached: loss in
    nats, share of right codes."""

    cross_entropy: Tensor
    accuracy: Tensor


@dataclass(frozen=True)
class TargetUse(Losses):
    """``perplexity`` (G,) of the targets of a step, for each codebook."""

    perplexity: Tensor


class BestRqPretraining:
    """BEST-RQ as an :class:`dualmode.training.objective.Objective`."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def build(self) -> BestRq:
        recipe = self._recipe
        return BestRq(recipe.model, recipe.pruning, recipe.pretraining, recipe.training.seed)

    def targets(self, batch: Batch) -> Tensor:
        return hidden_of(batch).valid.sum(dim=1)

    def accumulate(
        self, model: BestRq, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> dict[str, PredictionLosses | TargetUse]:
        return accumulate(model, batch, subnets, step)

    def measure(self, model: BestRq, dev: BatchSource, share: float) -> Tensor:
        return measure(model, dev, trained_subnets(self._recipe))

    def judge(self, sums: Tensor, share: float) -> ValidationResult:
        config = self._recipe.pretraining.random_quantizer
        return judge(sums, self._recipe.training.subnets, config, share)

    def settled(self, share: float) -> bool:
        """Always True: no metric of pre-training selects a checkpoint."""
        return True

    def describe(self, values: dict[str, float]) -> str:
        names = self._recipe.training.subnets
        losses = " ".join(f"{name} {values[f'{name}/cross_entropy']:.3f}" for name in names)
        right = " ".join(f"{values[f'{name}/accuracy']:.1%}" for name in names)
        return f"codes: {losses}  right {right}"

    def draw(self, folder: Path) -> Path | None:
        return draw_masked_prediction(folder, self._recipe.pretraining.random_quantizer)

    def write_card(
        self, out: Path, model: BestRq, recipe: Recipe, progress: Progress, data_seconds: float
    ) -> None:
        write_pretraining_card(out, model, recipe, progress, data_seconds)


def accumulate(
    model: BestRq, batch: Batch, subnets: Mapping[str, Subnet], step: Step
) -> dict[str, PredictionLosses | TargetUse]:
    """Accumulate the gradients of all ``subnets`` (Chiu et al., arXiv 2202.01855).

    Latents and targets are the same for all subnets, so they are computed once; targets have no
    gradient, latents receive theirs at the end. The graph of a subnet is freed before the next is
    built. In a split step each subnet encodes its own utterances.
    """
    hidden = hidden_of(batch)
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    targets = model.targets(batch.features, batch.feature_lengths, hidden.frames)
    leaf = latents.detach().requires_grad_(latents.requires_grad)  # False if it is frozen
    losses: dict[str, PredictionLosses | TargetUse] = {}
    everything = torch.arange(len(lengths))
    for name, subnet in subnets.items():
        part = step.parts[name] if step.parts else Part(everything, step.denominators)
        rows, scale = part.rows.to(lengths.device), part.denominators.targets
        if not len(rows):
            losses[name] = PredictionLosses(*latents.new_zeros(2).unbind())
            continue
        own = (leaf.index_select(0, rows), lengths[rows], hidden.of(rows), targets[rows])
        found = _predict(model, *own, subnet)
        step.backward(found.loss / scale)
        losses[name] = PredictionLosses(found.loss.detach() / scale, found.correct / scale)
        del found
    if latents.requires_grad:
        torch.autograd.backward([latents], [leaf.grad])
    used = step.total(_counts(targets, hidden.valid, model.quantizer.codewords.shape[1]))
    losses["codes"] = TargetUse(perplexities(used / used.sum(dim=-1, keepdim=True).clamp_min(1)))
    return losses


def _predict(
    model: BestRq,
    latents: Tensor,
    lengths: Tensor,
    hidden: Hidden,
    targets: Tensor,
    subnet: Subnet,
) -> Prediction:
    masked = model.hide(latents, hidden.mask(latents.shape[1]))
    logits = model.logits(model.encode(masked, lengths, subnet), hidden.frames)
    return masked_prediction_loss(logits, targets, hidden.valid)


def _counts(targets: Tensor, valid: Tensor, entries: int) -> Tensor:
    """How often each codeword (G, E) is the target of a masked frame, float64."""
    codes = targets.flatten(0, 1).T
    counts = torch.zeros(len(codes), entries, dtype=torch.float64, device=codes.device)
    return counts.scatter_add_(1, codes, valid.flatten().double().expand_as(codes).contiguous())


@torch.inference_mode()
def measure(model: BestRq, dev: BatchSource, subnets: Mapping[str, Subnet]) -> Tensor:
    """Sums over one pass of ``dev``: number of masked frames; loss and right codes of each subnet;
    and how often each codeword was a target."""
    place = model.hidden.device
    codebooks, entries = model.quantizer.codewords.shape[:2]
    sums = torch.zeros(1 + 2 * len(subnets), dtype=torch.float64)
    used = torch.zeros(codebooks, entries, dtype=torch.float64)
    for batch, _ in dev.batches():
        moved = batch.to(place)
        hidden = hidden_of(moved)
        latents, lengths = model.latents(moved.features, moved.feature_lengths)
        targets = model.targets(moved.features, moved.feature_lengths, hidden.frames)
        found = [
            _predict(model, latents, lengths, hidden, targets, subnet)
            for subnet in subnets.values()
        ]
        numbers = [hidden.valid.sum(), *(part for one in found for part in one)]
        sums += torch.stack([number.double().cpu() for number in numbers])
        used += _counts(targets, hidden.valid, entries).cpu()
    return torch.cat([sums, used.flatten()])


def judge(
    sums: Tensor, names: Sequence[str], config: RandomQuantizerConfig, share: float
) -> ValidationResult:
    """The validation result from the sums of :func:`measure` over subnets ``names``, with a warning
    for each codebook that is hardly used, and for predictions without content.

    Raises:
        DataError: no frame could be masked.
    """
    terms = ("cross_entropy", "accuracy")
    values, shares, in_use = mean_metrics(sums, names, terms, config.codebooks, config.entries)
    most = float(shares.amax(dim=1).mean())
    values["dev/codes/most_frequent"] = most
    right = right_shares(values, names)
    codes = "/".join(f"{perplexity:.0f}" for perplexity in in_use)
    return ValidationResult(
        values,
        score=None,
        line=f"right codes  {right}  most frequent {most:.1%}  codes {codes} of {config.entries}",
        warnings=[
            *_unused_codes(in_use, config),
            *(_empty_predictions(values, names, most) if share > _EARLY else ()),
        ],
    )


def _unused_codes(in_use: list[float], config: RandomQuantizerConfig) -> list[str]:
    return [
        f"codebook {number} uses {perplexity:.1f} of {config.entries} codewords, so its targets "
        "say little: begin again with another training.seed, or with fewer "
        "pretraining.random_quantizer.entries if data.dev is small"
        for number, perplexity in little_used(in_use, config.entries)
    ]


def _empty_predictions(values: dict[str, float], names: Sequence[str], most: float) -> list[str]:
    """Warnings for subnets that are right no more often than the most frequent code would be."""
    return [
        f"{name} predicts no better than the most frequent code ({most:.1%}): lower "
        "training.learning_rate, or raise training.warmup_steps"
        for name in names
        if values[f"dev/{name}/accuracy"] <= most + 1e-9
    ]
