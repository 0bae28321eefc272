"""Is one model better than another? Paired, on the same utterances, corpus by corpus.

    dualmode evaluate FIRST CUTS --utterances first.jsonl
    dualmode evaluate SECOND CUTS --utterances second.jsonl
    python -m benchmarks.compare first.jsonl second.jsonl

Prints word error rates, their difference (second minus first) with its 95 % interval, and a
two-sided p-value, all by a bootstrap that draws speakers, with all that they said, where every
speaker is known, and else utterances.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.table import Table

from dualmode.display import make_console
from dualmode.evaluation.wer import compare, word_errors

_NOT_RECOGNISERS = {"id", "corpus", "speaker", "ref"}

Lines = dict[str, dict[str, Any]]


def read_utterances(path: Path) -> Lines:
    """The lines that ``dualmode evaluate --utterances`` wrote, by id."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["id"]: line for line in lines}


def shared(first: Lines, second: Lines) -> list[str]:
    """Ids that both have; references must be the same.

    Raises:
        SystemExit: there is none, or a reference differs.
    """
    both = sorted(first.keys() & second.keys())
    if not both:
        raise SystemExit("the two files have no utterance in common")
    for name in both:
        if first[name]["ref"] != second[name]["ref"]:
            raise SystemExit(f"{name}: the references differ; normalise both texts alike")
    return both


def compared(first: Lines, second: Lines, ids: list[str], recogniser: str) -> dict[str, Any]:
    """Rates and paired difference of one recogniser on some utterances."""
    references = [first[name]["ref"] for name in ids]
    before, after = (
        word_errors(references, [lines[name][recogniser] for name in ids])
        for lines in (first, second)
    )
    speakers = [first[name]["speaker"] for name in ids]
    groups = speakers if all(speakers) and len(set(speakers)) > 1 else None
    found = compare(after, before, groups)
    return {
        "first": before.rate,
        "second": after.rate,
        "difference": found.difference,
        "relative": found.difference / before.rate if before.rate else float("nan"),
        "ci95": found.ci95,
        "p_value": found.p_value,
        "utterances": len(ids),
        "speakers": len(set(speakers)) if groups else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    first, second = read_utterances(arguments.first), read_utterances(arguments.second)
    ids = shared(first, second)
    corpora: dict[str, list[str]] = {"all": ids}
    for name in ids:
        corpora.setdefault(first[name]["corpus"], []).append(name)
    recognisers = [n for n in first[ids[0]] if n in second[ids[0]] and n not in _NOT_RECOGNISERS]
    table = Table("recogniser", "corpus", "first %", "second %", "difference", "relative", "95 %")
    table.add_column("p")
    figures: dict[str, dict[str, Any]] = {}
    for recogniser in recognisers:
        for corpus, rows in corpora.items():
            found = compared(first, second, rows, recogniser)
            figures.setdefault(recogniser, {})[corpus] = found
            low, high = found["ci95"]
            table.add_row(
                recogniser,
                corpus,
                f"{100 * found['first']:.2f}",
                f"{100 * found['second']:.2f}",
                f"{100 * found['difference']:+.2f}",
                f"{100 * found['relative']:+.1f} %",
                f"{100 * low:+.2f} to {100 * high:+.2f}",
                f"{found['p_value']:.4f}",
            )
    make_console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
