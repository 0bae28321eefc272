"""The threads that compute, so that the event loop is never blocked.

Each model has two: in one, device advances all live streams as a batch; in the other, server
recognises ended segments in batches. Captions have their own thread, so second passes do not delay
them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.decoding.guidance import Guidance
from dualmode.decoding.stream import Partial
from dualmode.decoding.transcript import Transcript
from dualmode.features import Framing
from dualmode.recognizer import Recognizer
from dualmode.serving.metrics import Metrics

BATCH_SEGMENTS = 8
BATCH_SECONDS = 60.0


@dataclass(frozen=True)
class Progress:
    """Result of a step for one stream.

    Attributes:
        partial: None if no word changed.
        rest: transcript since the last segment, when the stream is done.
        waiting_s: audio of the stream that device has not processed yet.
    """

    partial: Partial | None
    rest: Transcript | None
    waiting_s: float


class CaptionStream(Protocol):
    """A live stream of a group; ``push``, ``end`` and ``close`` are called by other threads."""

    @property
    def ready(self) -> bool:
        """Whether :meth:`CaptionGroup.advance` may have something to do."""
        ...

    @property
    def done(self) -> bool:
        """Whether the stream has ended and all of its audio is decoded."""
        ...

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that are not decoded yet."""
        ...

    def push(self, samples: Samples) -> None:
        """Push samples (S,) at 16 kHz."""
        ...

    def end(self) -> None:
        """Mark the end of the audio."""
        ...

    def close(self) -> None:
        """Leave the group at once."""
        ...

    def partial(self) -> Partial | None:
        """The current text, or None if nothing changed since the last call."""
        ...

    def transcript(self) -> Transcript:
        """The transcript since the last segment of a stream that is done."""
        ...


class CaptionGroup(Protocol):
    """Live streams that advance as a batch: a :class:`dualmode.streams.StreamGroup`, or an
    :class:`dualmode.serving.engine_group.EngineGroup`."""

    def __len__(self) -> int:
        """Number of streams that are neither done nor closed."""
        ...

    def open(self) -> CaptionStream:
        """Add a stream."""
        ...

    def advance(self) -> Sequence[CaptionStream]:
        """Compute one step. Returns the streams that advanced or are done."""
        ...


class CaptionLane:
    """The thread in which device advances all live streams of a model."""

    def __init__(self, group: CaptionGroup, metrics: Metrics) -> None:
        self._group = group
        self._guided: dict[str, CaptionGroup] = {}
        self._metrics = metrics
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[int, Callable[[Progress], None]] = {}
        self._thread = threading.Thread(target=self._run, name="captions", daemon=True)
        self._thread.start()

    def open(
        self, listener: Callable[[Progress], None], guided: tuple[str, CaptionGroup] | None = None
    ) -> Future[CaptionStream]:
        """Add a stream; ``listener`` is called in this thread with its progress.

        Args:
            guided: a name of the guidance of the stream and a new group with this guidance, which
                serves all streams of the same name.
        """
        opened: Future[CaptionStream] = Future()

        def add() -> None:
            if not opened.set_running_or_notify_cancel():
                return
            group = self._guided.setdefault(*guided) if guided else self._group
            stream = group.open()
            self._listeners[id(stream)] = listener
            opened.set_result(stream)

        self._commands.put(add)
        return opened

    def push(self, stream: CaptionStream, samples: Samples) -> None:
        """Push samples (S,) at 16 kHz to a stream."""
        stream.push(samples)
        if stream.ready:  # otherwise the thread need not wake up
            self._commands.put(_nothing)

    def end(self, stream: CaptionStream) -> None:
        """End a stream; the listener is called when all of its audio is processed."""
        stream.end()
        self._commands.put(_nothing)

    def close(self, stream: CaptionStream) -> None:
        """Discard a stream whose client has disconnected."""
        stream.close()

        def leave() -> None:
            self._listeners.pop(id(stream), None)

        self._commands.put(leave)

    def stop(self) -> None:
        """End the thread."""
        self._commands.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            command()
            while True:
                if not self._take_commands():
                    return
                moved = [self._advance(group) for group in (self._group, *self._guided.values())]
                if not any(moved):
                    break
            self._guided = {name: group for name, group in self._guided.items() if len(group)}

    def _advance(self, group: CaptionGroup) -> bool:
        """Compute one step of a group; returns False if there was nothing to do."""
        began = time.perf_counter()
        moved = group.advance()
        if moved:
            self._metrics.step(time.perf_counter() - began, len(moved))
        for stream in moved:
            self._notify(stream)
        return bool(moved)

    def _take_commands(self) -> bool:
        """Run the queued commands; returns False when the thread has to end."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

    def _notify(self, stream: CaptionStream) -> None:
        listener = self._listeners.get(id(stream))
        partial = stream.partial()
        rest = stream.transcript() if stream.done else None
        if rest is not None:
            self._listeners.pop(id(stream), None)
        if listener is not None:
            listener(Progress(partial, rest, stream.waiting_s))


def _nothing() -> None:
    """A command that only wakes the thread."""


class RevisionLane:
    """The thread in which server recognises segments of live streams again."""

    def __init__(self, recognizer: Recognizer, metrics: Metrics) -> None:
        self._recognizer = recognizer
        self._metrics = metrics
        self._waiting: queue.SimpleQueue[_Revision | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="revisions", daemon=True)
        self._thread.start()

    def submit(
        self,
        samples: Samples,
        start_frame: int,
        listener: Callable[[Transcript], None],
        guided: tuple[str, Guidance] | None = None,
    ) -> None:
        """Recognise samples (S,) that begin at a frame of their stream; ``listener`` is
        called in this thread with the transcript, in times of the stream.

        Args:
            guided: a name of the guidance of the stream, and the guidance.
        """
        self._metrics.waiting_segments.inc()
        self._waiting.put(_Revision(samples, start_frame, listener, time.perf_counter(), guided))

    def stop(self) -> None:
        """End the thread after the queued segments."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, stopping = self._more(first)
            for name in dict.fromkeys(job.guidance_name for job in batch):
                self._recognize([job for job in batch if job.guidance_name == name])
            if stopping:
                return

    def _recognize(self, batch: list[_Revision]) -> None:
        """Recognise segments with the same guidance."""
        began = time.perf_counter()
        guidance = batch[0].guided[1] if batch[0].guided else Guidance()
        samples = [job.samples for job in batch]
        results = self._recognizer.transcribe_batch(samples, "server", **guidance)
        now = time.perf_counter()
        self._metrics.waiting_segments.dec(len(batch))
        self._metrics.revised(now - began, [now - job.asked for job in batch])
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Transcript):
                job.listener(shifted(result, job.start_frame, self._recognizer.framing))
            else:  # not the client's fault: its samples were checked before
                job.listener(Transcript((), 0.0))

    def _more(self, first: _Revision) -> tuple[list[_Revision], bool]:
        """A batch of ``first`` and the queued segments that fit, and whether to stop after it."""
        batch, samples = [first], len(first.samples)
        while len(batch) < BATCH_SEGMENTS and samples < BATCH_SECONDS * SAMPLE_RATE_HZ:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
            samples += len(job.samples)
        return batch, False


@dataclass(frozen=True)
class _Revision:
    samples: Samples
    start_frame: int
    listener: Callable[[Transcript], None]
    asked: float
    guided: tuple[str, Guidance] | None

    @property
    def guidance_name(self) -> str:
        return self.guided[0] if self.guided else ""


def shifted(transcript: Transcript, frames: int, framing: Framing) -> Transcript:
    """The same transcript, later by ``frames`` frames."""
    seconds = frames * framing.frame_ms / 1000
    return replace(
        transcript,
        words=tuple(
            replace(
                word,
                start_s=round(word.start_s + seconds, 3),
                end_s=round(word.end_s + seconds, 3),
            )
            for word in transcript.words
        ),
        seconds=transcript.seconds + seconds,
        tokens=tuple(replace(token, frame=token.frame + frames) for token in transcript.tokens),
    )
