"""``dualmode train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130


RecipeArgument = Annotated[str, typer.Argument(help="A shipped recipe's name, or a .yaml file.")]
OutOption = Annotated[Path, typer.Option("--out", help="The directory to write.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
]
InitOption = Annotated[
    Path | None,
    typer.Option("--init", help="A model directory to start from: pre-trained, or a model."),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Forget an earlier run in this directory.")
]


def train(
    recipe: RecipeArgument,
    out: OutOption,
    overrides: SetOption = None,
    init: InitOption = None,
    fresh: FreshOption = False,
) -> None:
    """Train a supernet: both recognisers at once. A run that was stopped goes on where it was.

    Ctrl-C stops after the current step and saves. The recipe is stored, resolved, with the model.

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
    """Run a recipe for one objective; exits with 130 where it was interrupted.

    Raises:
        RecipeError: the recipe is not valid, or written for the other objective.
    """
    from dualmode.display import make_console
    from dualmode.errors import RecipeError
    from dualmode.recipe_files import load_recipe
    from dualmode.training.launch import train as run_training

    changes = list(overrides or [])
    if init is not None:
        changes.append(f"init.model={json.dumps(str(init))}")
    resolved = load_recipe(recipe, changes)
    if resolved.training.objective != objective:
        command = {"finetune": "train", "pretrain": "pretrain"}[resolved.training.objective]
        raise RecipeError(f"{recipe} is a recipe for 'dualmode {command}'")
    result = run_training(resolved, out, fresh=fresh, console=make_console())
    if not result.finished:
        raise typer.Exit(INTERRUPTED)
