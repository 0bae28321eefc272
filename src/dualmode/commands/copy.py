"""``dualmode copy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def copy(
    model: Annotated[Path, typer.Argument(help="A model directory, or a shipped model: talk.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    half: Annotated[
        bool, typer.Option("--half", help="Store weights in 16 bits, which halves the size.")
    ] = False,
) -> None:
    """Copy a model without checkpoint and logs, for distribution.

    \b
    Examples:
      dualmode copy runs/talk/model talk --half
    """
    from dualmode.model.directory import copy_model

    copy_model(model, out, half=half)
    total = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    typer.echo(f"{out}: {total / 1e6:.2f} MB")
