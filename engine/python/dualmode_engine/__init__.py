"""Streaming speech recognition on the device: one file in, text out, no torch.

import dualmode_engine

model = dualmode_engine.Model("device.dual")
print(model.transcribe(samples).text)     # float32, 16 kHz, mono

stream = model.stream()
while samples := microphone():
    if partial := stream.push(samples):
        print(partial.text)
print(stream.finish().text)
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode_engine import _engine
from dualmode_engine._engine import Encoder, EngineError, Features

__version__ = "0.2.0"
__all__ = [
    "Encoder",
    "EngineError",
    "Features",
    "Model",
    "Partial",
    "Stream",
    "Transcript",
    "Word",
    "kernel_names",
    "push_all",
]

KERNELS_VARIABLE = "DUALMODE_ENGINE_KERNELS"

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Word:
    """A word, with times in seconds from the start of the audio and a confidence, 0 to 1."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """Transcript of a recording, or of a segment of a stream."""

    words: tuple[Word, ...]
    seconds: float

    @property
    def text(self) -> str:
        """The words, separated by spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Partial:
    """The current segment of a stream, and the segments that have just ended.

    Attributes:
        words: words since the last endpoint.
        stable: number of leading ``words`` that will not change any more.
        finished: segments that ended with the latest samples.
    """

    words: tuple[Word, ...]
    stable: int
    finished: tuple[Transcript, ...] = ()

    @property
    def text(self) -> str:
        """The words of the current segment, separated by spaces."""
        return " ".join(word.text for word in self.words)


def kernel_names() -> tuple[str, ...]:
    """Names of the kernels that this processor can run, best first."""
    return tuple(_engine.kernel_names().split())


class Model:
    """An open artifact. It is immutable and can be shared by any number of streams and threads.

    Args:
        path: artifact written by ``dualmode export engine``.
        kernels: one of :func:`kernel_names`; None uses the environment variable
            DUALMODE_ENGINE_KERNELS or, if it is not set, the best kernels.

    Raises:
        EngineError: the file is missing or damaged, or this processor lacks the kernels.
    """

    def __init__(self, path: str | os.PathLike[str], kernels: str | None = None) -> None:
        chosen = os.environ.get(KERNELS_VARIABLE, "") if kernels is None else kernels
        self.handle = _engine.Model(os.fspath(path), chosen)
        self.description: dict[str, Any] = self.handle.describe()
        self.card: dict[str, Any] = json.loads(self.description["card"] or "{}")

    @property
    def pieces(self) -> list[str]:
        """The text of every token, by id."""
        return list(self.handle.pieces)

    def transcribe(
        self, samples: Samples, *, beam_width: int = 1, tail_s: float | None = None
    ) -> Transcript:
        """Recognise a whole recording: (S,) samples at 16 kHz in [-1, 1].

        Raises:
            EngineError: samples are not finite.
        """
        tail = -1.0 if tail_s is None else tail_s
        return _transcript(self.handle.transcribe(_checked(samples), beam_width, tail))

    def stream(
        self,
        *,
        beam_width: int = 1,
        endpointing: bool = True,
        silence_s: float = 1.2,
        longest_s: float = 20.0,
        tail_s: float | None = None,
        keep_finished: bool = True,
    ) -> Stream:
        """Open a stream.

        Raises:
            EngineError: the model has full context, or an option is out of range.
        """
        tail = -1.0 if tail_s is None else tail_s
        return Stream(
            _engine.Stream(
                self.handle, beam_width, endpointing, silence_s, longest_s, tail, keep_finished
            )
        )


class Stream:
    """A stream, created by :meth:`Model.stream`; to be used by one thread at a time."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def push(self, samples: Samples) -> Partial | None:
        """Push samples; returns a partial if the text changed or a segment ended, else None.

        Raises:
            EngineError: samples are not finite, or the stream was finished.
        """
        return self.partial() if self.handle.push(_checked(samples)) else None

    def partial(self) -> Partial:
        """The words since the last endpoint, and the segments that ended since the last call."""
        finished = []
        while (segment := self.handle.segment()) is not None:
            finished.append(_transcript(segment))
        found = self.handle.partial()
        return Partial(_words(found), found["stable"], tuple(finished))

    @property
    def missing(self) -> int:
        """Number of samples that the stream still needs before it can advance, at least 1."""
        return int(self.handle.missing)

    def finish(self) -> Transcript:
        """End the stream and return its transcript, including the last words.

        Raises:
            EngineError: the stream was finished before.
        """
        return _transcript(self.handle.finish())

    def reset(self) -> None:
        """Discard all audio and text, and start anew."""
        self.handle.reset()


def push_all(streams: Sequence[Stream], samples: Sequence[Samples]) -> list[bool]:
    """Push to many streams of one model as a batch, in one pass over the weights. Other Python
    threads run meanwhile.

    Returns:
        for each stream whether its text changed or a segment ended; :meth:`Stream.partial` is the
        text.

    Raises:
        EngineError: samples are not finite, a stream was finished or is given twice, or the
            streams are of different models; all streams are unchanged.
    """
    handles = [stream.handle for stream in streams]
    changed: list[bool] = _engine.push_all(handles, [_checked(s) for s in samples])
    return changed


def _checked(samples: Samples) -> Samples:
    array = np.asarray(samples)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
        raise EngineError(
            f"samples must be (S,) floats in [-1, 1], not {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _words(found: dict[str, Any]) -> tuple[Word, ...]:
    return tuple(Word(*word) for word in found["words"])


def _transcript(found: dict[str, Any]) -> Transcript:
    return Transcript(_words(found), found["seconds"])
