"""``dualmode label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def label(
    audio: Annotated[
        Path, typer.Argument(help="A folder of sound files, a table, a CutSet, or one file.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for cuts.jsonl.gz and the audio.")],
    teacher: Annotated[
        Path, typer.Option("--teacher", help="Folder of a Whisper model for faster-whisper.")
    ],
    agree: Annotated[
        Path | None,
        typer.Option("--agree", help="A second teacher; texts must agree in nine of ten words."),
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Leave out clips below it."),
    ] = 0.0,
) -> None:
    """Transcribe recordings by a teacher, to train on them.

    Long recordings are divided at quiet places. Loops, silence, other languages and impossible
    speaking rates are left out, with the reason. If it is interrupted, run the same command again
    and it resumes; another --min-confidence needs no new transcription. OUT/labels.png shows how
    many hours each value keeps.

    \b
    Examples:
      dualmode label recordings data/labelled --teacher models/whisper-base
      dualmode label calls.tsv data/calls --teacher models/whisper-base --min-confidence 0.6
      dualmode label recordings data/both --teacher models/whisper-base --agree models/whisper-tiny
    """
    from dualmode.display import make_console
    from dualmode.teaching.labelling import PICTURE
    from dualmode.teaching.labelling import label as write_down

    report = write_down(audio, out, teacher=teacher, agree=agree, min_confidence=min_confidence)
    console = make_console()
    console.print(report.table() if report.problems else report.summary())
    console.print(f"CutSet: {out / 'cuts.jsonl.gz'}; confidence: {out / PICTURE}")
