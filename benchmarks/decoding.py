"""What an application's knowledge of the text is worth: phrases, hotwords, a language model.

    python -m benchmarks.decoding MODEL --commands CUTS --other CUTS --lm FILE [--subnet device]

Prints, for one subnet of any model:

- phrases: how many of the commands in --commands (one of a closed list each) are recognised by
  greedy search, an open beam, and a beam confined to the list; how much of --other (speech that
  is none of them) is taken for one; PocketSphinx with the same list, with --pocketsphinx;
- hotwords: names in --other, by strength: how many are found, how many are found where they were
  not said, and the word error rate of all other words;
- language model: word error rates of --other with and without it;
- confidence: how often words are right, by confidence, and the expected calibration error;
- speed: decoding time over greedy's, with everything off and on, frames given.

Frames are encoded once. Times are processor time of one process: their ratios carry.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoding_measures import (
    command_scores,
    hotword_scores,
    pocketsphinx_commands,
    reliability,
    uncommon_words,
)
from dualmode.data.manifests import read_cuts
from dualmode.evaluation.tuning import EncodedCuts, encode_cuts
from dualmode.evaluation.wer import word_errors
from dualmode.recognizer import load
from dualmode.whole_files import replace_text

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def main() -> None:
    arguments = _arguments()
    recognizer = load(arguments.model)
    report: dict[str, Any] = {"model": str(arguments.model), "subnet": arguments.subnet}
    other = _encoded(recognizer, arguments.other, arguments)
    if arguments.commands:
        commands = _encoded(recognizer, arguments.commands, arguments)
        words = sorted(set(commands.references))
        report["phrases"] = command_scores(commands, other, words)
        if arguments.pocketsphinx:
            report["pocketsphinx"] = pocketsphinx_commands(
                _cuts(arguments.commands, arguments.limit),
                _cuts(arguments.other, arguments.limit),
                words,
                recognizer.recipe.text,
            )
    report["hotwords"] = [
        hotword_scores(other, uncommon_words(other.references, arguments.text), strength)
        for strength in STRENGTHS
    ]
    if arguments.lm:
        report["lm"] = _language_model(other, arguments.lm)
    report["confidence"] = reliability(other)
    report["speed"] = _speed(other, arguments.lm)
    print(json.dumps(report, indent=2))
    if arguments.json:
        replace_text(arguments.json, json.dumps(report, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--commands", type=Path, help="CutSet of one-word commands")
    parser.add_argument("--other", type=Path, required=True, help="CutSet of other speech")
    parser.add_argument("--text", type=Path, required=True, help="text of common words")
    parser.add_argument("--lm", type=Path, help="a language model for the same tokens")
    parser.add_argument("--subnet", choices=("server", "device"), default="server")
    parser.add_argument("--limit", type=int, default=0, help="use every n-th cut only, for trials")
    parser.add_argument("--pocketsphinx", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _cuts(path: Path, every: int) -> list[Any]:
    cuts = sorted(read_cuts([path]), key=lambda cut: cut.id)
    return cuts[:: max(1, every)]


def _encoded(recognizer: Any, path: Path, arguments: argparse.Namespace) -> EncodedCuts:
    return encode_cuts(recognizer, _cuts(path, arguments.limit), arguments.subnet)


def _language_model(cuts: EncodedCuts, lm: Path) -> dict[str, float]:
    """Word error rates; the model's weights are those of its file."""
    references = cuts.references
    rates = {
        "greedy": cuts.texts(),
        "beam": cuts.texts("beam"),
        "beam_lm": cuts.texts("beam", lm=lm),
        "beam_lm_without_prior": cuts.texts("beam", lm=lm, prior_weight=0.0),
    }
    found = {name: word_errors(references, texts).rate for name, texts in rates.items()}
    return found | {"megabytes": lm.stat().st_size / 1e6}


def _speed(cuts: EncodedCuts, lm: Path | None) -> dict[str, float]:
    """Time over that of greedy search, the median of five rounds; one stream at a time, and all
    of a batch together."""
    rng = np.random.default_rng(0)
    vocabulary = sorted({word for text in cuts.references for word in text.split()})
    phrases = [" ".join(rng.choice(vocabulary, int(rng.integers(1, 5)))) for _ in range(10_000)]
    began = time.process_time()
    automaton = cuts.recognizer.compile_phrases(phrases)
    report = {"compile_10000_phrases_s": time.process_time() - began, "states": automaton.size}
    ways: dict[str, dict[str, Any]] = {
        "greedy": {},
        "beam": {"search": "beam"},
        "beam_10000_phrases": {"phrases": automaton},
        "beam_100_hotwords": {"hotwords": vocabulary[:100]},
    }
    if lm:
        ways["beam_lm"] = {"lm": lm}
    batch = max(cuts.batches, key=lambda batch: len(batch.lengths))
    for size in (1, min(16, len(batch.lengths))):
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(5):
            for name, options in ways.items():
                began = time.process_time()
                for row in range(0, min(16, len(batch.lengths)), size):
                    rows = slice(row, row + size)
                    cuts.recognizer.decode(
                        batch.frames[rows], batch.lengths[rows], cuts.subnet, **options
                    )
                spent[name].append(time.process_time() - began)
        for name, times in spent.items():
            ratios = np.array(times) / np.array(spent["greedy"])
            report[f"{name}_batch_{size}"] = float(np.median(ratios))
    return report


if __name__ == "__main__":
    main()
