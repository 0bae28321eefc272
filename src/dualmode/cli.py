"""The command ``dualmode``: assembles the commands and prints errors in one red line."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from dualmode import __version__
from dualmode.commands import (
    adapt,
    align,
    compare,
    copy,
    evaluate,
    export,
    inspect,
    label,
    listen,
    lm,
    prepare,
    pretrain,
    probe,
    quickstart,
    read,
    serve,
    train,
    transcribe,
    tune,
)
from dualmode.errors import DualmodeError

# Optional packages, and the extra that installs each.
_EXTRAS = {
    "lhotse": "train",
    "jiwer": "train",
    "num2words": "train",
    "lightning_fabric": "train",
    "tensorboard": "train",
    "matplotlib": "train",
}
INTERRUPTED = 130  # the shells' convention for Ctrl-C: 128 + SIGINT


class _Commands(TyperGroup):
    """Prints errors for users without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DualmodeError as error:
            console = Console(stderr=True, soft_wrap=True)
            console.print(Text("error: ", style="bold red").append(str(error), style="red"))
            raise typer.Exit(1) from None
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            console = Console(stderr=True, soft_wrap=True)
            said = f"this needs the package {package}: pip install 'dualmode[{_EXTRAS[package]}]'"
            console.print(Text("error: ", style="bold red").append(said, style="red"))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dualmode {__version__}")
        raise typer.Exit


@app.callback()
def dualmode(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    """One set of weights, two speech recognisers: server (dense, full context) and device
    (sparse, streaming).

    \b
    Start with:
      dualmode transcribe talk my.wav
      dualmode transcribe talk my.wav --stream
      dualmode quickstart
    """


app.command("quickstart")(quickstart.quickstart)
app.add_typer(prepare.app, name="prepare")
app.command("label")(label.label)
app.command("read")(read.read)
app.command("align")(align.align)
app.command("pretrain")(pretrain.pretrain)
app.command("train")(train.train)
app.command("adapt")(adapt.adapt)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("transcribe")(transcribe.transcribe)
app.command("listen")(listen.listen)
app.command("lm")(lm.lm)
app.command("tune")(tune.tune)
app.command("probe")(probe.probe)
app.command("inspect")(inspect.inspect)
app.command("serve")(serve.serve)
app.add_typer(export.app, name="export")
app.command("copy")(copy.copy)


def main() -> None:
    """Run the command-line interface."""
    app(prog_name="dualmode")
