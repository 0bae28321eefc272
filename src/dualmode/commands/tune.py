"""``dualmode tune``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dualmode.commands.subnets import SubnetOption


def tune(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    cuts: Annotated[list[Path], typer.Argument(help="CutSets of a development set.")],
    lm: Annotated[Path, typer.Option("--lm", help="The language model, which is updated.")],
    subnet: SubnetOption = "server",
) -> None:
    """Tune the weights of a language model on a development set.

    They are stored in the language model's file, and --lm uses them.

    \b
    Examples:
      dualmode tune runs/mine data/dev --lm english.lm
    """
    from dualmode.data.manifests import read_cuts
    from dualmode.evaluation.tuning import encode_cuts, tune_lm
    from dualmode.language.ngram import read_ngram
    from dualmode.recognizer import load
    from dualmode.whole_files import check_writable

    recognizer = load(model)
    language_model = read_ngram(lm)
    language_model.check(recognizer.tokens)
    check_writable(lm)
    encoded = encode_cuts(recognizer, read_cuts(cuts), subnet)

    def report(settings: dict[str, float], rate: float) -> None:
        shown = "  ".join(f"{name} {value:.2f}" for name, value in settings.items())
        typer.echo(f"{shown}  WER {100 * rate:.2f} %")

    settings, rate, without = tune_lm(encoded, language_model, report)
    replace(language_model, settings=settings).write(lm)
    typer.echo(f"{lm}: WER {100 * without:.2f} % without, {100 * rate:.2f} % with: {settings}")
