"""``dualmode quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[
        Path, typer.Option("--out", help="Folder to write corpus, model and logs to.")
    ] = Path("runs/quickstart"),
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, help="Training time; 12.5 by default."),
    ] = None,
    pretrain: Annotated[
        bool,
        typer.Option("--pretrain", help="Begin with pre-training on audio, not with phones."),
    ] = False,
) -> None:
    """Synthesise speech, train both recognisers on it, evaluate them, and demonstrate them.

    If it is interrupted, run the same command again and it resumes.

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
