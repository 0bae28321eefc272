"""Select the training data of ``english`` from larger tables of transcribed and labelled speech.

Usage:
    python -m benchmarks.english_data OUT TABLE [TABLE...] [--unlabelled TABLE --labels TABLE]

A TABLE is tab-separated with the columns id, path (relative to the table), seconds, speaker, corpus
and text; labels have id, text, logprob (mean of the tokens) and teacher. The script writes to OUT:
read.tsv (read English by many speakers), learners.tsv (speechocean762) and, with --labels,
labelled.tsv: what the teachers heard with enough confidence. VoxForge is excluded, because its
licence does not permit distributing a model trained on it; AN4 and Speech Commands come from
``benchmarks.talk_data``.

Then, for each NAME:  dualmode prepare tsv OUT/NAME.tsv runs/english/data/NAME --flac --digits spell
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.talk_data import read_rows, write_rows

_READ = {"commonvoice", "librispeech", "ljspeech", "cathy", "africanstorybook"}
_LEARNERS = {"speechocean762"}
# The second teacher heard only what the first was unsure of.
_LEAST_LOGPROB = {"base": -0.6, "tiny.en": -0.7}


def main() -> None:
    """Write the tables."""
    arguments = _arguments()
    rows = [row for table in arguments.tables for row in read_rows(table)]
    print("corpora:", *sorted({row["corpus"] for row in rows}))
    write_rows(arguments.out / "read.tsv", (r for r in rows if r["corpus"] in _READ))
    write_rows(arguments.out / "learners.tsv", (r for r in rows if r["corpus"] in _LEARNERS))
    if arguments.labels:
        texts = {
            row["id"]: row["text"]
            for row in read_rows(arguments.labels)
            if float(row["logprob"]) >= _LEAST_LOGPROB[row["teacher"]]
        }
        write_rows(
            arguments.out / "labelled.tsv",
            (
                {**r, "text": texts[r["id"]]}
                for r in read_rows(arguments.unlabelled)
                if r["id"] in texts
            ),
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--unlabelled", type=Path)
    parser.add_argument("--labels", type=Path)
    arguments = parser.parse_args()
    if (arguments.labels is None) != (arguments.unlabelled is None):
        parser.error("--labels and --unlabelled need each other")
    return arguments


if __name__ == "__main__":
    main()
