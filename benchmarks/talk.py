"""Word error rates of ``talk`` on real speech: clean, in noise, over a telephone, and on text
outside its language.

Usage:
    python -m benchmarks.talk --an4 CUTS --commands CUTS [--babble CUTS] [--other CUTS ...]
        [--model talk] [--thresholds 0.25 0.5] [--json FILE]

CUTS are CutSets (cuts.jsonl.gz, or its folder): the test sets of AN4 and of Speech Commands, noise
of several people talking, and open English. Rows with a threshold omit words whose confidence is
below it. ``server`` recognises whole utterances, ``device`` streams.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from lhotse.cut import Cut
from rich.console import Console
from rich.table import Table

from dualmode.audio import Samples, resample
from dualmode.config import TextConfig
from dualmode.data.augment import add_noise, draw_noise
from dualmode.data.left_out import Report
from dualmode.data.loading import load_noise, load_samples
from dualmode.data.manifests import read_cuts
from dualmode.decoding.transcript import Transcript
from dualmode.errors import AudioError
from dualmode.evaluation.significance import bootstrap_interval
from dualmode.evaluation.wer import word_errors
from dualmode.recognizer import Recognizer, load
from dualmode.text import normalize
from dualmode.whole_files import replace_text

SUBNETS = ("server", "device")
_TOGETHER = 40
_SNR_DB = 10.0
_TEXT = TextConfig(digits="spell")

Change = Callable[[Samples, np.random.Generator], Samples]


def main() -> None:
    arguments = _arguments()
    recognizer = load(arguments.model)
    rows: list[dict[str, object]] = []
    changes = {"clean": _clean, "white noise, 10 dB": _white, "8 kHz": _telephone}
    if arguments.babble:
        voices = load_noise(read_cuts(arguments.babble), 0, Report("babble"))
        changes["babble, 10 dB"] = lambda samples, rng: add_noise(
            samples, draw_noise(voices, len(samples), rng), _SNR_DB
        )
    for name, change in changes.items():
        rows += _errors(
            recognizer, f"AN4 test, {name}", arguments.an4, change, arguments.thresholds
        )
    if arguments.commands:
        rows += _errors(
            recognizer, "Speech Commands test", arguments.commands, _clean, arguments.thresholds
        )
    for path in arguments.other:
        rows += _words_a_minute(recognizer, path, arguments.thresholds)
    Console().print(_table(rows))
    if arguments.json:
        replace_text(arguments.json, json.dumps(rows, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="talk")
    parser.add_argument("--an4", required=True, type=Path)
    parser.add_argument("--commands", type=Path)
    parser.add_argument("--babble", type=Path)
    parser.add_argument("--other", type=Path, nargs="*", default=[])
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.25, 0.5])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _clean(samples: Samples, rng: np.random.Generator) -> Samples:
    return samples


def _white(samples: Samples, rng: np.random.Generator) -> Samples:
    return add_noise(samples, rng.standard_normal(len(samples)), _SNR_DB)


def _telephone(samples: Samples, rng: np.random.Generator) -> Samples:
    """Limit the bandwidth to that of 8 kHz audio."""
    return resample(resample(samples, 1, 2), 2, 1)[: len(samples)]


def _recognised(
    recognizer: Recognizer, subnet: str, cuts: Sequence[Cut], change: Change
) -> list[Transcript]:
    found: list[Transcript] = []
    for start in range(0, len(cuts), _TOGETHER):
        some = cuts[start : start + _TOGETHER]
        rngs = [np.random.default_rng(start + row) for row in range(len(some))]
        audio = [change(load_samples(cut), rng) for cut, rng in zip(some, rngs, strict=True)]
        if subnet == "device":
            found += recognizer.stream_batch(audio, subnet)
        else:
            for result in recognizer.transcribe_batch(audio, subnet):
                if isinstance(result, AudioError):
                    raise result
                found.append(result)
    return found


def _text(transcript: Transcript, threshold: float) -> str:
    return " ".join(word.text for word in transcript.words if word.confidence >= threshold)


def _errors(
    recognizer: Recognizer, name: str, path: Path, change: Change, thresholds: Sequence[float]
) -> list[dict[str, object]]:
    cuts = sorted(read_cuts(path), key=lambda cut: cut.duration)
    references = [normalize(cut.supervisions[0].text or "", _TEXT) for cut in cuts]
    rows: list[dict[str, object]] = []
    for subnet in SUBNETS:
        found = _recognised(recognizer, subnet, cuts, change)
        for least in (0.0, *thresholds):
            counts = word_errors(references, [_text(t, least) for t in found])
            low, high = bootstrap_interval(counts)
            rows.append(
                {"set": name, "subnet": subnet, "threshold": least, "what": "WER %"}
                | {"value": 100 * counts.rate, "low": 100 * low, "high": 100 * high}
            )
    return rows


def _words_a_minute(
    recognizer: Recognizer, path: Path, thresholds: Sequence[float]
) -> list[dict[str, object]]:
    cuts = sorted(read_cuts(path), key=lambda cut: cut.duration)
    minutes = sum(cut.duration for cut in cuts) / 60
    rows: list[dict[str, object]] = []
    for subnet in SUBNETS:
        found = _recognised(recognizer, subnet, cuts, _clean)
        for least in (0.0, *thresholds):
            words = sum(len(_text(transcript, least).split()) for transcript in found)
            rows.append(
                {"set": str(path), "subnet": subnet, "threshold": least}
                | {"what": "words per minute", "value": words / minutes}
            )
    return rows


def _table(rows: Sequence[dict[str, object]]) -> Table:
    table = Table("set", "subnet", "least confidence", "what", "value", "95 %")
    for row in rows:
        interval = f"{row['low']:.1f} to {row['high']:.1f}" if "low" in row else ""
        shown = [f"{row['threshold']:g}", str(row["what"]), f"{row['value']:.1f}", interval]
        table.add_row(str(row["set"]), str(row["subnet"]), *shown)
    return table


if __name__ == "__main__":
    main()
