"""``dualmode quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[
        Path, typer.Option("--out", help="Where corpus, model and logs are written.")
    ] = Path("runs/quickstart"),
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="Training time; the recipe's own if not given."),
    ] = None,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Pre-train the encoder on the audio alone first.")
    ] = False,
) -> None:
    """Synthesise speech, train both recognisers on it, score them, and hear them work.

    Stopped with Ctrl-C or killed, the same command goes on where it was.

    \b
    Examples:
      dualmode quickstart
      dualmode quickstart --out runs/longer --minutes 30
      dualmode quickstart --pretrain
    """
    from dualmode.commands.train import INTERRUPTED
    from dualmode.display import make_console
    from dualmode.quickstart import run_quickstart

    if not run_quickstart(out, minutes, make_console(), pretrain=pretrain):
        raise typer.Exit(INTERRUPTED)
