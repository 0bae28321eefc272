"""The messages of the WebSocket, as docs/serving.md defines them.

A client sends control messages as JSON and audio as binary messages; the service sends JSON events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dualmode.audio import Samples
from dualmode.decoding.formats import to_dict
from dualmode.decoding.transcript import Transcript, Word

Event = dict[str, Any]
Encoding = Literal["pcm_s16le", "pcm_f32le"]

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192_000

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
    """

    stream: str
    model: str | None
    sample_rate_hz: int
    encoding: Encoding
    revise: bool
    key: str | None


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
    revise = message.get("revise", True)
    if not isinstance(revise, bool):
        raise ProtocolError(BAD_MESSAGE, "revise must be true or false")
    return Start(stream, message.get("model"), rate, encoding, revise, message.get("key"))


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
    words: tuple[Word, ...],
) -> Event:
    """Event: the final text of a segment by device (``segment``) or by server (``revised``)."""
    return {
        "type": kind,
        "stream": stream,
        "segment": number,
        "start": round(span_s[0], 3),
        "end": round(span_s[1], 3),
        "text": " ".join(word.text for word in words),
        "words": to_dict(Transcript(words, 0.0))["words"],
    }


def done(stream: str, seconds: float, segments: int) -> Event:
    """Event: a stream has ended, and this is its last event."""
    return {"type": "done", "stream": stream, "seconds": round(seconds, 3), "segments": segments}


def error(code: int, message: str) -> Event:
    """Event: the reason why the connection is about to be closed with ``code``."""
    return {"type": "error", "code": code, "message": message}
