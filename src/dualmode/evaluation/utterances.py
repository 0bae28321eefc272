"""Scorable utterances of a CutSet: references, speakers and samples, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lhotse.cut import Cut

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.config import TextConfig
from dualmode.data.loading import load_samples
from dualmode.errors import AudioError, DataError, TextError
from dualmode.text import normalize

BATCH_SECONDS = 120.0  # audio in a batch; it affects the speed, not the text


@dataclass(frozen=True)
class Utterance:
    """A reference.

    Attributes:
        reference: the transcript, normalised by the model's recipe.
        word_ends_s: ends of its words in the audio, from an alignment; empty without one.
    """

    id: str
    corpus: str
    speaker: str
    reference: str
    seconds: float
    word_ends_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A cut that could not be scored, and the reason."""

    id: str
    why: str


def scorable_batches(
    cuts: Iterable[Cut],
    text: TextConfig,
    skipped: list[Skipped],
    batch_seconds: float = BATCH_SECONDS,
) -> Iterator[list[tuple[Utterance, Samples]]]:
    """Yield utterances with their samples (S,), shortest first, ``batch_seconds`` at a time.

    Cuts whose audio or text cannot be used are added to ``skipped``.
    """
    batch: list[tuple[Utterance, Samples]] = []
    for cut in sorted(cuts, key=lambda cut: (cut.duration, cut.id)):
        try:
            utterance, samples = _read(cut, text)
        except (AudioError, DataError, TextError) as error:
            skipped.append(Skipped(cut.id, str(error)))
            continue
        if batch and len(samples) * (len(batch) + 1) > batch_seconds * SAMPLE_RATE_HZ:
            yield batch
            batch = []
        batch.append((utterance, samples))
    if batch:
        yield batch


def word_ends_s(cut: Cut) -> tuple[float, ...]:
    """Ends of a cut's words in seconds from its start; empty without a word alignment."""
    return tuple(
        item.end
        for supervision in cut.supervisions
        for item in (supervision.alignment or {}).get("word", ())
        if item.symbol.strip()
    )


def _read(cut: Cut, text: TextConfig) -> tuple[Utterance, Samples]:
    reference = normalize(" ".join(s.text or "" for s in cut.supervisions), text)
    samples = load_samples(cut)
    ends = word_ends_s(cut)
    return Utterance(
        id=cut.id,
        corpus=_custom(cut, "corpus"),
        speaker=next((s.speaker for s in cut.supervisions if s.speaker), ""),
        reference=reference,
        seconds=len(samples) / SAMPLE_RATE_HZ,
        word_ends_s=ends if len(ends) == len(reference.split()) else (),
    ), samples


def _custom(cut: Cut, key: str) -> str:
    for holder in (*cut.supervisions, cut):
        value = (getattr(holder, "custom", None) or {}).get(key)
        if value:
            return str(value)
    return ""
