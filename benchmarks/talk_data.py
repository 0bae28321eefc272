"""Select the training data of ``talk`` from larger tables of transcribed speech.

Usage:
    python -m benchmarks.talk_data OUT TABLE [TABLE...] [--noise TABLE] [--babble TABLE]

A TABLE is tab-separated with the columns id, path (relative to the table), seconds, speaker, corpus
and text. The script writes these tables to OUT: an4.tsv, commands.tsv (Speech Commands), dev.tsv
(held-out speakers of both), numbers.tsv (sentences of read English with numbers, dates or units),
open.tsv (short sentences without them) and, with --noise, noise.tsv. With --babble, three to seven
voices of that table are mixed at a time and added to the noise. VoxForge is excluded, because its
licence does not permit distributing a model trained on it.

Then, for each NAME:  dualmode prepare tsv OUT/NAME.tsv runs/talk/data/NAME --flac --digits spell
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, read_audio
from dualmode.data.phrases import MONTHS, ONES, ORDINALS, WEEKDAYS, cardinal, words
from dualmode.data.render import to_int16, write_flac
from dualmode.whole_files import replace_text

COLUMNS = ("id", "path", "seconds", "speaker", "corpus", "text")
READ = {"commonvoice", "librispeech", "ljspeech"}
OPEN = {"commonvoice", "librispeech", "speechocean762"}

_HELD_OUT = {"an4": 6, "speechcommands": 30}  # speakers for dev
_DEV_COMMANDS = 60
_LONGEST_S = {"numbers": 14.0, "open": 6.5}
_BABBLES, _BABBLE_S = 24, 20
_NUMBERS = {
    *ONES,
    *ORDINALS[:5],
    *MONTHS,
    *WEEKDAYS,
    *(cardinal(value) for value in (*range(10, 20), *range(20, 100, 10))),
    *words("hundred thousand million clock half quarter street avenue minutes hours seconds"),
    *words("dollars pounds"),
} - {"may"}

Row = dict[str, str]


def main() -> None:
    arguments = _arguments()
    rows = [row for table in arguments.tables for row in read_rows(table)]
    by_corpus = {name: [r for r in rows if r["corpus"] == name] for name in _HELD_OUT}
    held = {name: _some_speakers(found, _HELD_OUT[name]) for name, found in by_corpus.items()}
    dev = {n: [r for r in found if r["speaker"] in held[n]] for n, found in by_corpus.items()}
    training = {n: [r for r in f if r["speaker"] not in held[n]] for n, f in by_corpus.items()}
    write_rows(arguments.out / "an4.tsv", training["an4"])
    write_rows(arguments.out / "commands.tsv", training["speechcommands"])
    write_rows(arguments.out / "dev.tsv", dev["an4"] + dev["speechcommands"][:_DEV_COMMANDS])
    write_rows(arguments.out / "numbers.tsv", filter(_holds_numbers, rows))
    write_rows(arguments.out / "open.tsv", filter(_is_open, rows))
    if arguments.noise:
        noise = read_rows(arguments.noise)
        if arguments.babble:
            noise += _babble(read_rows(arguments.babble), arguments.out / "babble")
        write_rows(arguments.out / "noise.tsv", noise)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--babble", type=Path)
    return parser.parse_args()


def read_rows(table: Path) -> list[Row]:
    """The rows of a table, with absolute paths."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        {**row, "path": str((table.parent / row["path"]).resolve())} if "path" in row else row
        for row in rows
    ]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table with ``COLUMNS`` and say how many utterances it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(COLUMNS), *("\t".join(r.get(c) or "" for c in COLUMNS) for r in rows)]
    replace_text(path, "\n".join(lines) + "\n")
    print(f"{path}: {len(lines) - 1} utterances")


def _some_speakers(rows: list[Row], count: int) -> set[str]:
    speakers = sorted({row["speaker"] for row in rows})
    return set(np.random.default_rng(1).permutation(speakers)[:count].tolist())


def _numbers_in(row: Row) -> int:
    return sum(word in _NUMBERS for word in re.findall(r"[a-z']+", row["text"].lower()))


def _holds_numbers(row: Row) -> bool:
    """Whether a sentence contains number words, at least two if it is long."""
    fewest = 1 if row["corpus"] == "commonvoice" else 2
    short = float(row["seconds"]) < _LONGEST_S["numbers"]
    in_words = not re.search(r"\d", row["text"])
    return row["corpus"] in READ and short and in_words and _numbers_in(row) >= fewest


def _is_open(row: Row) -> bool:
    short = float(row["seconds"]) < _LONGEST_S["open"]
    return row["corpus"] in OPEN and short and not _numbers_in(row)


def _babble(rows: list[Row], folder: Path) -> list[Row]:
    """Recordings of several people talking at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    waiting = iter(rng.permutation(len(rows)).tolist())
    made = []
    for number in range(_BABBLES):
        mixed = np.zeros(_BABBLE_S * SAMPLE_RATE_HZ, np.float32)
        for _ in range(int(rng.choice((3, 5, 7)))):
            start = 0
            while start < len(mixed):
                voice = read_audio(rows[next(waiting)]["path"])[: len(mixed) - start]
                level = 10 ** (rng.uniform(-6, 0) / 20)
                voice = voice * (level / max(float(np.sqrt(np.mean(voice**2))), 1e-6))
                mixed[start : start + len(voice)] += voice
                start += len(voice)
        path = folder / f"babble{number:02d}.flac"
        write_flac(path, to_int16(0.7 * mixed / np.abs(mixed).max()))
        name = {"id": path.stem, "path": str(path), "seconds": str(_BABBLE_S)}
        made.append({**name, "speaker": "", "corpus": "babble", "text": "babble"})
    return made


if __name__ == "__main__":
    main()
