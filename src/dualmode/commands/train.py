"""``dualmode train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130


RecipeArgument = Annotated[str, typer.Argument(help="Name of a shipped recipe, or a .yaml file.")]
OutOption = Annotated[Path, typer.Option("--out", help="Model directory to write.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated."),
]
InitOption = Annotated[
    Path | None,
    typer.Option("--init", help="Model directory to start from, pre-trained or fine-tuned."),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Discard an earlier run in this directory.")
]


def train(
    recipe: RecipeArgument,
    out: OutOption,
    overrides: SetOption = None,
    init: InitOption = None,
    fresh: FreshOption = False,
) -> None:
    """Train a supernet: both recognisers in one run.

    Ctrl-C saves after the current step and stops; run the same command again to resume. The
    resolved recipe is stored with the model.

    \b
    Examples:
      dualmode train quickstart --out runs/mine
      dualmode train speech --out runs/speech --set training.steps=50000
      dualmode train speech --init runs/pretrained --out runs/speech
      dualmode train my.yaml --out runs/mine --set 'data.train=\\[data/train]' --fresh
      torchrun --nproc-per-node 2 -m dualmode train speech --out runs/speech
    """
    run(recipe, overrides, "finetune", out, init, fresh)


def run(
    recipe: str,
    overrides: list[str] | None,
    objective: str,
    out: Path,
    init: Path | None,
    fresh: bool,
) -> None:
    """Run a recipe for one objective; exit with status 130 if it was interrupted.

    Raises:
        RecipeError: the recipe is not valid, or is for the other objective.
    """
    from dualmode.display import make_console
    from dualmode.errors import RecipeError
    from dualmode.model.shipped import model_folder
    from dualmode.recipe_files import load_recipe
    from dualmode.training.launch import train as run_training

    changes = list(overrides or [])
    if init is not None:
        changes.append(f"init.model={json.dumps(str(model_folder(init)))}")
    resolved = load_recipe(recipe, changes)
    if resolved.training.objective != objective:
        command = {"finetune": "train", "pretrain": "pretrain"}[resolved.training.objective]
        raise RecipeError(f"{recipe} is a recipe for 'dualmode {command}'")
    result = run_training(resolved, out, fresh=fresh, console=make_console())
    if not result.finished:
        raise typer.Exit(INTERRUPTED)
