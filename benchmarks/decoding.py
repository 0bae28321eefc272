"""The value of knowledge of the text: phrases, hotwords, a language model.

    python -m benchmarks.decoding MODEL --commands CUTS --other CUTS --lm FILE [--subnet device]

Prints, for one subnet of any model:

- phrases: share of the commands in --commands (each from a closed list) that greedy search, an open
  beam, and a beam confined to the list recognise; share of --other (other speech) that is accepted
  as a command; PocketSphinx with the same list, with --pocketsphinx;
- hotwords: names in --other, by strength: share that is found, number that is inserted wrongly, and
  word error rate of all other words;
- language model: word error rates of --other with and without it;
- confidence: share of correct words of --other by confidence, and the expected calibration error,
  before and after a calibration fitted on --dev;
- speed: decoding time with given frames relative to greedy search, for each kind of knowledge.

Frames are encoded once. Times are processor time of one process; compare their ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
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
from dualmode.decoding.greedy import GreedySearch
from dualmode.evaluation.tuning import EncodedCuts, encode_cuts
from dualmode.evaluation.wer import word_errors
from dualmode.recognizer import Recognizer, load
from dualmode.runtime import Floats, Ids
from dualmode.whole_files import replace_text

SPEED_BATCHES, ROUNDS = (1, 16, 64), 4
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def main() -> None:
    arguments = _arguments()
    recognizer = load(arguments.model)
    other = _encoded(recognizer, arguments.other, arguments)
    report: dict[str, Any] = {"model": str(arguments.model), "subnet": arguments.subnet}
    for name, found in _measures(recognizer, other, arguments):
        report[name] = found
        if arguments.json:  # after every measure: the whole takes long
            replace_text(arguments.json, json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _measures(
    recognizer: Recognizer, other: EncodedCuts, arguments: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
    yield "speed", _speed(other, arguments.lm)
    if arguments.commands:
        commands = _encoded(recognizer, arguments.commands, arguments)
        words = sorted(set(commands.references))
        yield "phrases", command_scores(commands, other, words)
        if arguments.pocketsphinx:
            yield (
                "pocketsphinx",
                pocketsphinx_commands(
                    _cuts(arguments.commands, arguments.limit),
                    _cuts(arguments.other, arguments.limit),
                    words,
                    recognizer.recipe.text,
                ),
            )
    rare = uncommon_words(other.references, arguments.text)
    yield "hotwords", [hotword_scores(other, rare, strength) for strength in STRENGTHS]
    if arguments.lm:
        yield "lm", _language_model(other, arguments.lm)
    dev = _encoded(recognizer, arguments.dev, arguments) if arguments.dev else None
    yield "confidence", reliability(other, dev)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--commands", type=Path, help="CutSet of one-word commands")
    parser.add_argument("--other", type=Path, required=True, help="CutSet of other speech")
    parser.add_argument("--text", type=Path, required=True, help="text of common words")
    parser.add_argument("--lm", type=Path, help="a language model for the same tokens")
    parser.add_argument("--dev", type=Path, help="CutSet to fit a calibration of confidences on")
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
    """Word error rates; weights are those in the language model's file."""
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
    """Time over that of greedy search, the median of several rounds, by the size of batches.

    ``greedy`` is ``Recognizer.decode`` with all knowledge left out, over the bare search.
    """
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
    for size in SPEED_BATCHES:
        frames, lengths = _longest_rows(cuts, max(16, size))
        size = min(size, len(lengths))
        spent = _times(cuts, ways, frames, lengths, size)
        for name, times in spent.items():
            over = spent["greedy"] if name != "greedy" else spent["greedy_search_alone"]
            report[f"{name}_batch_{size}"] = float(np.median(np.array(times) / np.array(over)))
    return report


def _longest_rows(cuts: EncodedCuts, most: int) -> tuple[Floats, Ids]:
    """Frames of the middle utterances by duration, at most so many, padded to one batch."""
    rows = [
        batch.frames[row, : batch.lengths[row]]
        for batch in cuts.batches
        for row in range(len(batch.lengths))
    ]
    first = max(0, (len(rows) - most) // 2)
    rows = rows[first : first + most]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    padded = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), dtype=np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded, lengths


def _times(
    cuts: EncodedCuts,
    ways: dict[str, dict[str, Any]],
    frames: Floats,
    lengths: Ids,
    size: int,
) -> dict[str, list[float]]:
    """Seconds of each way of decoding in each of several rounds, in batches of ``size``."""
    recognizer = cuts.recognizer
    spent: dict[str, list[float]] = {name: [] for name in ["greedy_search_alone", *ways]}
    alone = GreedySearch(
        recognizer.model.open(cuts.subnet),
        blank_penalty=recognizer.recipe.decoding.blank_penalty,
    )
    batches = [
        (frames[row : row + size, : lengths[row : row + size].max()], lengths[row : row + size])
        for row in range(0, len(lengths), size)
    ]
    for turn in range(ROUNDS + 1):
        for name in spent:
            began = time.process_time()
            for batch, counts in batches:
                if name == "greedy_search_alone":
                    alone.outcomes(alone.advance(alone.start(len(batch)), batch, counts))
                else:
                    recognizer.decode(batch, counts, cuts.subnet, **ways[name])
            if turn:  # the first round fills the tables that a search keeps
                spent[name].append(time.process_time() - began)
    return spent


if __name__ == "__main__":
    main()
