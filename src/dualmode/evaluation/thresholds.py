"""The threshold of closed lists, from margins of commands and of other speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualmode.evaluation.tuning import EncodedCuts
from dualmode.language.phrases import PhraseAutomaton

LOWEST = -10.0
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Accepted:
    """Shares of utterances accepted at a threshold.

    Attributes:
        correct: share of the commands recognised as their own phrase.
        wrong: share of the commands recognised as another phrase.
        false_accepts: share of other speech recognised as a phrase.
    """

    threshold: float
    correct: float
    wrong: float
    false_accepts: float


@dataclass(frozen=True)
class Margins:
    """Margins of the best phrases, without a threshold.

    Attributes:
        commands: (N,) margins of commands; ``correct`` (N,) whether the phrase is the command.
        other: (M,) margins of other speech.
    """

    commands: Values
    correct: npt.NDArray[np.bool_]
    other: Values

    def at(self, threshold: float) -> Accepted:
        """Shares accepted at a threshold."""
        accepted = self.commands >= threshold
        complete = self.other > -np.inf  # the others have no complete phrase
        return Accepted(
            threshold,
            float((self.correct & accepted).mean()),
            float((~self.correct & accepted).mean()),
            float((complete & (self.other >= threshold)).mean()),
        )

    def choose(self, false_accepts: float) -> float:
        """The lowest threshold, in steps of 0.01 from -10 to 0, that accepts at most this share of
        other speech; 0, which accepts only perfect fits, if there is none."""
        count = max(len(self.other), 1)
        allowed = int(np.flatnonzero(np.arange(count + 1) / count <= false_accepts)[-1])
        highest = np.sort(self.other[self.other > -np.inf])[::-1]
        if allowed >= len(highest):
            return LOWEST
        step = np.floor(highest[allowed] * 100)
        # Hundredths are not exact in binary, so the rounded threshold itself is compared.
        while round(step / 100, 2) <= highest[allowed]:
            step += 1
        return round(min(max(float(step) / 100, LOWEST), 0.0), 2)


def margins(
    commands: EncodedCuts, other: EncodedCuts, phrases: Sequence[str] | PhraseAutomaton
) -> Margins:
    """Decode commands and other speech, confined to the phrases."""
    accept_all = -np.inf
    found = commands.outcomes("beam", phrases=phrases, threshold=accept_all)
    strangers = other.outcomes("beam", phrases=phrases, threshold=accept_all)
    pairs = zip(found, commands.references, strict=True)
    correct = [commands.text(outcome) == reference for outcome, reference in pairs]
    return Margins(
        np.array([o.margin for o in found], dtype=np.float64),
        np.array(correct),
        np.array([o.margin for o in strangers], dtype=np.float64),
    )
