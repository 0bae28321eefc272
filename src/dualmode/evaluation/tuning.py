"""Encode utterances once and decode them often, to tune language model weights and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Unpack

from lhotse.cut import Cut

from dualmode.decoding.guidance import LM_WEIGHTS, Guidance
from dualmode.decoding.outcome import Outcome
from dualmode.decoding.search import SearchName
from dualmode.errors import DataError
from dualmode.evaluation.utterances import scorable_batches
from dualmode.evaluation.wer import word_errors
from dualmode.language.ngram import NGram
from dualmode.model.subnet import Subnet
from dualmode.recognizer import Recognizer
from dualmode.runtime import Floats, Ids

# Tuned one at a time while the others are fixed, in two rounds.
GRID: dict[str, tuple[float, ...]] = {
    "lm_weight": (0.0, 0.1, 0.2, 0.3, 0.4, 0.55),
    "prior_weight": (0.0, 0.1, 0.2, 0.3, 0.45),
    "token_bonus": (0.0, 0.2, 0.4, 0.7),
}


@dataclass(frozen=True)
class EncodedBatch:
    """Frames (B, T, J) of utterances, the numbers of valid frames (B,), and the references."""

    frames: Floats
    lengths: Ids
    references: tuple[str, ...]
    speakers: tuple[str, ...]


@dataclass(frozen=True)
class EncodedCuts:
    """Cuts encoded by one subnet."""

    recognizer: Recognizer
    subnet: Subnet
    batches: tuple[EncodedBatch, ...]

    @property
    def references(self) -> list[str]:
        """The reference of each utterance."""
        return [text for batch in self.batches for text in batch.references]

    @property
    def speakers(self) -> list[str]:
        """The speaker of each utterance; empty if unknown."""
        return [speaker for batch in self.batches for speaker in batch.speakers]

    def outcomes(
        self, search: SearchName = "greedy", **guidance: Unpack[Guidance]
    ) -> list[Outcome]:
        """Decode all utterances."""
        return [
            outcome
            for batch in self.batches
            for outcome in self.recognizer.decode(
                batch.frames, batch.lengths, self.subnet, search, **guidance
            )
        ]

    def texts(self, search: SearchName = "greedy", **guidance: Unpack[Guidance]) -> list[str]:
        """Decode all utterances and return the best text of each."""
        return [self.text(outcome) for outcome in self.outcomes(search, **guidance)]

    def text(self, outcome: Outcome) -> str:
        """The best text of an utterance."""
        tokens = self.recognizer.tokens
        return " ".join(tokens.decode(token.id for token in outcome.tokens).split())


def encode_cuts(
    recognizer: Recognizer, cuts: Iterable[Cut], subnet: str | Subnet, seconds: float = 60.0
) -> EncodedCuts:
    """Encode cuts with transcripts in batches of ``seconds``; those that cannot be read are left
    out.

    Raises:
        DataError: no cut can be used.
        SubnetError: the model does not contain the subnet.
    """
    chosen = recognizer.subnet(subnet)
    batches = []
    for batch in scorable_batches(cuts, recognizer.recipe.text, [], seconds):
        frames, lengths = recognizer.frames([samples for _, samples in batch], chosen)
        batches.append(
            EncodedBatch(
                frames,
                lengths,
                tuple(utterance.reference for utterance, _ in batch),
                tuple(utterance.speaker for utterance, _ in batch),
            )
        )
    if not batches:
        raise DataError("no cut can be used: check audio and texts")
    return EncodedCuts(recognizer, chosen, tuple(batches))


Report = Callable[[dict[str, float], float], None]


def tune_lm(
    cuts: EncodedCuts, model: NGram, report: Report | None = None
) -> tuple[dict[str, float], float, float]:
    """Find the weights of a language model that minimise the word error rate.

    Args:
        report: called with each setting and its word error rate.

    Returns:
        the weights, their word error rate, and that of beam search without the model.
    """
    references = cuts.references
    tried: dict[tuple[float, ...], float] = {}

    def rate(settings: dict[str, float]) -> float:
        # The other settings apply only with a language model.
        key = tuple(settings.values()) if settings["lm_weight"] else (0.0,)
        if key not in tried:
            tried[key] = word_errors(references, _texts(cuts, model, settings)).rate
            if report:
                report(settings, tried[key])
        return tried[key]

    best = dict(LM_WEIGHTS)
    without = rate(best | {"lm_weight": 0.0})
    for _ in range(2):
        for name, values in GRID.items():
            around = sorted({best[name], *values})
            best = min((best | {name: value} for value in around), key=rate)
    return best, rate(best), without


def _texts(cuts: EncodedCuts, model: NGram, settings: dict[str, float]) -> Sequence[str]:
    return cuts.texts(
        "beam",
        lm=model,
        lm_weight=settings["lm_weight"],
        prior_weight=settings["prior_weight"],
        token_bonus=settings["token_bonus"],
    )
