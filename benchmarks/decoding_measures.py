"""The measures of benchmarks.decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from dualmode.config import TextConfig
from dualmode.data.loading import load_samples
from dualmode.decoding.transcript import transcript_of
from dualmode.evaluation.tuning import EncodedCuts
from dualmode.evaluation.wer import word_errors
from dualmode.text import normalize

FALSE_ACCEPTS = 0.02  # the share of other speech at which thresholds are compared


def command_scores(commands: EncodedCuts, other: EncodedCuts, words: list[str]) -> dict[str, Any]:
    """Accuracy on commands and false accepts on other speech, by threshold.

    The threshold for 2 % of false accepts is chosen on every second utterance of other speech, and
    its false accepts are of the rest.
    """
    said = commands.references
    found = commands.outcomes("beam", phrases=words, threshold=-np.inf)
    stranger = other.outcomes("beam", phrases=words, threshold=-np.inf)
    tokens = commands.recognizer.tokens
    answers = [tokens.decode(t.id for t in outcome.tokens).strip() for outcome in found]
    margins = np.array([outcome.margin for outcome in found])
    others = np.array([outcome.margin for outcome in stranger])
    right = np.array([a == b for a, b in zip(answers, said, strict=True)])

    def at(threshold: float, others: np.ndarray = others) -> dict[str, float]:
        accepted = margins >= threshold
        return {
            "threshold": float(threshold),
            "accuracy": float((right & accepted).mean()),
            "wrong": float((~right & accepted).mean()),
            "none": float((~accepted).mean()),
            "false_accepts": float((others >= threshold).mean()),
        }

    chosen = float(np.quantile(others[::2], 1 - FALSE_ACCEPTS))
    return {
        "commands": len(said),
        "other": len(others),
        "phrases": len(words),
        "greedy_accuracy": _share(commands.texts(), said),
        "beam_accuracy": _share(commands.texts("beam"), said),
        "without_threshold": float(right.mean()),
        "by_threshold": [at(t) for t in (-3.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0)],
        "chosen": at(chosen, others[1::2]),
    }


def _share(texts: Sequence[str], said: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(texts, said, strict=True)) / len(said)


def pocketsphinx_commands(
    commands: list[Any], other: list[Any], words: list[str], text: TextConfig
) -> dict[str, Any]:
    """PocketSphinx with a grammar of the same words; its only "none of these" is silence."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16000, loglevel="FATAL")
    known = [word for word in words if all(decoder.lookup_word(w) for w in word.split())]
    grammar = f"#JSGF V1.0; grammar list; public <command> = {' | '.join(known)};"
    decoder.add_jsgf_string("list", grammar)
    decoder.activate_search("list")

    def heard(cut: Any) -> str:
        pcm = (load_samples(cut).clip(-1, 1) * 32767).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    said = [normalize(cut.supervisions[0].text, text) for cut in commands]
    return {
        "known_words": len(known),
        "accuracy": _share([heard(cut) for cut in commands], said),
        "false_accepts": float(np.mean([bool(heard(cut)) for cut in other])),
    }


def uncommon_words(references: Sequence[str], text: Path, most: int = 100) -> list[str]:
    """Words of the references that hardly stand in a large text: names, mostly."""
    common = Counter(text.read_text(encoding="utf-8").lower().split())
    words = {word for reference in references for word in reference.lower().split()}
    rare = [word for word in words if len(word) > 3 and common[word] <= 2]
    return sorted(rare, key=lambda word: (common[word], word))[:most]


def hotword_scores(cuts: EncodedCuts, names: list[str], strength: float) -> dict[str, float]:
    """How many hotwords are found and falsely found, and the errors of all other words."""
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


def reliability(cuts: EncodedCuts, bins: int = 10) -> dict[str, Any]:
    """How often words of greedy search are right, by their confidence, and the expected
    calibration error: the mean distance of the two."""
    confidences, right = [], []
    for reference, outcome in zip(cuts.references, cuts.outcomes(), strict=True):
        words = transcript_of(outcome.tokens, cuts.recognizer.tokens, 1e9).words
        if not words:
            continue
        aligned = jiwer.process_words(reference, " ".join(word.text for word in words))
        hits = {
            chunk.hyp_start_idx + offset
            for chunk in aligned.alignments[0]
            if chunk.type == "equal"
            for offset in range(chunk.hyp_end_idx - chunk.hyp_start_idx)
        }
        confidences += [word.confidence for word in words]
        right += [at in hits for at in range(len(words))]
    values, hits_ = np.array(confidences), np.array(right, dtype=float)
    place = np.minimum((values * bins).astype(int), bins - 1)
    rows = [
        {
            "confidence": float(values[place == number].mean()),
            "right": float(hits_[place == number].mean()),
            "words": int((place == number).sum()),
        }
        for number in range(bins)
        if (place == number).any()
    ]
    error = sum(row["words"] * abs(row["confidence"] - row["right"]) for row in rows)
    return {"words": len(values), "ece": error / max(1, len(values)), "bins": rows}
