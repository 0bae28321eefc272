"""Transcripts as text, JSON, and SRT or WebVTT captions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MAX_CHARACTERS = 42  # per line, a convention of broadcasters
MAX_LINES = 2
MAX_SECONDS = 6.0
MIN_SECONDS = 1.0  # shortest caption, unless the next one begins earlier
PAUSE_S = 0.6  # length of a pause that ends a caption


class TimedWord(Protocol):
    """The part of ``dualmode.Word`` that captions are made from."""

    @property
    def text(self) -> str: ...

    @property
    def start_s(self) -> float: ...

    @property
    def end_s(self) -> float: ...

    @property
    def confidence(self) -> float: ...


class TimedWriting(TimedWord, Protocol):
    """A word in written form, with the spoken words that it stands for."""

    @property
    def spoken(self) -> Sequence[TimedWord]: ...


class ScoredText(Protocol):
    """An alternative of a transcript."""

    @property
    def text(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def probability(self) -> float: ...


class TimedText(Protocol):
    """The part of ``dualmode.Transcript`` that is written to files."""

    @property
    def text(self) -> str: ...

    @property
    def seconds(self) -> float: ...

    @property
    def words(self) -> Sequence[TimedWord]: ...

    @property
    def written(self) -> Sequence[TimedWriting]: ...

    @property
    def written_text(self) -> str: ...

    @property
    def alternatives(self) -> Sequence[ScoredText]: ...

    @property
    def margin(self) -> float | None: ...

    @property
    def rejected(self) -> bool: ...


@dataclass(frozen=True)
class Caption:
    """One or two lines that are shown from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def to_text(transcript: TimedText) -> str:
    """The words, in written form if the transcript has it, and a newline."""
    return (transcript.written_text or transcript.text) + "\n"


def to_dict(transcript: TimedText) -> dict[str, Any]:
    """Text, seconds and words with times and confidences, and written form, alternatives and
    phrases if available, for JSON."""
    tree: dict[str, Any] = {
        "text": transcript.text,
        "seconds": round(transcript.seconds, 3),
        "words": [_word(word) for word in transcript.words],
    }
    if transcript.written:
        tree["written"] = transcript.written_text
        tree["written_words"] = [
            {**_word(word), "spoken": [spoken.text for spoken in word.spoken]}
            for word in transcript.written
        ]
    if transcript.alternatives:
        tree["alternatives"] = [
            {
                "text": alternative.text,
                "score": round(alternative.score, 4),
                "probability": round(alternative.probability, 4),
            }
            for alternative in transcript.alternatives
        ]
    if transcript.margin is not None:
        # JSON has no infinity: null if no phrase was complete.
        finite = math.isfinite(transcript.margin)
        tree["margin"] = round(transcript.margin, 4) if finite else None
    if transcript.rejected:
        tree["rejected"] = True
    return tree


def _word(word: TimedWord) -> dict[str, Any]:
    return {
        "text": word.text,
        "start": word.start_s,
        "end": word.end_s,
        "confidence": round(word.confidence, 4),
    }


def to_json(transcript: TimedText) -> str:
    """:func:`to_dict` as JSON."""
    return json.dumps(to_dict(transcript), ensure_ascii=False, indent=2) + "\n"


def to_srt(transcript: TimedText) -> str:
    """SubRip captions."""
    blocks = [
        f"{number}\n{_clock(c.start_s, ',')} --> {_clock(c.end_s, ',')}\n{c.text}\n"
        for number, c in enumerate(captions(transcript.written or transcript.words), start=1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: TimedText) -> str:
    """WebVTT captions."""
    blocks = [
        f"{_clock(c.start_s, '.')} --> {_clock(c.end_s, '.')}\n{c.text}\n"
        for c in captions(transcript.written or transcript.words)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


FORMATS: dict[str, Callable[[TimedText], str]] = {
    "text": to_text,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
}


def captions(
    words: Sequence[TimedWord],
    *,
    max_characters: int = MAX_CHARACTERS,
    max_lines: int = MAX_LINES,
    max_seconds: float = MAX_SECONDS,
    min_seconds: float = MIN_SECONDS,
    pause_s: float = PAUSE_S,
) -> list[Caption]:
    """Divide words into captions, at pauses and where a caption would be too long to read.

    A caption lasts until its last word ends and at least ``min_seconds``, but ends before the next
    one begins. Its lines have about equal lengths.

    Args:
        max_characters: most characters per line; a longer word has its own line.
        max_lines: 1 or 2.
        max_seconds: longest caption.
        min_seconds: shortest caption, unless the next one begins earlier.
        pause_s: length of a pause that ends a caption.
    """
    groups = list(_groups(words, max_characters, max_lines, max_seconds, pause_s))
    starts = [group[0].start_s for group in groups]
    result = []
    for group, following in zip(groups, [*starts[1:], float("inf")], strict=False):
        held = max(group[-1].end_s, group[0].start_s + min_seconds)
        text = "\n".join(_lines([word.text for word in group], max_characters, max_lines))
        result.append(Caption(group[0].start_s, min(held, following), text))
    return result


def _groups(
    words: Sequence[TimedWord],
    max_characters: int,
    max_lines: int,
    max_seconds: float,
    pause_s: float,
) -> Iterator[list[TimedWord]]:
    group: list[TimedWord] = []
    for word in words:
        texts = [*(other.text for other in group), word.text]
        if group and (
            not _lines(texts, max_characters, max_lines)
            or word.end_s - group[0].start_s > max_seconds
            or word.start_s - group[-1].end_s >= pause_s
        ):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _lines(texts: list[str], max_characters: int, max_lines: int) -> list[str]:
    """Divide words into at most ``max_lines`` lines of about equal lengths; empty if impossible."""
    whole = " ".join(texts)
    if len(whole) <= max_characters or len(texts) == 1:
        return [whole]
    if max_lines < 2:
        return []
    splits = [[" ".join(texts[:at]), " ".join(texts[at:])] for at in range(1, len(texts))]
    best = min(splits, key=lambda lines: max(map(len, lines)))
    return best if max(map(len, best)) <= max_characters else []


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, fraction = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{fraction:03}"
