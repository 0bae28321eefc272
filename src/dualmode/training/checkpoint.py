"""Checkpoints of a run: one safetensors file, replaced whole, with a JSON header.

Holds all that the next step depends on: weights and masks, averaged weights, the optimiser's
moments, the position in the data. Random numbers need no saving: each step seeds its own from
(seed, step, process).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dualmode.config import Recipe
from dualmode.data.left_out import Problem
from dualmode.errors import CheckpointError, ModelError, RecipeError
from dualmode.model.backbone import Backbone
from dualmode.model.directory import pack_state, replace_tensors, unpack_state
from dualmode.recipe_files import parse_recipe

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: steps of the optimiser done.
        epoch, batch: position in the data of the next batch; the step is its third part.
        seconds: time spent training, validation included, over all sittings.
        audio_seconds: audio trained on.
        masks_fixed: whether the masks are final.
        best: lowest mean WER of server and device since the masks were fixed.
        skipped: steps dropped for gradients that were not finite.
        sparsity_kept: share of the target sparsity that masks taken from another model have.
        unreadable: utterances of the training set that were left out of steps so far.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0
    masks_fixed: bool = False
    best: float | None = None
    skipped: int = 0
    sparsity_kept: float = 0.0
    unreadable: tuple[Problem, ...] = ()


def save_checkpoint(
    path: Path,
    model: Backbone,
    average: Backbone,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    recipe: Recipe,
) -> None:
    """Write everything needed to go on, atomically."""
    tensors = {f"model/{k}": v for k, v in pack_state(model).items()}
    tensors |= {f"average/{k}": v for k, v in pack_state(average).items()}
    names = [name for name, _ in model.named_parameters()]
    for name, parameter in zip(names, model.parameters(), strict=True):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    header = {"progress": json.dumps(asdict(progress)), "recipe": recipe.to_yaml()}
    replace_tensors(path, tensors, header)


def load_checkpoint(
    path: Path,
    model: Backbone,
    average: Backbone,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
) -> Progress:
    """Put a checkpoint back and say how far it was.

    Raises:
        CheckpointError: the file is corrupt, or belongs to a run of another recipe.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); delete it to start the run again"
        ) from None
    if not _began_with(header.get("recipe", ""), recipe):
        raise CheckpointError(
            f"{path} belongs to a run of another recipe; give another --out, the recipe that the "
            f"run began with, or start again with --fresh or by deleting {path.parent.parent}"
        )
    try:
        unpack_state(model, _under(tensors, "model/"))
        unpack_state(average, _under(tensors, "average/"))
        _restore_moments(model, optimizer, _under(tensors, "optimizer/"))
        return TypeAdapter(Progress).validate_json(header["progress"])
    except (ModelError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def same_training(first: Recipe, second: Recipe) -> bool:
    """Whether both recipes describe one run.

    Its folders may have moved since: a path that names nothing any more may be another one that
    ends alike. The numbers of processes and of data workers may change, for they decide how fast a
    run is and how much memory it takes; to the bit a run repeats with the same number of processes.
    """
    ours, theirs = _paths(first), _paths(second)
    if len(ours) != len(theirs) or not all(map(_same_place, ours, theirs)):
        return False
    return _what_is_learnt(first) == _what_is_learnt(second)


def _paths(recipe: Recipe) -> list[Path | None]:
    data = recipe.data
    named = (*data.train, None, *data.dev, None, data.noise, recipe.init.model)
    return [None if path is None else Path(path) for path in named]


def _same_place(first: Path | None, second: Path | None) -> bool:
    if first is None or second is None:
        return first is second
    if first.resolve() == second.resolve():
        return True
    return first.name == second.name and not (first.exists() and second.exists())


def _what_is_learnt(recipe: Recipe) -> Recipe:
    """The recipe without paths, and without what only decides where the work is done."""
    data = recipe.data.model_copy(update={"train": (), "dev": (), "noise": None, "workers": 0})
    init = recipe.init.model_copy(update={"model": None})
    training = recipe.training.model_copy(update={"processes": None})
    return recipe.model_copy(update={"data": data, "init": init, "training": training})


def _began_with(stored: str, recipe: Recipe) -> bool:
    """Whether a run began with ``recipe``; keys that are newer than the run count as defaults."""
    try:
        return same_training(parse_recipe(yaml.safe_load(stored), "checkpoint"), recipe)
    except (RecipeError, yaml.YAMLError):
        return False


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_moments(
    model: Backbone, optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    for path, value in moments.items():
        key, name = path.split("/", 1)
        parameter = parameters[name]
        if value.numel() != 1 and value.shape != parameter.shape:
            raise ValueError(f"{path} has the shape {tuple(value.shape)}")
        optimizer.state[parameter][key] = value.to(parameter.device)
