"""The messages of the WebSocket, as docs/serving.md defines them.

A client sends control messages as JSON and audio as binary messages; the service sends JSON events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from dualmode.audio import Samples
from dualmode.decoding.formats import to_dict
from dualmode.decoding.guidance import Guidance
from dualmode.decoding.transcript import Transcript, Word, in_writing

Event = dict[str, Any]
Encoding = Literal["pcm_s16le", "pcm_f32le"]

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192_000
MOST_PHRASES, MOST_HOTWORDS = 1000, 500
LONGEST_PHRASE = 200  # characters of a phrase, a line of a grammar or a hotword
STRONGEST = 20.0  # strength of a hotword, in nats per token

# Close codes: 4000 plus the HTTP status with the same meaning.
BAD_MESSAGE = 4400
NO_KEY = 4401
IDLE = 4408
TOO_LONG = 4413
SLOW_READER = 4418
TOO_MANY = 4429
INTERNAL = 1011
GOING_AWAY = 1001


class ProtocolError(Exception):
    """The client violated the protocol; the connection is closed with ``code``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Start:
    """Open a stream.

    Attributes:
        stream: name chosen by the client.
        model: name of a model of the service; None is the first.
        sample_rate_hz: sample rate of the audio, which has one channel.
        encoding: encoding of the samples, little-endian.
        revise: whether server recognises each segment again.
        key: API key, for clients that cannot send headers.
        guidance: the phrases and hotwords that the client expects; empty if there are none.
        written: whether segments also have the written form.
    """

    stream: str
    model: str | None
    sample_rate_hz: int
    encoding: Encoding
    revise: bool
    key: str | None
    guidance: Guidance
    written: bool


@dataclass(frozen=True)
class Select:
    """Select the stream of the audio that follows."""

    stream: str


@dataclass(frozen=True)
class Finish:
    """Mark the end of ``stream``."""

    stream: str


def parse_control(text: str) -> Start | Select | Finish:
    """Parse a JSON message of a client.

    Raises:
        ProtocolError: the message is not part of the protocol.
    """
    try:
        message = json.loads(text)
    except ValueError:
        raise ProtocolError(
            BAD_MESSAGE, "a text message must be JSON; audio goes in binary messages"
        ) from None
    if not isinstance(message, dict):
        raise ProtocolError(BAD_MESSAGE, "a text message must be a JSON object")
    kind, stream = message.get("type"), message.get("stream", "")
    if not isinstance(stream, str) or len(stream) > 64:
        raise ProtocolError(BAD_MESSAGE, "stream must be a string of at most 64 characters")
    if kind == "select":
        return Select(stream)
    if kind == "finish":
        return Finish(stream)
    if kind == "start":
        return _start(message, stream)
    raise ProtocolError(BAD_MESSAGE, "type must be start, select or finish")


def _start(message: dict[str, Any], stream: str) -> Start:
    rate, encoding = message.get("sample_rate_hz", 16000), message.get("encoding", "pcm_s16le")
    if type(rate) is not int or not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise ProtocolError(
            BAD_MESSAGE,
            f"sample_rate_hz must be an integer from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}",
        )
    if encoding not in ("pcm_s16le", "pcm_f32le"):
        raise ProtocolError(BAD_MESSAGE, "encoding must be pcm_s16le or pcm_f32le")
    for name in ("model", "key"):
        if not isinstance(message.get(name), str | None):
            raise ProtocolError(BAD_MESSAGE, f"{name} must be a string")
    revise, written = message.get("revise", True), message.get("written", False)
    for name, value in (("revise", revise), ("written", written)):
        if not isinstance(value, bool):
            raise ProtocolError(BAD_MESSAGE, f"{name} must be true or false")
    model, key = message.get("model"), message.get("key")
    return Start(stream, model, rate, encoding, revise, key, _guidance(message), written)


def _guidance(message: dict[str, Any]) -> Guidance:
    """Phrases and hotwords of a start message, of the right types and within the limits."""
    found: Guidance = {}
    phrases, hotwords = message.get("phrases"), message.get("hotwords")
    threshold = message.get("threshold")
    if phrases is not None:
        # Never a string, which would be the path of a file.
        if not isinstance(phrases, list):
            raise ProtocolError(BAD_MESSAGE, "phrases must be a list of strings")
        found["phrases"] = _texts("phrases", phrases, MOST_PHRASES)
    if hotwords is not None:
        if isinstance(hotwords, dict):
            words = _texts("hotwords", list(hotwords), MOST_HOTWORDS)
            found["hotwords"] = {word: _strength(word, hotwords[word]) for word in words}
        elif isinstance(hotwords, list):
            found["hotwords"] = _texts("hotwords", hotwords, MOST_HOTWORDS)
        else:
            raise ProtocolError(
                BAD_MESSAGE, "hotwords must be a list of strings, or an object of strengths"
            )
    if threshold is not None:
        if phrases is None or not _is_number(threshold) or threshold > 0:
            raise ProtocolError(
                BAD_MESSAGE, "threshold must be a number of at most 0, and needs phrases"
            )
        found["threshold"] = float(threshold)
    return found


def _texts(name: str, texts: list[Any], most: int) -> list[str]:
    if len(texts) > most:
        raise ProtocolError(BAD_MESSAGE, f"at most {most} {name}, not {len(texts)}")
    for text in texts:
        if not isinstance(text, str) or len(text) > LONGEST_PHRASE:
            raise ProtocolError(
                BAD_MESSAGE, f"{name} must be strings of at most {LONGEST_PHRASE} characters"
            )
    return texts


def _strength(word: str, strength: Any) -> float:
    if not _is_number(strength) or abs(strength) > STRONGEST:
        raise ProtocolError(
            BAD_MESSAGE,
            f"the strength of {word!r} must be a number from {-STRONGEST:g} to {STRONGEST:g}",
        )
    return float(strength)


def _is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number; Python's JSON also reads NaN and infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def decode_samples(data: bytes, encoding: Encoding) -> Samples:
    """Decode a binary message to samples (S,) in [-1, 1].

    Raises:
        ProtocolError: the last sample is incomplete, or samples are not finite or far outside
            [-1, 1].
    """
    width = 2 if encoding == "pcm_s16le" else 4
    if len(data) % width:
        raise ProtocolError(
            BAD_MESSAGE, f"{len(data)} bytes are not a whole number of {encoding} samples"
        )
    if encoding == "pcm_s16le":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    samples = np.frombuffer(data, "<f4").astype(np.float32)
    # Written so that NaN fails as well.
    if not (np.abs(samples) <= 16.0).all():
        raise ProtocolError(BAD_MESSAGE, "samples must be finite and in [-1, 1]: is it pcm_f32le?")
    return samples


def ready(stream: str, model: str, description: dict[str, Any]) -> Event:
    """Event: a stream is open."""
    return {"type": "ready", "stream": stream, "model": model, **description}


def partial(stream: str, segment: int, words: tuple[Word, ...], stable: int) -> Event:
    """Event: device's words of the current segment; the first ``stable`` will not change."""
    return {
        "type": "partial",
        "stream": stream,
        "segment": segment,
        "text": " ".join(word.text for word in words),
        "words": to_dict(Transcript(words, 0.0))["words"],
        "stable": stable,
    }


def segment(
    kind: Literal["segment", "revised"],
    stream: str,
    number: int,
    span_s: tuple[float, float],
    transcript: Transcript,
    written: bool = False,
) -> Event:
    """Event: the final text of a segment by device (``segment``) or by server (``revised``), also
    in written form if requested, and whether it is none of the phrases."""
    words = transcript.words
    extra: dict[str, Any] = {"rejected": True} if transcript.rejected else {}
    if written:
        extra["written"] = " ".join(word.text for word in in_writing(words))
    return {
        "type": kind,
        "stream": stream,
        "segment": number,
        "start": round(span_s[0], 3),
        "end": round(span_s[1], 3),
        "text": " ".join(word.text for word in words),
        "words": to_dict(Transcript(words, 0.0))["words"],
        **extra,
    }


def done(stream: str, seconds: float, segments: int) -> Event:
    """Event: a stream has ended, and this is its last event."""
    return {"type": "done", "stream": stream, "seconds": round(seconds, 3), "segments": segments}


def error(code: int, message: str) -> Event:
    """Event: the reason why the connection is about to be closed with ``code``."""
    return {"type": "error", "code": code, "message": message}
