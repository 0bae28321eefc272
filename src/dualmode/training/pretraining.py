"""The objective of wav2vec 2.0: server and device predict the same quantised latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dualmode.config import PretrainingConfig, Recipe
from dualmode.data.batches import Batch, BatchSource, hidden_of
from dualmode.data.spans import Hidden
from dualmode.losses.contrastive import (
    Contrast,
    contrastive_loss,
    diversity_loss,
    perplexities,
)
from dualmode.losses.joint import length_mask
from dualmode.model.quantizer import Codes
from dualmode.model.subnet import Subnet, trained_subnets
from dualmode.model.wav2vec import Wav2Vec
from dualmode.training.card import write_pretraining_card
from dualmode.training.checkpoint import Progress
from dualmode.training.masked_frames import little_used, mean_metrics, right_shares
from dualmode.training.objective import LossDenominators, Losses, Part, Step, ValidationResult
from dualmode.training.picture import draw_pretraining
from dualmode.training.schedule import gumbel_temperature

_LEAST_MARGIN = 0.02  # least difference of the cosines with targets and with distractors
_EARLY = 0.1  # share of a run before the margin is checked


@dataclass(frozen=True)
class ContrastLosses(Losses):
    """Metrics of one recogniser, averaged over masked frames and detached: loss in nats, share of
    right choices, cosines with targets and with distractors."""

    contrastive: Tensor
    accuracy: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor


@dataclass(frozen=True)
class CodeLosses(Losses):
    """Metrics of the quantizer, detached; ``perplexity`` (G,) of each codebook."""

    diversity: Tensor
    penalty: Tensor
    perplexity: Tensor


class Pretraining:
    """wav2vec 2.0 as an :class:`dualmode.training.objective.Objective`."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def build(self) -> Wav2Vec:
        return Wav2Vec(self._recipe.model, self._recipe.pruning, self._recipe.pretraining)

    def targets(self, batch: Batch) -> Tensor:
        return hidden_of(batch).valid.sum(dim=1)

    def accumulate(
        self, model: Wav2Vec, batch: Batch, subnets: Mapping[str, Subnet], step: Step
    ) -> dict[str, ContrastLosses | CodeLosses]:
        temperature = gumbel_temperature(step.share, self._recipe.pretraining)
        return accumulate(model, batch, subnets, self._recipe.pretraining, temperature, step)

    def measure(self, model: Wav2Vec, dev: BatchSource, share: float) -> Tensor:
        return measure(model, dev, trained_subnets(self._recipe), self._recipe.pretraining)

    def judge(self, sums: Tensor, share: float) -> ValidationResult:
        return judge(sums, self._recipe.training.subnets, self._recipe.pretraining, share)

    def settled(self, share: float) -> bool:
        """Always True: no metric of pre-training selects a checkpoint."""
        return True

    def describe(self, values: dict[str, float]) -> str:
        names = self._recipe.training.subnets
        numbers = range(1, self._recipe.pretraining.codebooks + 1)
        losses = " ".join(f"{name} {values[f'{name}/contrastive']:.3f}" for name in names)
        right = " ".join(f"{values[f'{name}/accuracy']:.0%}" for name in names)
        in_use = "/".join(f"{values[f'codes/perplexity_{number}']:.0f}" for number in numbers)
        return f"contrast: {losses}  right {right}  codes {in_use}"

    def draw(self, folder: Path) -> Path | None:
        return draw_pretraining(folder, self._recipe.pretraining)

    def write_card(
        self, out: Path, model: Wav2Vec, recipe: Recipe, progress: Progress, data_seconds: float
    ) -> None:
        write_pretraining_card(out, model, recipe, progress, data_seconds)


def accumulate(
    model: Wav2Vec,
    batch: Batch,
    subnets: Mapping[str, Subnet],
    config: PretrainingConfig,
    temperature: float,
    step: Step,
) -> dict[str, ContrastLosses | CodeLosses]:
    """Accumulate the gradients of all ``subnets`` (Baevski et al., arXiv 2006.11477).

    Latents and targets are the same for all subnets, so they are computed once and receive their
    gradients at the end. The graph of a subnet is freed before the next is built. In a split step
    each subnet encodes its own utterances; code diversity is computed over the whole batch.
    """
    hidden, denominators = hidden_of(batch), step.denominators
    latents, lengths = model.latents(batch.features, batch.feature_lengths)
    codes = model.quantize(latents, hidden.frames, hidden.noise, temperature)
    targets = model.targets(codes)
    latent_leaf = latents.detach().requires_grad_(latents.requires_grad)  # False if it is frozen
    target_leaf = targets.detach().requires_grad_()
    losses: dict[str, ContrastLosses | CodeLosses] = {}
    penalty, everything = latents.new_zeros(()), torch.arange(len(lengths))
    for name, subnet in subnets.items():
        part = step.parts[name] if step.parts else Part(everything, denominators)
        rows, own = part.rows.to(lengths.device), part.denominators
        if not len(rows):
            losses[name] = ContrastLosses(*latents.new_zeros(4).unbind())
            continue
        contrast = _contrast(
            model,
            latent_leaf.index_select(0, rows),
            target_leaf.index_select(0, rows),
            lengths[rows],
            hidden.of(rows),
            codes.entries[rows],
            subnet,
            config,
        )
        step.backward(contrast.loss / own.targets)
        losses[name] = ContrastLosses(*(number.detach() / own.targets for number in contrast))
        penalty = penalty + _penalty(latents.index_select(0, rows), lengths[rows], own)
        del contrast
    mean = _mean_probabilities(codes, hidden, step)
    diversity = diversity_loss(mean)
    # The mean is over all processes, so the gradient of each process's own frames is scaled up.
    shared = len(subnets) * config.diversity_weight * diversity * denominators.processes
    shared = shared + config.penalty_weight * penalty
    ends = [(targets, target_leaf.grad), (shared, None)]
    if latents.requires_grad:
        ends.append((latents, latent_leaf.grad))
    torch.autograd.backward([end for end, _ in ends], [gradient for _, gradient in ends])
    losses["codes"] = CodeLosses(
        diversity.detach(), penalty.detach() / len(subnets), perplexities(mean.detach())
    )
    return losses


def _contrast(
    model: Wav2Vec,
    latents: Tensor,
    targets: Tensor,
    lengths: Tensor,
    hidden: Hidden,
    entries: Tensor,
    subnet: Subnet,
    config: PretrainingConfig,
) -> Contrast:
    masked = model.hide(latents, hidden.mask(latents.shape[1]))
    predictions = model.predictions(model.encode(masked, lengths, subnet), hidden.frames)
    return contrastive_loss(
        predictions,
        targets,
        entries,
        hidden.distractors,
        hidden.valid,
        config.similarity_temperature,
    )


def _mean_probabilities(codes: Codes, hidden: Hidden, step: Step) -> Tensor:
    """Mean probabilities (G, E) over the masked frames of all processes; only those of this
    process have a gradient."""
    local = torch.where(hidden.valid[..., None, None], codes.probabilities, 0.0).sum(dim=(0, 1))
    others = step.total(local.detach()) - local.detach()
    return (local + others) / (step.denominators.targets * step.denominators.processes)


def _penalty(latents: Tensor, lengths: Tensor, denominators: LossDenominators) -> Tensor:
    """Mean square of the latents, which keeps them from growing."""
    valid = length_mask(latents.shape[1], lengths)
    squares = latents.float().square().mean(dim=-1)
    return torch.where(valid, squares, 0.0).sum() / denominators.frames


@torch.inference_mode()
def measure(
    model: Wav2Vec, dev: BatchSource, subnets: Mapping[str, Subnet], config: PretrainingConfig
) -> Tensor:
    """Sums over one pass of ``dev``: number of masked frames; loss, right choices and both cosines
    of each subnet; and how often each codeword was the most probable."""
    place = model.hidden.device
    sums = torch.zeros(1 + 4 * len(subnets), dtype=torch.float64)
    used = torch.zeros(config.codebooks, config.entries, dtype=torch.float64)
    for batch, _ in dev.batches():
        moved = batch.to(place)
        hidden = hidden_of(moved)
        latents, lengths = model.latents(moved.features, moved.feature_lengths)
        codes = model.quantize(latents, hidden.frames, None, 1.0)
        targets = model.targets(codes)
        contrasts = [
            _contrast(model, latents, targets, lengths, hidden, codes.entries, subnet, config)
            for subnet in subnets.values()
        ]
        numbers = [hidden.valid.sum(), *(part for one in contrasts for part in one)]
        sums += torch.stack([number.double().cpu() for number in numbers])
        entries = codes.entries[hidden.valid].cpu()
        for codebook in range(config.codebooks):
            used[codebook] += torch.bincount(entries[:, codebook], minlength=config.entries)
    return torch.cat([sums, used.flatten()])


def judge(
    sums: Tensor, names: Sequence[str], config: PretrainingConfig, share: float
) -> ValidationResult:
    """The validation result from the sums of :func:`measure` over subnets ``names``, with a warning
    for each codebook or prediction that has collapsed.

    Raises:
        DataError: no frame could be masked.
    """
    terms = ("contrastive", "accuracy", "positive_similarity", "negative_similarity")
    values, _, in_use = mean_metrics(sums, names, terms, config.codebooks, config.entries)
    right = right_shares(values, names)
    codes = "/".join(f"{perplexity:.0f}" for perplexity in in_use)
    return ValidationResult(
        values,
        score=None,
        line=f"right choices  {right}  codes {codes} of {config.entries}",
        warnings=[
            *_collapsed_codes(in_use, config),
            *(_collapsed_predictions(values, names) if share > _EARLY else ()),
        ],
    )


def _collapsed_codes(in_use: list[float], config: PretrainingConfig) -> list[str]:
    return [
        f"codebook {number} has collapsed: it uses {perplexity:.1f} of {config.entries} codewords; "
        "raise pretraining.diversity_weight or pretraining.gumbel_end, or lower "
        "training.learning_rate"
        for number, perplexity in little_used(in_use, config.entries)
    ]


def _collapsed_predictions(values: dict[str, float], names: Sequence[str]) -> list[str]:
    """Warnings for subnets whose predictions are nearly the same for all frames, and therefore as
    close to the distractors as to the target."""
    warnings = []
    for name in names:
        own, others = (values[f"dev/{name}/{of}_similarity"] for of in ("positive", "negative"))
        if own - others < _LEAST_MARGIN:
            warnings.append(
                f"{name}'s predictions have collapsed, or never began to distinguish frames: they "
                f"are as close to distractors ({others:.2f}) as to targets ({own:.2f}); lower "
                "training.learning_rate, or raise training.warmup_steps"
            )
    return warnings
