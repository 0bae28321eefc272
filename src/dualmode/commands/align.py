"""``dualmode align``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def align(
    cuts: Annotated[Path, typer.Argument(help="A CutSet with texts (or its folder).")],
    out: Annotated[Path, typer.Argument(help="Folder for cuts.jsonl.gz with phones.")],
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes; default: one per core.")
    ] = None,
) -> None:
    """Find the phones of transcribed utterances, so that an encoder can learn them first.

    PocketSphinx aligns with the phones of the CMU dictionary, in 2 to 4 % of the duration of the
    audio on one core; eSpeak NG pronounces words that are not in the dictionary. If it is
    interrupted, run the same command again and it resumes.

    \b
    Examples:
      dualmode align data/train data/phones
      dualmode pretrain english-phones --out runs/english/encoder
    """
    from dualmode.display import make_console
    from dualmode.teaching.aligning import align as find_phones

    report = find_phones(cuts, out, jobs=jobs)
    console = make_console()
    console.print(report.table() if report.problems else report.summary())
    console.print(f"CutSet: {out / 'cuts.jsonl.gz'}")
