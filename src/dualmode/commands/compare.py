"""``dualmode compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_File = Annotated[
    Path, typer.Argument(help="A file of `dualmode evaluate --utterances`.", dir_okay=False)
]


def compare(
    first: _File,
    second: _File,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Compare two models on the same utterances: is the difference more than chance?

    Prints word error rates, their difference (second minus first) with its 95 % interval, and a
    two-sided p-value, for each recogniser and corpus. The interval is a bootstrap of the speakers
    of each corpus; the test exchanges the two models in each speaker at random. Where speakers are
    unknown, utterances take their place. With five or fewer, no p-value is below 0.05.

    \b
    Example:
      dualmode evaluate FIRST CUTS --utterances first.jsonl
      dualmode evaluate SECOND CUTS --utterances second.jsonl
      dualmode compare first.jsonl second.jsonl
    """
    import json
    from dataclasses import asdict

    from rich.table import Table

    from dualmode.display import make_console
    from dualmode.evaluation.comparison import compare_utterances, read_utterances
    from dualmode.whole_files import check_writable, replace_text

    check_writable(json_file)
    comparison = compare_utterances(read_utterances(first), read_utterances(second))
    headings = (
        "recogniser",
        "corpus",
        "first %",
        "second %",
        "difference",
        "relative",
        "95 %",
        "p",
    )
    table = Table(*headings)
    for recogniser, corpora in comparison.items():
        for corpus, row in corpora.items():
            low, high = row.ci95
            table.add_row(
                recogniser,
                corpus,
                f"{100 * row.first:.2f}",
                f"{100 * row.second:.2f}",
                f"{100 * row.difference:+.2f}",
                f"{100 * row.relative:+.1f} %",
                f"{100 * low:+.2f} to {100 * high:+.2f}",
                f"{row.p_value:.4f}",
            )
    make_console().print(table)
    if json_file is not None:
        figures = {
            name: {corpus: asdict(row) for corpus, row in corpora.items()}
            for name, corpora in comparison.items()
        }
        replace_text(json_file, json.dumps(figures, indent=2) + "\n")
