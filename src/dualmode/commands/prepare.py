"""``dualmode prepare``: corpora made or checked, ready for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Processes; one a core if not given.")
]


@app.callback()
def prepare() -> None:
    """Make a corpus ready for training: synthesise one, or check a table of your own files.

    \b
    Examples:
      dualmode prepare synth data/synth
      dualmode prepare tsv train.tsv data/train
    """


@app.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder for train, dev and test.")],
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same corpus.")] = 1,
    hours: Annotated[float, typer.Option("--hours", help="Hours of training speech.")] = 3.0,
    dev: Annotated[int, typer.Option("--dev", help="Utterances of the dev split.")] = 120,
    test: Annotated[int, typer.Option("--test", help="Utterances of the test split.")] = 300,
    jobs: JobsOption = None,
) -> None:
    """Synthesise the quickstart corpus: numbers, dates, times, spelled words, short commands.

    Voices and sentences of dev and test are not in train.

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
            metavar="FILE", help="Tab-separated: id, path, text; speaker and corpus if known."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for cuts.jsonl.gz and report.json.")],
    case: Annotated[
        Literal["lower", "upper"], typer.Option("--case", help="Case of the tokens.")
    ] = "lower",
    digits: Annotated[
        Literal["refuse", "spell"],
        typer.Option("--digits", help="Leave texts with digits out, or spell the digits."),
    ] = "refuse",
    to_flac: Annotated[
        bool, typer.Option("--flac", help="Store 16 kHz FLAC copies, which load faster.")
    ] = False,
    noise: Annotated[
        bool, typer.Option("--noise", help="The table lists noise; texts are its classes.")
    ] = False,
    allow_untranscribed: Annotated[
        bool,
        typer.Option("--allow-untranscribed", help="Keep sounds without text, to pre-train on."),
    ] = False,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="Longer files are left out.")
    ] = 600.0,
    jobs: JobsOption = None,
) -> None:
    """Check every file and text of a table and write a CutSet of those that can be used.

    What is left out is listed, with the reason, here and in OUT/report.json.

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
