"""Calibrated confidences: the probability that a recognised word is correct."""

from __future__ import annotations

import math
from dataclasses import dataclass

_EDGE = 1e-6  # least distance of confidences from 0 and 1, whose log-odds are infinite


@dataclass(frozen=True)
class Calibration:
    """A logistic function of the log-odds of a confidence (Platt, "Probabilistic outputs for
    support vector machines", 1999). It preserves the order of confidences.

    Attributes:
        slope: factor of the log-odds, greater than 0. 1 means no calibration; below 1, the
            recogniser is overconfident.
        offset: offset of the log-odds.
    """

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, confidence: float) -> float:
        """The calibrated confidence, between 0 and 1."""
        if self.slope == 1.0 and self.offset == 0.0:
            return confidence
        kept = min(max(confidence, _EDGE), 1.0 - _EDGE)
        odds = self.slope * math.log(kept / (1.0 - kept)) + self.offset
        return 1.0 / (1.0 + math.exp(-odds)) if odds > -700 else 0.0


UNCALIBRATED = Calibration()
