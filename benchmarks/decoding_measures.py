"""Metrics of benchmarks.decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from dualmode.config import TextConfig
from dualmode.data.loading import load_samples
from dualmode.evaluation.confidence import JudgedWords, fit_calibration, recognised_words
from dualmode.evaluation.thresholds import margins
from dualmode.evaluation.tuning import EncodedCuts
from dualmode.evaluation.wer import word_errors
from dualmode.text import normalize

FALSE_ACCEPTS = 0.02  # share of accepted other speech at which thresholds are compared


def command_scores(commands: EncodedCuts, other: EncodedCuts, words: list[str]) -> dict[str, Any]:
    """Accuracy on commands and false accepts on other speech, by threshold.

    The threshold for 2 % of false accepts is chosen on every second utterance of other speech, and
    its false accepts are of the rest.
    """
    said = commands.references
    found = margins(commands, other, words)
    half = replace(found, other=found.other[::2])
    rest = replace(found, other=found.other[1::2])
    return {
        "commands": len(said),
        "other": len(found.other),
        "phrases": len(words),
        "greedy_accuracy": _share(commands.texts(), said),
        "beam_accuracy": _share(commands.texts("beam"), said),
        "without_threshold": float(found.correct.mean()),
        "by_threshold": [asdict(found.at(t)) for t in (-3.0, -2.0, -1.5, -1.0, -0.5, -0.25, -0.1)],
        "chosen": asdict(rest.at(half.choose(FALSE_ACCEPTS))),
    }


def _share(texts: Sequence[str], said: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(texts, said, strict=True)) / len(said)


def pocketsphinx_commands(
    commands: list[Any], other: list[Any], words: list[str], text: TextConfig
) -> dict[str, Any]:
    """PocketSphinx with a grammar of the same words, which rejects only silence."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16000, loglevel="FATAL")
    known = [word for word in words if all(decoder.lookup_word(w) for w in word.split())]
    grammar = f"#JSGF V1.0; grammar list; public <command> = {' | '.join(known)};"
    decoder.add_jsgf_string("list", grammar)
    decoder.activate_search("list")

    def recognised(cut: Any) -> str:
        pcm = (load_samples(cut).clip(-1, 1) * 32767).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    said = [normalize(cut.supervisions[0].text, text) for cut in commands]
    return {
        "known_words": len(known),
        "accuracy": _share([recognised(cut) for cut in commands], said),
        "false_accepts": float(np.mean([bool(recognised(cut)) for cut in other])),
    }


def uncommon_words(references: Sequence[str], text: Path, most: int = 100) -> list[str]:
    """Words of the references that are rare in a large text, mostly names."""
    common = Counter(text.read_text(encoding="utf-8").lower().split())
    words = {word for reference in references for word in reference.lower().split()}
    rare = [word for word in words if len(word) > 3 and common[word] <= 2]
    return sorted(rare, key=lambda word: (common[word], word))[:most]


def hotword_scores(cuts: EncodedCuts, names: list[str], strength: float) -> dict[str, float]:
    """Numbers of hotwords found and wrongly inserted, and errors of all other words."""
    texts = cuts.texts("beam", hotwords=dict.fromkeys(names, strength))
    said, found, false, rest, errors = 0, 0, 0, 0, 0
    for reference, text in zip(cuts.references, texts, strict=True):
        wanted, given = Counter(reference.split()), Counter(text.split())
        for name in names:
            said += wanted[name]
            found += min(wanted[name], given[name])
            false += max(0, given[name] - wanted[name])
        others = [w for w in reference.split() if w not in names]
        rest += len(others)
        if others:
            measured = jiwer.process_words(
                " ".join(others), " ".join(w for w in text.split() if w not in names)
            )
            errors += measured.substitutions + measured.deletions + measured.insertions
    return {
        "strength": strength,
        "hotwords": len(names),
        "said": said,
        "recall": found / max(1, said),
        "false": false,
        "wer_of_the_rest": errors / max(1, rest),
        "wer": word_errors(cuts.references, texts).rate,
    }


def reliability(cuts: EncodedCuts, dev: EncodedCuts | None = None) -> dict[str, Any]:
    """Share of correct words of greedy search by confidence, before and after a calibration that is
    fitted on another set."""
    words = recognised_words(cuts)
    report = {"before": _reliability(words)}
    if dev is not None:
        calibration = fit_calibration(recognised_words(dev))
        report["calibration"] = asdict(calibration)
        report["after"] = _reliability(words.calibrated(calibration))
    return report


def _reliability(words: JudgedWords) -> dict[str, Any]:
    return {
        "words": len(words.confidences),
        "ece": words.expected_error,
        "bins": [asdict(found) for found in words.bins],
    }
