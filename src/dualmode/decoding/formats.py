"""Transcripts as text, JSON, and SRT or WebVTT captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dualmode.decoding.transcript import Transcript, Word

MAX_CHARACTERS = 42  # a line of captions, by the habit of broadcasters
MAX_SECONDS = 5.0
PAUSE_S = 0.6  # a silence that ends a caption


@dataclass(frozen=True)
class Caption:
    """A line that is shown from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def to_text(transcript: Transcript) -> str:
    """The words alone, and a newline."""
    return transcript.text + "\n"


def to_dict(transcript: Transcript) -> dict[str, Any]:
    """Text, seconds and words with times and confidences, for JSON."""
    return {
        "text": transcript.text,
        "seconds": round(transcript.seconds, 3),
        "words": [
            {
                "text": word.text,
                "start": word.start_s,
                "end": word.end_s,
                "confidence": round(word.confidence, 4),
            }
            for word in transcript.words
        ],
    }


def to_json(transcript: Transcript) -> str:
    """:func:`to_dict` as JSON."""
    return json.dumps(to_dict(transcript), ensure_ascii=False, indent=2) + "\n"


def to_srt(transcript: Transcript) -> str:
    """SubRip captions."""
    blocks = [
        f"{number}\n{_clock(c.start_s, ',')} --> {_clock(c.end_s, ',')}\n{c.text}\n"
        for number, c in enumerate(captions(transcript.words), start=1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT captions."""
    blocks = [
        f"{_clock(c.start_s, '.')} --> {_clock(c.end_s, '.')}\n{c.text}\n"
        for c in captions(transcript.words)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": to_text,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
}


def captions(
    words: Sequence[Word],
    *,
    max_characters: int = MAX_CHARACTERS,
    max_seconds: float = MAX_SECONDS,
    pause_s: float = PAUSE_S,
) -> list[Caption]:
    """Cut words into lines at pauses, and where a line would be too long to read."""
    return [
        Caption(line[0].start_s, line[-1].end_s, " ".join(word.text for word in line))
        for line in _lines(words, max_characters, max_seconds, pause_s)
    ]


def _lines(
    words: Sequence[Word], max_characters: int, max_seconds: float, pause_s: float
) -> Iterator[list[Word]]:
    line: list[Word] = []
    characters = 0
    for word in words:
        if line and (
            characters + 1 + len(word.text) > max_characters
            or word.end_s - line[0].start_s > max_seconds
            or word.start_s - line[-1].end_s >= pause_s
        ):
            yield line
            line, characters = [], 0
        characters += len(word.text) + bool(line)
        line.append(word)
    if line:
        yield line


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, fraction = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{fraction:03}"
