"""Latency: the algorithmic latency of chunks, and the measured emission delay of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
from lhotse.cut import Cut

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.decoding.transcript import Transcript, Vocabulary, token_spans
from dualmode.evaluation.utterances import scorable_batches
from dualmode.features import MEL_FRAME_SAMPLES, Framing
from dualmode.model.subnet import ChunkedContext, Subnet, chunked_context
from dualmode.recognizer import Recognizer

# End of a mel frame's window relative to the frame's start: 25 ms, centred on 10 ms.
_MEL_WINDOW_END = MEL_FRAME_SAMPLES // 2 + SAMPLE_RATE_HZ * 25 // 2000


@dataclass(frozen=True)
class TimedWord:
    """A word of the reference and its end in the audio, or None if that is unknown."""

    text: str
    end_s: float | None


@dataclass(frozen=True)
class EmissionDelay:
    """Delay between the end of a word in the audio and its appearance in the text.

    Attributes:
        words: number of correctly recognised words that were measured.
        median_ms, p90_ms: median and 90th percentile; ``nan`` without words.
    """

    words: int
    median_ms: float
    p90_ms: float


@dataclass(frozen=True)
class TailReport:
    """The effect of silence appended to the audio.

    Attributes:
        utterances: number of utterances.
        lost: ids of utterances whose last word is right only with appended silence.
        end_bound: ids of utterances whose last word is right only without it: the recogniser
            emits the word at the end of the audio, which a live stream does not have.
        changed: ids of utterances whose text changes anywhere.
    """

    utterances: int
    lost: tuple[str, ...]
    end_bound: tuple[str, ...]
    changed: tuple[str, ...]


def audio_needed_s(context: ChunkedContext, framing: Framing, frame: int) -> float:
    """Seconds of audio that a stream needs before it computes ``frame`` (unless it ends)."""
    first_mel = frame // context.chunk * framing.stride_mels * context.chunk
    last_mel = first_mel + framing.mels_read(context.window) - 1
    return (last_mel * MEL_FRAME_SAMPLES + _MEL_WINDOW_END) / SAMPLE_RATE_HZ


def word_delays_s(
    transcript: Transcript,
    reference: Sequence[TimedWord],
    vocabulary: Vocabulary,
    subnet: Subnet,
    framing: Framing,
) -> list[float]:
    """Emission delays of the correctly recognised words whose end is known.

    A word appears with its last token, because greedy search does not retract tokens. A stream is
    finished at the end of the audio, so no word needs more audio than there is.

    Raises:
        SubnetError: ``subnet`` has full context: all its words appear after the end.
    """
    context = chunked_context(subnet)
    spans = token_spans(transcript.tokens, vocabulary)
    delays = []
    for at, where in matches([w.text for w in reference], [span.text for span in spans]):
        end_s = reference[at].end_s
        if end_s is not None:
            needed_s = audio_needed_s(context, framing, spans[where].tokens[-1].frame)
            delays.append(min(needed_s, transcript.seconds) - end_s)
    return delays


def summarize(delays_s: Sequence[float]) -> EmissionDelay:
    """Median and 90th percentile of delays, in milliseconds."""
    if not delays_s:
        return EmissionDelay(0, float("nan"), float("nan"))
    median, p90 = np.percentile(np.asarray(delays_s) * 1000, [50, 90])
    return EmissionDelay(len(delays_s), round(float(median), 1), round(float(p90), 1))


def matches(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[int, int]]:
    """Positions (reference, hypothesis) of the words that are equal in an alignment."""
    if not reference or not hypothesis:
        return []
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return [
        (chunk.ref_start_idx + i, chunk.hyp_start_idx + i)
        for chunk in output.alignments[0]
        if chunk.type == "equal"
        for i in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def tail_report(
    recognizer: Recognizer,
    utterances: Sequence[tuple[str, Samples, str]],
    subnet: str | Subnet = "device",
    *,
    silence_s: float = 2.0,
    batch: int = 16,
) -> TailReport:
    """Stream utterances as they are, and again with ``silence_s`` of silence appended.

    Args:
        utterances: id, samples (S,) and normalised reference of each.
    """
    lost, end_bound, changed = [], [], []
    ordered = sorted(utterances, key=lambda u: len(u[1]))
    pad = np.zeros(round(silence_s * SAMPLE_RATE_HZ), dtype=np.float32)
    for start in range(0, len(ordered), batch):
        group = ordered[start : start + batch]
        as_is = recognizer.stream_batch([samples for _, samples, _ in group], subnet)
        padded = [np.concatenate([samples, pad]) for _, samples, _ in group]
        longer = recognizer.stream_batch(padded, subnet)
        for (name, _, reference), short, long in zip(group, as_is, longer, strict=True):
            if short.text != long.text:
                changed.append(name)
            ends_right = (_ends_right(reference, short), _ends_right(reference, long))
            if ends_right == (False, True):
                lost.append(name)
            elif ends_right == (True, False):
                end_bound.append(name)
    return TailReport(len(utterances), tuple(lost), tuple(end_bound), tuple(changed))


def tail_of_cuts(
    recognizer: Recognizer, cuts: Iterable[Cut], subnet: str | Subnet = "device"
) -> TailReport:
    """:func:`tail_report` of a CutSet, with one batch in memory at a time.

    Cuts without usable audio or text are left out.
    """
    reports = [
        tail_report(recognizer, [(u.id, samples, u.reference) for u, samples in batch], subnet)
        for batch in scorable_batches(cuts, recognizer.recipe.text, [])
    ]
    return TailReport(
        sum(report.utterances for report in reports),
        *(
            tuple(name for report in reports for name in getattr(report, field))
            for field in ("lost", "end_bound", "changed")
        ),
    )


def _ends_right(reference: str, transcript: Transcript) -> bool:
    """Whether the last word of the reference was recognised."""
    words = reference.split()
    pairs = matches(words, [word.text for word in transcript.words])
    return bool(pairs) and pairs[-1][0] == len(words) - 1
