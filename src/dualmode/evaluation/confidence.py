"""Reliability of the confidences of words, and their calibration on a development set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.decoding.confidence import UNCALIBRATED, Calibration
from dualmode.decoding.outcome import Outcome
from dualmode.decoding.search import SearchName
from dualmode.decoding.transcript import transcript_of
from dualmode.errors import DataError
from dualmode.evaluation.latency import matches
from dualmode.evaluation.tuning import EncodedCuts
from dualmode.plots import load_pyplot, save_plot

BINS = 10
LEAST_WORDS = 50  # fewer words do not determine the two parameters
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Mean confidence of words of similar confidence, and the share that is correct."""

    confidence: float
    correct: float
    words: int


@dataclass(frozen=True)
class JudgedWords:
    """Recognised words.

    Attributes:
        confidences: (N,) confidence of each word.
        correct: (N,) 1 if the word is aligned with the same word of the reference, else 0.
    """

    confidences: Values
    correct: Values

    def calibrated(self, calibration: Calibration) -> JudgedWords:
        """The same words with calibrated confidences."""
        values = [calibration.apply(value) for value in self.confidences.tolist()]
        return JudgedWords(np.array(values), self.correct)

    @property
    def bins(self) -> list[Bin]:
        """Words by confidence, in ten intervals of equal width, without empty ones."""
        place = np.minimum((self.confidences * BINS).astype(int), BINS - 1)
        chosen = [place == number for number in range(BINS) if (place == number).any()]
        return [
            Bin(
                float(self.confidences[rows].mean()),
                float(self.correct[rows].mean()),
                int(rows.sum()),
            )
            for rows in chosen
        ]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean difference of confidence and share of correct words
        over the bins, weighted by words (Guo et al., arXiv 1706.04599)."""
        total = sum(b.words * abs(b.confidence - b.correct) for b in self.bins)
        return total / max(1, len(self.confidences))


def judged_words(
    cuts: EncodedCuts, outcomes: Sequence[Outcome], calibration: Calibration = UNCALIBRATED
) -> JudgedWords:
    """The words of the best text of each utterance, compared with the reference."""
    confidences: list[float] = []
    correct: list[bool] = []
    tokens, frame_s = cuts.recognizer.tokens, cuts.recognizer.framing.frame_s
    for reference, outcome in zip(cuts.references, outcomes, strict=True):
        words = transcript_of(outcome.tokens, tokens, np.inf, frame_s, calibration).words
        hits = {at for _, at in matches(reference.split(), [word.text for word in words])}
        confidences += [word.confidence for word in words]
        correct += [at in hits for at in range(len(words))]
    return JudgedWords(np.array(confidences), np.array(correct, dtype=np.float64))


def recognised_words(cuts: EncodedCuts, search: SearchName = "greedy") -> JudgedWords:
    """Uncalibrated words of a search."""
    return judged_words(cuts, cuts.outcomes(search))


def fit_calibration(words: JudgedWords) -> Calibration:
    """Fit a calibration by maximum likelihood.

    Targets are those of Platt (1999), slightly inside 0 and 1, so that the fit is finite even if
    all words are correct.

    Raises:
        DataError: there are too few words.
    """
    if len(words.confidences) < LEAST_WORDS:
        raise DataError(
            f"{len(words.confidences)} words are too few to calibrate confidences: use a "
            f"development set with at least {LEAST_WORDS}"
        )
    kept = np.clip(words.confidences, 1e-6, 1 - 1e-6)
    odds = np.log(kept / (1 - kept))
    hits = words.correct.sum()
    targets = np.where(
        words.correct > 0, (hits + 1) / (hits + 2), 1 / (len(words.correct) - hits + 2)
    )
    inputs = np.stack([odds, np.ones_like(odds)], axis=1)
    fitted = np.array([1.0, 0.0])
    for _ in range(100):  # Newton's method, weakly regularised towards no change
        found = 1 / (1 + np.exp(-inputs @ fitted))
        gradient = inputs.T @ (found - targets) + 1e-3 * (fitted - [1.0, 0.0])
        curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs + 1e-3 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        fitted -= step * min(1.0, 1.0 / float(np.abs(step).max() or 1.0))
        if np.abs(step).max() < 1e-9:
            break
    slope, offset = float(fitted[0]), float(fitted[1])
    if slope <= 0:
        raise DataError(
            "words of high confidence are not more often correct than others: the confidences "
            "of this model cannot be calibrated on this development set"
        )
    return Calibration(round(slope, 4), round(offset, 4))


def draw_reliability(path: Path, curves: Mapping[str, JudgedWords]) -> None:
    """Plot a reliability diagram: share of correct words by confidence, one line per curve."""
    figure, (axes, counts) = load_pyplot().subplots(
        2, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 1)
    )
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    for name, words in curves.items():
        bins: Any = words.bins
        label = f"{name}: error {words.expected_error:.3f}, {len(words.confidences)} words"
        axes.plot([b.confidence for b in bins], [b.correct for b in bins], "o-", label=label)
        counts.hist(words.confidences, bins=BINS, range=(0, 1), histtype="step")
    axes.set_ylabel("share of correct words")
    axes.legend(fontsize="small")
    counts.set_xlabel("confidence")
    counts.set_ylabel("words")
    save_plot(figure, path)
