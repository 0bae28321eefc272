"""``dualmode prepare``: synthesises or checks corpora for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Number of processes; default: one per core.")
]


@app.callback()
def prepare() -> None:
    """Prepare a corpus for training: synthesise one, or check a table of your own files.

    \b
    Examples:
      dualmode prepare synth data/synth
      dualmode prepare tsv train.tsv data/train
    """


@app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write train, dev and test to.")],
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same corpus.")] = 1,
    hours: Annotated[float, typer.Option("--hours", help="Hours of training speech.")] = 3.0,
    dev: Annotated[int, typer.Option("--dev", help="Utterances in the development set.")] = 120,
    test: Annotated[int, typer.Option("--test", help="Utterances in the test set.")] = 300,
    jobs: JobsOption = None,
) -> None:
    """Synthesise the quickstart corpus: numbers, dates, times, spelled words, short commands.

    The voices and sentences of dev and test do not occur in train.

    \b
    Examples:
      dualmode prepare synth data/synth
      dualmode prepare synth data/small --hours 0.2 --dev 20 --test 40
    """
    from dualmode.data.synth import synthesize

    folders = synthesize(
        out, seed=seed, train_hours=hours, dev_utterances=dev, test_utterances=test, jobs=jobs
    )
    for split, folder in folders.items():
        typer.echo(f"{split:5} {folder}")


@app.command("tsv")
def tsv(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Tab-separated: id, path, text; optionally speaker and corpus."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write cuts.jsonl.gz and report.json to.")],
    case: Annotated[
        Literal["lower", "upper"], typer.Option("--case", help="Case of the tokens.")
    ] = "lower",
    digits: Annotated[
        Literal["refuse", "spell"],
        typer.Option("--digits", help="Leave out texts with digits, or spell the digits."),
    ] = "refuse",
    to_flac: Annotated[
        bool, typer.Option("--flac", help="Store 16 kHz FLAC copies, which load faster than MP3.")
    ] = False,
    noise: Annotated[
        bool, typer.Option("--noise", help="The table lists noise; its texts are kept unchanged.")
    ] = False,
    allow_untranscribed: Annotated[
        bool,
        typer.Option("--allow-untranscribed", help="Keep files without text, for pre-training."),
    ] = False,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="Leave out longer files.")
    ] = 600.0,
    jobs: JobsOption = None,
) -> None:
    """Check every file and text of a table, and write a CutSet of those that can be used.

    Files that are left out are listed with the reason, on the screen and in OUT/report.json.

    \b
    Examples:
      dualmode prepare tsv train.tsv data/train --digits spell --flac
      dualmode prepare tsv audio.tsv data/audio --flac --allow-untranscribed
      dualmode prepare tsv noise.tsv data/noise --noise
    """
    from dualmode.config import TextConfig
    from dualmode.data.manifests import prepare_tsv
    from dualmode.display import make_console

    report = prepare_tsv(
        table,
        out,
        text=TextConfig(case=case, digits=digits),
        allow_untranscribed=allow_untranscribed,
        noise=noise,
        to_flac=to_flac,
        max_seconds=max_seconds,
        jobs=jobs,
    )
    console = make_console()
    console.print(report.table() if report.problems else report.summary())
    console.print(f"CutSet: {out / 'cuts.jsonl.gz'}")
