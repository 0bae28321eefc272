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
    int8: Annotated[
        bool, typer.Option("--int8", help="Store weights in 8 bits: measure the copy's accuracy.")
    ] = False,
) -> None:
    """Copy a model without checkpoint and logs, for distribution.

    \b
    Examples:
      dualmode copy runs/talk/model talk --half
    """
    from dualmode.model.directory import copy_model

    if half and int8:
        raise typer.BadParameter("choose one of --half and --int8")
    copy_model(model, out, storage="int8" if int8 else "float16" if half else "float32")
    total = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    typer.echo(f"{out}: {total / 1e6:.2f} MB")
