"""Adapting without forgetting: pulls towards the recogniser that a run started from.

Two pulls can be combined, for when the original training data are not at hand. *Weights* are pulled
towards their initial values (L2-SP: Li et al. 2018, arXiv 1802.01483), decoupled from the gradient
like AdamW's weight decay. *Outputs* are pulled towards those of the original recogniser on the new
data (learning without forgetting: Li and Hoiem 2016, arXiv 1606.09282).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualmode.config import Recipe
from dualmode.errors import ModelError
from dualmode.losses.distillation import frame_distillation
from dualmode.model.directory import load_model
from dualmode.model.subnet import Subnet, trained_subnets
from dualmode.model.supernet import Supernet
from dualmode.training.initialize import recognises


@dataclass(frozen=True)
class Original:
    """The recogniser that a run started from; it is never changed."""

    model: Supernet
    subnets: Mapping[str, Subnet]

    def subnet(self, name: str) -> Subnet:
        """The original's recogniser of this name, or its first one."""
        return self.subnets.get(name) or next(iter(self.subnets.values()))

    @torch.no_grad()
    def hear(self, features: Tensor, feature_lengths: Tensor) -> Heard:
        """Its latents of a batch of features (B, F, M) with lengths (B,)."""
        return Heard(self, *self.model.latents(features, feature_lengths))


@dataclass(frozen=True)
class Heard:
    """What the original has heard: latents (B, T, D) and their lengths (B,)."""

    original: Original
    latents: Tensor
    lengths: Tensor

    def distance(self, name: str, log_probs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Sum over frames of the KL divergence of CTC posteriors (b, T, V) of the recogniser
        ``name`` from those of the original for the same ``rows`` (b,), by default all."""
        latents, lengths = self.latents, self.lengths
        if rows is not None:
            latents, lengths = latents[rows], lengths[rows]
        with torch.no_grad():
            model = self.original.model
            encoded = model.encode(latents, lengths, self.original.subnet(name))
            target = model.ctc_log_probs(encoded)
        return frame_distillation(target, log_probs, lengths)


def read_original(recipe: Recipe, device: torch.device) -> Original | None:
    """The recogniser that pulls weights or outputs of a run; None if the recipe has no pull.

    Raises:
        ModelError: the recipe has a pull, but no recogniser to start from.
    """
    init = recipe.init
    if init.weight_pull == init.output_pull == 0:
        return None
    folder = Path(init.model) if init.model else None
    if folder is None or not recognises(folder):
        raise ModelError(
            "init.weight_pull and init.output_pull need a recogniser to start from: give its "
            "directory, or the name of a shipped model, with --init"
        )
    loaded = load_model(folder, device)
    model = loaded.model.requires_grad_(False)
    return Original(model, trained_subnets(loaded.recipe))


@torch.no_grad()
def pull_weights(
    groups: Iterable[Mapping[str, Any]], anchors: Mapping[Tensor, Tensor], strength: float
) -> None:
    """Move the parameters of the optimiser's ``groups`` towards their ``anchors``, by the share
    learning rate times ``strength``."""
    for group in groups:
        share = min(1.0, group["lr"] * strength)
        targets = [anchors[parameter] for parameter in group["params"]]
        torch._foreach_lerp_(group["params"], targets, share)
