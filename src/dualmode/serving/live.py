"""A live stream of a connection: audio in, events of both passes out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from math import floor

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples, StreamResampler
from dualmode.decoding.stream import Partial
from dualmode.decoding.transcript import Transcript
from dualmode.serving import protocol
from dualmode.serving.guided import Guided
from dualmode.serving.lanes import CaptionStream, Progress
from dualmode.serving.metrics import Metrics
from dualmode.serving.models import ServedModel
from dualmode.serving.settings import Limits

BEFORE_S = 1.0  # audio before the first word that server receives, as device emits words late
AFTER_S = 1.0  # audio after the last word that server receives; 0.3 s cost 1.5 points of WER
KEPT_S = 40.0  # audio kept for second passes; no segment is longer


class LiveStream:
    """A stream of a connection, as the event loop uses it.

    Args:
        start: the client's message that opened the stream.
        model: model that recognises it.
        emit: called with its events, in order.
    """

    def __init__(
        self,
        start: protocol.Start,
        model: ServedModel,
        limits: Limits,
        metrics: Metrics,
        emit: Callable[[protocol.Event], None],
    ) -> None:
        self.name = start.stream
        self.encoding = start.encoding
        self.seconds = 0.0
        self.finished = False  # the client will send no more audio
        self.done = asyncio.Event()
        self._model = model
        self._limits = limits
        self._metrics = metrics
        self._emit = emit
        self._revise = start.revise and model.revisions is not None
        self._given = start.guidance
        self._written = start.written
        self._guided: Guided | None = None
        self._resampler = StreamResampler(start.sample_rate_hz)
        self._audio = _RecentAudio()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._room.set()
        self._stream: CaptionStream | None = None
        self._behind_s = 0.0
        self._pushed_at = time.perf_counter()
        self._segments = 0
        self._segment_end_s = 0.0
        self._revising = 0
        self._processed = False  # device has processed all audio

    async def open(self) -> None:
        """Join the other live streams of the model.

        Raises:
            DualmodeError: the phrases or hotwords of the stream are invalid.
        """

        def listen(progress: Progress) -> None:
            self._loop.call_soon_threadsafe(self._progress, progress)

        if self._given or self._written:
            guide = self._model.guide
            self._guided = await self._loop.run_in_executor(
                guide.thread, guide.compile, self._given, self._written
            )
        guided = None if self._guided is None else (self._guided.name, self._guided.group)
        opened = self._model.captions.open(listen, guided)
        try:
            stream: CaptionStream = await asyncio.wrap_future(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(self._discard)
            raise
        self._stream = stream
        self._metrics.streams.inc()

    def _discard(self, opened: Future[CaptionStream]) -> None:
        """Close a stream whose client disconnected before it was open."""
        if not opened.cancelled():
            self._model.captions.close(opened.result())

    def push(self, samples: Samples) -> None:
        """Push samples (S,) at the sample rate of the stream."""
        self._submit(self._resampler.push(samples))

    def finish(self) -> None:
        """Mark the end of the audio."""
        if not self.finished:
            self.finished = True
            self._submit(self._resampler.finish())
            assert self._stream is not None
            self._model.captions.end(self._stream)

    async def room(self) -> None:
        """Wait until the audio and segments in the queues are within the limits."""
        await self._room.wait()

    def close(self) -> None:
        """Leave the group of streams: the client has disconnected, or the stream is done."""
        if self._stream is not None:
            self._model.captions.close(self._stream)
            self._stream = None
            self._metrics.streams.dec()

    def _submit(self, samples: Samples) -> None:
        if len(samples) and self._stream is not None:
            self.seconds += len(samples) / SAMPLE_RATE_HZ
            self._behind_s += len(samples) / SAMPLE_RATE_HZ
            self._pushed_at = time.perf_counter()
            self._metrics.audio.labels("device").inc(len(samples) / SAMPLE_RATE_HZ)
            if self._revise:
                self._audio.push(samples)
            self._model.captions.push(self._stream, samples)
            self._update_room()

    def _progress(self, progress: Progress) -> None:
        """Handle the result of a step of device; runs in the event loop."""
        if self._stream is None:
            return
        self._behind_s = progress.waiting_s
        if progress.partial is not None:
            self._partial(progress.partial)
        if progress.rest is not None:
            if progress.rest.words:
                self._segment(progress.rest, self.seconds)
            elif progress.rest.rejected:
                self._rejected(progress.rest)
            self._processed = True
        self._update_room()
        self._end_if_done()

    def _partial(self, partial: Partial) -> None:
        for transcript in partial.finished:
            if not transcript.words:
                self._rejected(transcript)
                continue
            following = partial.words[0].start_s if partial.words else transcript.seconds
            middle = (transcript.words[-1].end_s + following) / 2
            self._segment(transcript, max(middle, transcript.words[-1].end_s))
        if partial.words:
            self._metrics.caption_delay.observe(time.perf_counter() - self._pushed_at)
            event = protocol.partial(self.name, self._segments, partial.words, partial.stable)
            self._emit(event)

    def _segment(self, transcript: Transcript, end_s: float) -> None:
        """Emit a segment with words, which has ended."""
        words = transcript.words
        start_s = max(self._segment_end_s, words[0].start_s - BEFORE_S)
        self._end_segment(transcript, start_s, min(end_s, words[-1].end_s + AFTER_S))

    def _rejected(self, transcript: Transcript) -> None:
        """Emit a segment in which device heard speech that is none of the phrases."""
        start_s = max(self._segment_end_s, transcript.seconds - KEPT_S)
        self._end_segment(transcript, start_s, transcript.seconds)

    def _end_segment(self, transcript: Transcript, start_s: float, end_s: float) -> None:
        """Emit a segment that has ended, and have server recognise it again."""
        number, self._segments = self._segments, self._segments + 1
        # Whole frames, so that the frames of server are frames of the stream.
        frame_s = self._model.recognizer.framing.frame_s
        start_frame = floor(start_s / frame_s)
        start_s = start_frame * frame_s
        self._segment_end_s = end_s
        span_s = start_s, end_s
        self._emit(
            protocol.segment("segment", self.name, number, span_s, transcript, self._written)
        )
        if not self._revise or self._model.revisions is None:
            return
        samples = self._audio.between(start_s, end_s)

        def revised(transcript: Transcript) -> None:
            self._loop.call_soon_threadsafe(self._revised, number, start_s, end_s, transcript)

        self._revising += 1
        self._metrics.audio.labels("server").inc(len(samples) / SAMPLE_RATE_HZ)
        guided = None if self._guided is None else (self._guided.name, self._guided.guidance)
        self._model.revisions.submit(samples, start_frame, revised, guided)

    def _revised(self, number: int, start_s: float, end_s: float, transcript: Transcript) -> None:
        self._revising -= 1
        if self._stream is not None:
            span_s = start_s, end_s
            event = protocol.segment(
                "revised", self.name, number, span_s, transcript, self._written
            )
            self._emit(event)
            self._update_room()
            self._end_if_done()

    def _update_room(self) -> None:
        full = (
            self._behind_s > self._limits.waiting_seconds
            or self._revising >= self._limits.waiting_segments
        )
        (self._room.clear if full else self._room.set)()

    def _end_if_done(self) -> None:
        if self._processed and not self._revising and not self.done.is_set():
            self._emit(protocol.done(self.name, self.seconds, self._segments))
            self.close()
            self.done.set()


class _RecentAudio:
    """The last KEPT_S seconds of a stream, at 16 kHz."""

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()
        self._start = 0  # index of a sample
        self._end = 0

    def push(self, samples: Samples) -> None:
        self._blocks.append(samples)
        self._end += len(samples)
        while self._end - self._start - len(self._blocks[0]) > KEPT_S * SAMPLE_RATE_HZ:
            self._start += len(self._blocks.popleft())

    def between(self, start_s: float, end_s: float) -> Samples:
        """The samples of a span, as far as they are kept."""
        start = max(0, round(start_s * SAMPLE_RATE_HZ) - self._start)
        end = max(start, round(end_s * SAMPLE_RATE_HZ) - self._start)
        return np.concatenate([np.zeros(0, np.float32), *self._blocks])[start:end]
