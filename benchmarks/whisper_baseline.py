"""Word error rates, speed and size of Whisper with faster-whisper, as an alternative to dualmode.

Usage:
    python -m benchmarks.whisper_baseline CUTS [CUTS...] --teacher DIR [--teacher DIR]
        [--model MODEL] [--short] [--json FILE]

CUTS are CutSets. Whisper runs with greedy search, int8 and one thread, in its windows of 30 s
(--short: in windows of the clip plus 3 s). With --model, the recognisers of a dualmode model are
scored in the same run on the same normalised texts. There are two rates: of normalised words, and
*one by one*, where numbers are compared digit by digit and spelled words letter by letter, so that
"GMEF 39" and "g m e f thirty nine" are equal.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.config import TextConfig
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts
from dualmode.data.phrases import cardinal
from dualmode.decoding.transcript import Transcript
from dualmode.errors import TextError
from dualmode.evaluation.significance import bootstrap_interval
from dualmode.evaluation.wer import word_errors
from dualmode.model.shipped import model_folder
from dualmode.recognizer import Recognizer, load
from dualmode.teaching.teachers import WhisperTeacher
from dualmode.text import normalize
from dualmode.whole_files import replace_text

_TOGETHER = 8
_SPELL = TextConfig(digits="spell")
_VALUES = {cardinal(value): str(value) for value in range(20)} | {"oh": "0"}
_TENS = {cardinal(10 * value): value for value in range(2, 10)}
_CAPITALS = re.compile(r"\b(?:[A-Z][.\-]?){2,}\b|\b[A-Z]+(?=\d)|(?<=\d)[A-Z]+\b")

Recognise = Callable[[list[Samples]], list[str]]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    systems = _systems(arguments)
    rows = []
    for path in arguments.cuts:
        cuts = sorted(read_cuts(path), key=lambda cut: cut.duration)
        for name, (recognise, size) in systems.items():
            rows.append({"set": str(path), "system": name, "bytes": size} | _score(cuts, recognise))
    Console().print(_table(rows))
    if arguments.json:
        replace_text(arguments.json, json.dumps(rows, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cuts", nargs="+", type=Path)
    parser.add_argument("--teacher", action="append", type=Path, required=True)
    parser.add_argument("--model", help="a dualmode model to compare with")
    parser.add_argument("--short", action="store_true", help="windows as short as the clips")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _systems(arguments: argparse.Namespace) -> dict[str, tuple[Recognise, int]]:
    systems: dict[str, tuple[Recognise, int]] = {}
    for folder in arguments.teacher:
        whisper = WhisperTeacher(folder)

        def recognise(clips: list[Samples], whisper: WhisperTeacher = whisper) -> list[str]:
            return [
                one.text for one in whisper.transcribe(clips, whole_windows=not arguments.short)
            ]

        systems[folder.name] = recognise, (folder / "model.bin").stat().st_size
    if arguments.model:
        recognizer = load(arguments.model)
        size = (model_folder(arguments.model) / "model.safetensors").stat().st_size
        for subnet in ("server", "device"):
            systems[f"{arguments.model}, {subnet}"] = _recogniser(recognizer, subnet), size
    return systems


def _recogniser(recognizer: Recognizer, subnet: str) -> Recognise:
    def recognise(clips: list[Samples]) -> list[str]:
        if subnet == "device":
            return [found.text for found in recognizer.stream_batch(clips, subnet)]
        results = recognizer.transcribe_batch(clips, subnet)
        return [one.text for one in results if isinstance(one, Transcript)]

    return recognise


def _score(cuts: Sequence[Cut], recognise: Recognise) -> dict[str, object]:
    hypotheses: list[str] = []
    spent_s = audio_s = 0.0
    for start in track(range(0, len(cuts), _TOGETHER), "recognising", transient=True):
        clips = [load_samples(cut) for cut in cuts[start : start + _TOGETHER]]
        audio_s += sum(map(len, clips)) / SAMPLE_RATE_HZ
        begun = time.perf_counter()
        hypotheses += recognise(clips)
        spent_s += time.perf_counter() - begun
    references = [cut.supervisions[0].text or "" for cut in cuts]
    words = word_errors([_words(text) for text in references], [_words(t) for t in hypotheses])
    single = word_errors([one_by_one(t) for t in references], [one_by_one(t) for t in hypotheses])
    return {
        "wer": words.rate,
        "wer_interval": bootstrap_interval(words),
        "one_by_one": single.rate,
        "one_by_one_interval": bootstrap_interval(single),
        "rtf": spent_s / audio_s,
    }


def _words(text: str) -> str:
    try:
        return normalize(text, _SPELL)
    except TextError:
        return ""


def one_by_one(text: str) -> str:
    """Write every number as separate digits and every spelled word as separate letters."""
    capitals = text.upper() != text  # capitals mark spelled words unless all is in upper case
    spread = text
    if capitals:
        spread = _CAPITALS.sub(lambda found: f" {' '.join(re.findall('[A-Z]', found[0]))} ", text)
    spread = re.sub(r"(?<=\d)[,\-](?=\d)", "", spread)
    apart = re.sub(r"\d", lambda digit: f" {digit[0]} ", spread)
    units: list[str] = []
    tens: int | None = None
    for word in _words(apart).split():
        value = _VALUES.get(word)
        if tens is not None and (value is None or not "1" <= value <= "9" or len(value) > 1):
            units += [str(tens), "0"]
            tens = None
        if word in _TENS:
            tens = _TENS[word]
        elif value is None:
            units.append(word)
        else:
            units += [*([str(tens)] if tens is not None else []), *value]
            tens = None
    return " ".join([*units, *([str(tens), "0"] if tens is not None else [])])


def _table(rows: Sequence[dict[str, object]]) -> Table:
    table = Table("set", "system", "MB", "WER", "one by one", "of real time, one thread")
    for row in rows:
        rates = [
            f"{100 * float(str(row[key])):.1f} % ({_interval(row[f'{key}_interval'])})"
            for key in ("wer", "one_by_one")
        ]
        size = f"{float(str(row['bytes'])) / 1e6:.1f}"
        table.add_row(str(row["set"]), str(row["system"]), size, *rates, f"{row['rtf']:.3f}")
    return table


def _interval(interval: object) -> str:
    low, high = np.asarray(interval, dtype=float)
    return f"{100 * low:.1f} to {100 * high:.1f}"


if __name__ == "__main__":
    main()
