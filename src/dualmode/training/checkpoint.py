"""Checkpoints of a run: one safetensors file with a JSON header, replaced atomically.

A checkpoint contains everything that the next step depends on: weights and masks, averaged
weights, the optimiser's moments, the averages of the pruning score, and the position in the data.
Random states are not needed: each step has its own seed, derived from (seed, step, process).
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
from dualmode.training.pruning_scores import PruningScore

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        step: completed steps of the optimiser.
        epoch, batch: position of the next batch in the data, together with ``step``.
        seconds: training time including validation, over all resumptions.
        audio_seconds: audio trained on.
        masks_fixed: whether the masks are final.
        best: lowest mean WER of server and device since the masks were fixed.
        skipped: number of steps skipped because of gradients that were not finite.
        sparsity_kept: share of the target sparsity in masks taken from another model.
        unreadable: utterances of the training set that could not be read so far.
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
    score: PruningScore,
    progress: Progress,
    recipe: Recipe,
) -> None:
    """Write a checkpoint atomically."""
    tensors = {f"model/{k}": v for k, v in pack_state(model).items()}
    tensors |= {f"average/{k}": v for k, v in pack_state(average).items()}
    tensors |= {f"score/{k}": v for k, v in score.state().items()}
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
    score: PruningScore,
    recipe: Recipe,
) -> Progress:
    """Restore a checkpoint and return its progress.

    Raises:
        CheckpointError: the file is corrupt, or belongs to a run of another recipe.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); delete it to restart the run"
        ) from None
    if not _began_with(header.get("recipe", ""), recipe):
        raise CheckpointError(
            f"{path} belongs to a run of another recipe; use another --out or the run's recipe, or "
            f"restart with --fresh or after deleting {path.parent.parent}"
        )
    try:
        unpack_state(model, _under(tensors, "model/"))
        unpack_state(average, _under(tensors, "average/"))
        _restore_moments(model, optimizer, _under(tensors, "optimizer/"))
        score.restore(_under(tensors, "score/"))
        return TypeAdapter(Progress).validate_json(header["progress"])
    except (ModelError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def same_training(first: Recipe, second: Recipe) -> bool:
    """Whether both recipes describe the same run.

    Folders may have been moved: a path that no longer exists matches another path with the same
    ending. The numbers of processes and of data workers may differ, because they affect only speed
    and memory; bit-identical repetition needs the same number of processes.
    """
    first_paths, second_paths = _paths(first), _paths(second)
    if len(first_paths) != len(second_paths) or not all(
        map(_same_place, first_paths, second_paths)
    ):
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
    """The recipe without paths, processes and data workers."""
    data = recipe.data.model_copy(update={"train": (), "dev": (), "noise": None, "workers": 0})
    init = recipe.init.model_copy(update={"model": None})
    training = recipe.training.model_copy(update={"processes": None})
    return recipe.model_copy(update={"data": data, "init": init, "training": training})


def _began_with(stored: str, recipe: Recipe) -> bool:
    """Whether a run was started with ``recipe``; keys newer than the run count as defaults."""
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
