"""Live streams that the device engine recognises as a whole: features, network and greedy search.

A step advances all streams that have a chunk ready, in one call without Python's lock. Segments,
stable words, times and confidences equal those of :class:`dualmode.streams.StreamGroup`, which
computes features and search in Python.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dualmode_engine
import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.decoding.confidence import Calibration
from dualmode.decoding.stream import Endpointing, Partial
from dualmode.decoding.transcript import Transcript, Word
from dualmode.errors import DualmodeError, ModelError
from dualmode.streams import PushedAudio

# More windows do not speed up a step: with sixteen, activations leave the cache.
LARGEST_BATCH = 8


class EngineStream(PushedAudio):
    """A stream of an :class:`EngineGroup`.

    ``push``, ``end`` and ``close`` may be called by another thread than
    :meth:`EngineGroup.advance`.

    Args:
        engine: the engine's stream, a ``dualmode_engine.Stream``.
        calibration: calibration of the confidences of words.
    """

    def __init__(self, engine: Any, calibration: Calibration) -> None:
        super().__init__()
        self._engine = engine
        self._calibration = calibration
        # Each counter is written by one thread only.
        self._pushed = self._taken = 0
        self._needed: int = engine.missing  # samples of the next step
        self._changed = False  # whether the text changed since the last partial
        self._rest: Transcript | None = None

    @property
    def ready(self) -> bool:
        """Whether :meth:`EngineGroup.advance` has something to do."""
        return self._complete or (self._ended and not self.done)

    @property
    def done(self) -> bool:
        """Whether the stream has ended and all of its audio is decoded."""
        return self._rest is not None

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that are not decoded yet."""
        return (self._pushed - self._taken) / SAMPLE_RATE_HZ

    def push(self, samples: Samples) -> None:
        super().push(samples)
        self._pushed += len(samples)

    def partial(self) -> Partial | None:
        """The current text, or None if neither text nor segments changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        found = self._engine.partial()
        finished = tuple(self._transcript(segment) for segment in found.finished)
        return Partial(self._words(found.words), found.stable, finished)

    def transcript(self) -> Transcript:
        """The transcript since the last segment.

        Raises:
            DualmodeError: the stream is not :attr:`done`.
        """
        if self._rest is None:
            raise DualmodeError("the stream is not done")
        return self._rest

    @property
    def _complete(self) -> bool:
        return self._pushed - self._taken >= self._needed

    def _take(self) -> Samples:
        """Remove and return exactly the samples that the next step needs."""
        parts, left = [], self._needed
        while left > 0:
            block = self._waiting.popleft()
            if len(block) > left:
                self._waiting.appendleft(block[left:])
                block = block[:left]
            parts.append(block)
            left -= len(block)
        self._taken += self._needed
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _advanced(self, changed: bool) -> None:
        self._changed = self._changed or changed
        self._needed = self._engine.missing

    def _finish(self) -> None:
        """Decode the remaining audio and the appended silence; no segment ends there."""
        rest = list(self._waiting)
        self._waiting.clear()
        self._taken = self._pushed
        if rest:
            self._engine.push(np.concatenate(rest))
        self._rest = self._transcript(self._engine.finish())

    def _words(self, words: Iterable[Any]) -> tuple[Word, ...]:
        return tuple(
            Word(word.text, word.start_s, word.end_s, self._calibration.apply(word.confidence))
            for word in words
        )

    def _transcript(self, found: Any) -> Transcript:
        return Transcript(self._words(found.words), found.seconds)


class EngineGroup:
    """Live streams of one artifact. :meth:`open` and :meth:`advance` must be called by one thread
    only.

    Args:
        model: an artifact with chunked context.
        endpointing: rules of segments.
        tail_s: silence, in seconds, appended at the end.
        calibration: calibration of the confidences of words.
        largest_batch: most streams in one step; those that have waited longest come first.

    Raises:
        ModelError: the engine that is installed is too old.
    """

    def __init__(
        self,
        model: dualmode_engine.Model,
        endpointing: Endpointing,
        tail_s: float,
        calibration: Calibration,
        *,
        largest_batch: int = LARGEST_BATCH,
    ) -> None:
        if not hasattr(dualmode_engine.Stream, "missing"):
            raise ModelError(
                "the installed dualmode-engine is too old: build it again with `make engine`, or "
                "serve with --live model"
            )
        self._model = model
        self._push_all: Any = dualmode_engine.push_all
        self._calibration = calibration
        self._options: dict[str, Any] = {
            "silence_s": endpointing.silence_s,
            "longest_s": endpointing.longest_s,
            "tail_s": tail_s,
            "keep_finished": False,
        }
        self._largest_batch = largest_batch
        self._streams: list[EngineStream] = []  # those that waited longest first

    def __len__(self) -> int:
        """Number of streams that are neither done nor closed."""
        return len(self._streams)

    def open(self) -> EngineStream:
        """Add a stream."""
        stream = EngineStream(self._model.stream(**self._options), self._calibration)
        self._streams.append(stream)
        return stream

    def advance(self) -> list[EngineStream]:
        """Compute one step of the streams with a complete chunk, and finish those that have ended.

        Returns:
            the streams that advanced or are done; empty if there was nothing to do.
        """
        self._streams = [stream for stream in self._streams if not stream._closed]
        # The flag is read first, because nothing is pushed after it is set.
        ended = [stream for stream in self._streams if stream._ended]
        complete = [stream for stream in self._streams if stream._complete]
        moved = complete[: self._largest_batch]
        if moved:
            samples = [stream._take() for stream in moved]
            changed = self._push_all([stream._engine for stream in moved], samples)
            for stream, new in zip(moved, changed, strict=True):
                stream._advanced(new)
        busy = set(map(id, complete))
        done = [stream for stream in ended if id(stream) not in busy]
        for stream in done:
            stream._finish()
        last = set(map(id, moved))
        waited = [stream for stream in self._streams if id(stream) not in last]
        self._streams = [stream for stream in (*waited, *moved) if not stream.done]
        return moved + done
