"""Compare the supernet with recognisers that are trained separately.

    python -m benchmarks.claim --profile small --data DATA --seeds 3 --out runs/claim
    python -m benchmarks.claim --profile speech --data DATA --rows all --budget-minutes 25

DATA is a folder of tab-separated tables: train.tsv, dev.tsv and test.tsv with the columns id, path,
text, speaker and corpus, and optionally unlabelled.tsv and noise.tsv. `small` uses only the corpus
an4 of train.tsv and test.tsv, and adds synthetic speech.

All rows have the same training data, architecture, optimiser, tokens and number of updates of each
recogniser, and are scored on the same test set:

    A1, A2  server alone, device alone, from random weights
    B1, B2  the same, each from an encoder pre-trained alone
    C       supernet, from random weights
    D       supernet, from an encoder pre-trained as server alone
    E       supernet, from an encoder pre-trained as supernet: dualmode

with --rows split,

    A1-half, A2-half  A1 and A2 with half the batch and twice the steps, for the same work
    B1-half, B2-half  B1 and B2 with the same change of fine-tuning
    F, F-pretrained   a small dense streaming recogniser with as many weights as device keeps
    C-split           C, where each utterance of a step goes to one recogniser: 1.5 times the steps
    E-split           E, with split steps in pre-training too and 1.5 times the steps of fine-tuning

with --rows scores, C-split and E-split with masks drawn by other scores, with all four corners
(full context and streaming, each dense and sparse), and C-split with another share for device;
with --rows objectives, E-split pre-trained by BEST-RQ;

and, with --rows ablations or all, E with one change at a time. If it is interrupted by Ctrl-C,
--budget-minutes or a crash, the same command resumes, also after OUT has been moved. The results of
all rows in OUT are written after every row: OUT/results.json, OUT/results.md, OUT/wer.png,
OUT/curves.png, OUT/sparsity.png. If the
test set has changed since, --score-only scores the finished trainings again.

Seeds are independent of each other. On a CPU, one process per core with --only-seed and
OMP_NUM_THREADS=1 is faster than one process with all cores; --report-only then combines the
results. Prepare the corpora first, with --prepare-only in a single process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.claim.corpora import Corpora
from benchmarks.claim.plots import draw
from benchmarks.claim.profiles import PROFILES, Profile
from benchmarks.claim.report import markdown
from benchmarks.claim.results import collect
from benchmarks.claim.rows import Row, choose
from benchmarks.claim.stages import Comparison, first_process
from dualmode.display import make_console
from dualmode.errors import DualmodeError
from dualmode.whole_files import replace_text


def run(comparison: Comparison, rows: Sequence[Row], seeds: Sequence[int]) -> bool:
    """Train and score all missing rows, seed by seed; returns False if it was interrupted."""
    try:
        for seed in seeds:
            for number, row in enumerate(rows, start=1):
                where = f"seed {seed}, row {number} of {len(rows)}"
                comparison.console.print(f"[bold]{where}: {row.name}, {row.title}[/bold]")
                for stage in row.stage.chain:
                    comparison.train(stage, seed)
                if comparison.score(row, seed):
                    write(comparison)
        finished = True
    except KeyboardInterrupt:
        comparison.console.print("stopped and saved; run the same command again to resume")
        finished = False
    write(comparison)
    return finished


def score(comparison: Comparison, rows: Sequence[Row]) -> None:
    """Score all finished trainings that have no scores on this test set; train nothing."""
    for row in rows:
        for seed in comparison.trained(row.stage):
            comparison.score(row, seed)
    write(comparison)


def write(comparison: Comparison) -> None:
    """Write tables and plots of all results so far."""
    if not first_process():
        return
    results = {**_circumstances(), **collect(comparison)}
    if results["rows"]:
        replace_text(comparison.out / "results.json", _as_json(results))
        replace_text(comparison.out / "results.md", markdown(results))
        draw(results, comparison.out)


def _as_json(results: dict[str, Any]) -> str:
    """An object with one line for each entry, and for each row."""

    def lines(entries: dict[str, str]) -> str:
        listed = (f"{json.dumps(key)}: {value}" for key, value in entries.items())
        return "{\n" + ",\n".join(listed) + "\n}"

    rows = lines({name: json.dumps(row) for name, row in results["rows"].items()})
    entries = {key: json.dumps(value) for key, value in results.items()}
    return lines({**entries, "rows": rows}) + "\n"


def _circumstances() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "command": "python -m benchmarks.claim " + " ".join(sys.argv[1:]),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device}",
        "torch": torch.__version__,
    }


@contextmanager
def _budget(minutes: float | None) -> Iterator[None]:
    """Interrupt the training like Ctrl-C after ``minutes``, so that it saves and stops."""
    if minutes is None:
        yield
        return
    alarm = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGINT))
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    about = "\n".join(f"  {profile.name:12} {profile.about}" for profile in PROFILES.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claim",
        description=__doc__,
        epilog=f"profiles:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--profile", choices=PROFILES, default="small")
    parser.add_argument(
        "--data", type=Path, help="folder of tables (small, speech), or an unpacked LibriSpeech"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of trainings of every row")
    parser.add_argument(
        "--only-seed",
        type=int,
        metavar="N",
        help="train only this seed, to run others in other processes",
    )
    parser.add_argument(
        "--rows",
        default="main",
        help="main, split, scores, objectives, ablations, all, or names, with commas between them",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of all recipes",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor on the lengths of all trainings"
    )
    parser.add_argument(
        "--budget-minutes", type=float, help="stop after this time, to resume later"
    )
    parser.add_argument(
        "--prepare-only", action="store_true", help="only prepare the corpora, before torchrun"
    )
    parser.add_argument(
        "--score-only",
        action="store_true",
        help="train nothing; score finished trainings of --rows, all seeds, where scores of the "
        "present test set are missing",
    )
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="only write the results of all rows in OUT",
    )
    parser.add_argument("--out", type=Path, help="default: runs/claim-PROFILE")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if every row is done, 3 if not (0 under torchrun), 1 on errors."""
    arguments = _arguments(given)
    profile: Profile = PROFILES[arguments.profile]
    profile = replace(profile, changes=(*profile.changes, *arguments.set))
    console = make_console()
    out = arguments.out or Path("runs") / f"claim-{profile.name}"
    try:
        rows = choose(profile.rows, arguments.rows)
        comparison = Comparison(profile, Corpora((), (), ()), out, console, arguments.scale)
        if arguments.report_only:
            write(comparison)
            finished = True
        else:
            speech = profile.prepare(out / "data", arguments.data, console)
            comparison = replace(comparison, speech=speech)
            only = arguments.only_seed
            seeds = range(1, arguments.seeds + 1) if only is None else [only]
            if arguments.prepare_only:
                return 0
            if arguments.score_only:
                score(comparison, rows)
                finished = True
            else:
                with _budget(arguments.budget_minutes):
                    finished = run(comparison, rows, seeds)
    except (DualmodeError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        return 1
    if first_process() and (out / "results.md").is_file():
        console.print(
            (out / "results.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True
        )
        console.print(f"results: {out / 'results.json'}")
    # torchrun treats other codes than 0 as a crash and would kill the process that writes results.
    return 0 if finished or "TORCHELASTIC_RUN_ID" in os.environ else 3


if __name__ == "__main__":
    sys.exit(main())
