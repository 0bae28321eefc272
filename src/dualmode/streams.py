"""Many live streams that advance in one batch, each with its own past.

    group = recognizer.stream_group()
    ann, bob = group.open(), group.open()
    ann.push(samples)                    # returns at once
    bob.push(samples)
    for stream in group.advance():       # one step of all streams that have a chunk ready
        if partial := stream.partial():
            print(partial.text)
    ann.end()                            # no more samples
    while group.advance(): ...
    print(ann.transcript().text)

The text of a stream does not depend on the other streams of its group: it is exactly the text of a
single session.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from dualmode.audio import SAMPLE_RATE_HZ, Samples, check_samples
from dualmode.decoding.search import Search
from dualmode.decoding.stream import (
    Partial,
    StreamOptions,
    StreamPast,
    advance,
)
from dualmode.decoding.transcript import Transcript, Vocabulary
from dualmode.errors import DualmodeError
from dualmode.features import MEL_FRAME_SAMPLES
from dualmode.model.subnet import Subnet, chunked_context
from dualmode.runtime import Runtime

LARGEST_BATCH = 64


class PushedAudio:
    """Audio of a live stream, pushed by another thread than the one that decodes it."""

    def __init__(self) -> None:
        self._waiting: deque[Samples] = deque()
        self._ended = False
        self._closed = False

    def push(self, samples: Samples) -> None:
        """Push any number of mono samples (S,) at 16 kHz, floats in [-1, 1] or int16, for the next
        steps of the group.

        Raises:
            AudioError: the samples are invalid; the stream remains unchanged.
            DualmodeError: the stream was ended or closed.
        """
        self._check_open("push")
        self._waiting.append(check_samples(samples))

    def end(self) -> None:
        """Mark the end of the audio. The transcript is complete once the stream is ``done``.

        Raises:
            DualmodeError: the stream was ended or closed before.
        """
        self._check_open("end")
        self._ended = True

    def close(self) -> None:
        """Leave the group at once, without decoding the remaining audio."""
        self._closed = True

    def _check_open(self, action: str) -> None:
        if self._ended or self._closed:
            raise DualmodeError(f"cannot {action}: the stream is finished; open a new one")


class GroupedStream(PushedAudio):
    """A stream of a :class:`StreamGroup`, created by :meth:`StreamGroup.open`.

    ``push``, ``end`` and ``close`` may be called by other threads than
    :meth:`StreamGroup.advance`.
    """

    def __init__(self, past: StreamPast) -> None:
        super().__init__()
        self._past = past
        self._samples = 0

    @property
    def done(self) -> bool:
        """Whether the stream has ended and all of its audio is decoded."""
        return self._past.ended and not self._past.buffer.ready

    @property
    def ready(self) -> bool:
        """Whether :meth:`StreamGroup.advance` may have something to do."""
        return bool(self._waiting or self._ended or self._past.buffer.ready)

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that :meth:`StreamGroup.advance` has taken but not decoded yet."""
        return len(self._past.buffer) * MEL_FRAME_SAMPLES / SAMPLE_RATE_HZ

    def partial(self) -> Partial | None:
        """The current text, or None if neither text nor segments changed since the last call."""
        return self._past.partial()

    def transcript(self) -> Transcript:
        """The final transcript.

        Raises:
            DualmodeError: the stream is not :attr:`done`.
        """
        if not self.done:
            raise DualmodeError(
                "the stream is not done: call end(), then StreamGroup.advance() until it is"
            )
        return self._past.transcript()

    def _take_pushed(self) -> None:
        """Convert pushed samples to mel frames. The flag is read first, because nothing is pushed
        after it is set. The end is handled after all complete chunks, which may still end
        segments, as in a session."""
        ended = self._ended
        while self._waiting:
            self._past.push(self._waiting.popleft())
        if ended and not self._past.ended and not self._past.buffer.ready:
            self._past.end()


class StreamGroup:
    """Live streams of one subnet, created by ``Recognizer.stream_group``.

    Streams join by :meth:`open` and leave when they are done or closed. :meth:`advance` must be
    called by one thread only.

    Args:
        runtime: runtime of a subnet with chunked context.
        search: search over the frames of the runtime.
        vocabulary: vocabulary of the model.
        options: default options of streams.
        largest_batch: most streams in one step; those that have waited longest come first.

    Raises:
        SubnetError: the runtime has full context.
    """

    def __init__(
        self,
        runtime: Runtime,
        search: Search[Any],
        vocabulary: Vocabulary,
        options: StreamOptions = StreamOptions(),
        *,
        largest_batch: int = LARGEST_BATCH,
    ) -> None:
        if largest_batch < 1:
            raise ValueError(f"largest_batch must be at least 1, not {largest_batch}")
        self._runtime = runtime
        self._context = chunked_context(Subnet(runtime.context))
        self._search = search
        self._vocabulary = vocabulary
        self._options = options
        self._largest_batch = largest_batch
        self._streams: list[GroupedStream] = []  # those that waited longest first

    def __len__(self) -> int:
        """Number of streams that are neither done nor closed."""
        return len(self._streams)

    def open(self, options: StreamOptions | None = None) -> GroupedStream:
        """Add a stream."""
        past = StreamPast(
            self._runtime, self._context, self._search, self._vocabulary, options or self._options
        )
        stream = GroupedStream(past)
        self._streams.append(stream)
        return stream

    def advance(self) -> list[GroupedStream]:
        """Take all pushed samples, and compute one step of the streams with a complete chunk.

        Returns:
            the streams that advanced or are done; empty if no stream had a complete chunk.
        """
        streams = [stream for stream in list(self._streams) if not stream._closed]
        for stream in streams:
            stream._take_pushed()
        ready = [s for s in streams if s._past.buffer.ready][: self._largest_batch]
        if ready:
            advance(self._runtime, self._context, self._search, [s._past for s in ready])
        moved = set(map(id, ready))
        done = [s for s in streams if s.done]
        waited = [s for s in streams if id(s) not in moved]
        self._streams = [s for s in (*waited, *ready) if not s.done]
        return ready + [s for s in done if id(s) not in moved]
