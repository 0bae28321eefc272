"""``dualmode read``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def read(
    text: Annotated[
        str,
        typer.Argument(help="A file with one sentence per line, or quickstart or talk."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for cuts.jsonl.gz and the audio.")],
    hours: Annotated[float, typer.Option("--hours", help="Hours of speech to read.")],
    voices: Annotated[
        str, typer.Option("--voices", metavar="NAME", help="espeak, or kokoro:DIR.")
    ] = "espeak",
    blend: Annotated[
        bool, typer.Option("--blend", help="Blend two of Kokoro's voices for each sentence.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same speech.")] = 1,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes; default: one per core.")
    ] = None,
) -> None:
    """Read sentences aloud in many voices, to train on them.

    Sentences and voices are drawn at random. If it is interrupted, run the same command again and
    it resumes; more --hours add to the speech that is there.

    \b
    Examples:
      dualmode read orders.txt data/orders --hours 2
      dualmode read talk data/kokoro --hours 3 --voices kokoro:models/kokoro --blend --jobs 1
    """
    from dualmode.display import make_console
    from dualmode.teaching.reading import read as read_aloud

    report = read_aloud(text, out, hours=hours, voices=voices, blend=blend, seed=seed, jobs=jobs)
    console = make_console()
    console.print(report.table() if report.problems else report.summary())
    console.print(f"CutSet: {out / 'cuts.jsonl.gz'}")
