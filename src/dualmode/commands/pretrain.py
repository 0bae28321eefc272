"""``dualmode pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a .yaml file.")],
    out: Annotated[Path, typer.Option("--out", help="The directory to write.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget an earlier run in this directory.")
    ] = False,
) -> None:
    """Pre-train a supernet's encoder on audio without transcripts (wav2vec 2.0), to be fine-tuned.

    Server and device learn in the same steps, and pruning begins here. Transcripts are ignored.
    Ctrl-C stops after the current step and saves; the same command goes on.

    \b
    Examples:
      dualmode pretrain speech-pretrain --out runs/pretrained
      dualmode pretrain speech-pretrain --out runs/mine --set 'data.train=\\[data/audio]'
      dualmode train speech --init runs/pretrained --out runs/speech
    """
    from dualmode.commands.train import run

    run(recipe, list(overrides or []), "pretrain", out, fresh)
