"""Word errors of PocketSphinx with the US English model of its wheel, as a baseline.

Usage:
    python -m benchmarks.pocketsphinx_baseline CUTS [CUTS...] [--json FILE] [--processes N]
        [--hypotheses FILE]

It takes about as long as the audio on one core. With --hypotheses, results are stored in a file of
JSON lines, and an interrupted run resumes from it.

CUTS are CutSets (cuts.jsonl.gz, or its folder). Normalisation of references and hypotheses, and
confidence intervals, are the same as for dualmode.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dualmode.audio import Samples
from dualmode.config import TextConfig
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts
from dualmode.errors import AudioError, TextError
from dualmode.evaluation.results import Scores
from dualmode.evaluation.utterances import Utterance
from dualmode.text import normalize
from dualmode.whole_files import replace_text

TEXT = TextConfig(digits="spell")


def main() -> None:
    arguments = _arguments()
    kept = _kept(arguments.hypotheses)
    report = {}
    for path in arguments.cuts:
        cuts = list(read_cuts(path))
        start = time.perf_counter()
        utterances, hypotheses = _recognize(cuts, arguments.processes, kept, arguments.hypotheses)
        elapsed_s = time.perf_counter() - start
        report[str(path)] = _scores(utterances, hypotheses) | {
            "recogniser": f"pocketsphinx {version('pocketsphinx')}, its own en-us model",
            "skipped": len(cuts) - len(utterances),
            "rtf": elapsed_s * arguments.processes / sum(u.seconds for u in utterances),
        }
        Console().print(_table(str(path), report[str(path)]))
    if arguments.json:
        replace_text(arguments.json, json.dumps(report, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cuts", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--hypotheses", type=Path, help="JSON lines to write and to resume from")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _kept(path: Path | None) -> dict[str, str]:
    """Hypotheses of an earlier run by cut id."""
    if path is None or not path.is_file():
        return {}
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {record["id"]: record["hyp"] for record in records}


def _recognize(
    cuts: list[Cut], processes: int, kept: dict[str, str], path: Path | None
) -> tuple[list[Utterance], list[str]]:
    """References and hypotheses of all cuts with usable text and audio."""
    found: list[tuple[Utterance, str]] = []
    with ProcessPoolExecutor(processes, initializer=_start_decoder) as pool:
        tasks = [(cut, kept.get(cut.id)) for cut in cuts]
        results = pool.map(_recognize_one, tasks, chunksize=4)
        for pair in track(results, "PocketSphinx", total=len(cuts)):
            if pair is None:
                continue
            found.append(pair)
            if path is not None and pair[0].id not in kept:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"id": pair[0].id, "hyp": pair[1]}) + "\n")
    return [utterance for utterance, _ in found], [_normalized(text) for _, text in found]


_decoder: Any = None  # one per process of the pool


def _start_decoder() -> None:
    from pocketsphinx import Decoder

    # Batch mode normalises cepstra by utterance, so results do not depend on the process.
    global _decoder
    _decoder = Decoder(samprate=16000, loglevel="FATAL")


def _recognize_one(task: tuple[Cut, str | None]) -> tuple[Utterance, str] | None:
    cut, known = task
    try:
        reference = normalize(" ".join(s.text or "" for s in cut.supervisions), TEXT)
        samples = load_samples(cut)
    except (AudioError, TextError):
        return None
    supervision = cut.supervisions[0]
    utterance = Utterance(
        id=cut.id,
        corpus=(supervision.custom or {}).get("corpus", ""),
        speaker=supervision.speaker or "",
        reference=reference,
        seconds=len(samples) / 16000,
    )
    return utterance, _decode(samples) if known is None else known


def _decode(samples: Samples) -> str:
    pcm = (samples.clip(-1.0, 1.0) * 32767).astype(np.int16)
    _decoder.start_utt()
    _decoder.process_raw(pcm.tobytes(), full_utt=True)
    _decoder.end_utt()
    hypothesis = _decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def _normalized(hypothesis: str) -> str:
    """Normalise letters and variants of the dictionary; a hypothesis without words is empty."""
    try:
        return normalize(hypothesis, TEXT)
    except TextError:
        return ""


def _scores(utterances: list[Utterance], hypotheses: list[str]) -> dict[str, object]:
    scores = Scores.of(utterances, hypotheses)
    corpora = sorted({u.corpus for u in utterances})
    rows = {c: [row for row, u in enumerate(utterances) if u.corpus == c] for c in corpora}
    return scores.to_dict() | {
        "corpora": {corpus: scores.select(rows[corpus]).to_dict() for corpus in corpora}
    }


def _table(title: str, report: dict[str, Any]) -> Table:
    table = Table("corpus", "utterances", "words", "WER %", "95 %", "95 % by speaker", title=title)
    for name, entry in _entries(report):
        by_speaker = entry.get("ci95_speakers")
        table.add_row(
            name,
            f"{entry['utterances']}",
            f"{entry['words']}",
            f"{100 * entry['wer']:.1f}",
            _percent(entry["ci95"]),
            _percent(by_speaker) if by_speaker else "",
        )
    return table


def _entries(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "all", report
    corpora = report["corpora"]
    yield from corpora.items()


def _percent(interval: object) -> str:
    assert isinstance(interval, list)
    return " to ".join(f"{100 * bound:.1f}" for bound in interval)


if __name__ == "__main__":
    main()
