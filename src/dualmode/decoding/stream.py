"""Recognition of live streams, singly or as a batch.

Streamed frames equal those of the offline forward of the same subnet, however the samples are
divided: mel frames are collected until a chunk and its look-ahead are complete, and the number of
existing frames of the last chunk is passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples, StreamResampler, check_samples
from dualmode.decoding.chunks import ChunkBuffer
from dualmode.decoding.guidance import Reading
from dualmode.decoding.outcome import Hypothesis, Outcome
from dualmode.decoding.search import Search
from dualmode.decoding.transcript import (
    Token,
    Transcript,
    Vocabulary,
    Word,
    WrittenWord,
    in_writing,
    token_spans,
)
from dualmode.errors import DualmodeError
from dualmode.features import OnlineFbank
from dualmode.model.subnet import ChunkedContext, Subnet, chunked_context
from dualmode.runtime import Runtime

TAIL_S = 0.3
WINDOWS_A_STEP = 64  # most chunks of all streams in one step, to limit memory


@dataclass(frozen=True)
class Endpointing:
    """Rules by which a stream is divided into segments.

    Attributes:
        silence_s: time without a token, in seconds, that ends a segment.
        longest_s: longest segment, in seconds; a longer one is divided before its last word.
    """

    silence_s: float = 1.2
    longest_s: float = 20.0

    def __post_init__(self) -> None:
        if self.silence_s <= 0 or self.longest_s <= 0:
            raise ValueError("silence_s and longest_s must be greater than 0")


@dataclass(frozen=True)
class StreamOptions:
    """Options of a stream.

    Attributes:
        endpointing: rules of segments; None is one segment, whose memory grows with the text.
        tail_s: silence, in seconds, appended at the end, so that the last words are emitted.
        sample_rate_hz: sample rate of the pushed samples, which are resampled to 16 kHz.
        keep_finished: whether the final transcript includes finished segments. If not, it begins
            after the last endpoint, and memory does not grow with the stream.
        reading: contents of transcripts besides words.
    """

    endpointing: Endpointing | None = Endpointing()
    tail_s: float = TAIL_S
    keep_finished: bool = True
    sample_rate_hz: int = SAMPLE_RATE_HZ
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Partial:
    """The current segment of a stream, and the segments that have just ended.

    Attributes:
        words: words since the last endpoint.
        stable: number of leading ``words`` that will not change any more.
        finished: segments that ended with the latest samples, usually none or one.
        written: the words in written form, if requested.
    """

    words: tuple[Word, ...]
    stable: int
    finished: tuple[Transcript, ...] = ()
    written: tuple[WrittenWord, ...] = ()

    @property
    def text(self) -> str:
        """The words of the current segment, separated by spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def endpoint(self) -> bool:
        """Whether a segment ended."""
        return bool(self.finished)


class StreamPast:
    """Everything that belongs to one stream: pending audio, states, and its text so far.

    The computation is in :func:`advance`, which moves one or several streams by the same chunks.
    """

    def __init__(
        self,
        runtime: Runtime,
        context: ChunkedContext,
        search: Search[Any],
        vocabulary: Vocabulary,
        options: StreamOptions,
    ) -> None:
        self.buffer = ChunkBuffer(context, runtime.framing)
        self.state = runtime.initial_state(1)
        self.hypotheses = search.start(1)
        self.ended = False
        self._search = search
        self._vocabulary = vocabulary
        self._options = options
        self._frame_s = runtime.framing.frame_s
        self._resampler = StreamResampler(options.sample_rate_hz)
        self._fbank = OnlineFbank()
        self._samples = 0
        self._frames = 0
        self._segment_start = 0  # index of a frame
        self._kept: list[Token] = []
        self._shown: tuple[Word, ...] = ()
        self._segments: list[Transcript] = []  # finished, but not in a partial yet
        self._moved = False  # whether frames were decoded since the last partial

    @property
    def seconds(self) -> float:
        """Duration of the audio so far, in seconds."""
        return self._samples / self._options.sample_rate_hz

    @property
    def cuts(self) -> bool:
        """Whether segments may still end. After the end of the stream they do not, because its
        words belong to the final transcript."""
        return self._options.endpointing is not None and not self.ended

    def push(self, samples: Samples) -> None:
        """Add valid samples (S,)."""
        self._samples += len(samples)
        self.buffer.push(self._fbank.push(self._resampler.push(samples)))

    def end(self) -> None:
        """Mark the end of the audio."""
        self.ended = True
        rest = np.concatenate([self._resampler.finish(), silence(self._options.tail_s)])
        self.buffer.push(np.concatenate([self._fbank.push(rest), self._fbank.finish()]))
        self.buffer.end()

    def decoded(self, hypotheses: Any, frames: int) -> None:
        """Set the state of the search after ``frames`` more frames, and end the segment if it is
        due."""
        self.hypotheses = hypotheses
        self._frames += frames
        self._moved = self._moved or frames > 0
        if self.cuts and (segment := self._segment()) is not None:
            self._segments.append(segment)

    def partial(self) -> Partial | None:
        """The current text, or None if neither text nor segments changed since the last call."""
        if not self._moved:
            return None
        self._moved = False
        words, stable = self._words()
        finished, self._segments = tuple(self._segments), []
        if not finished and words == self._shown:
            return None
        self._shown = words
        written = in_writing(words) if self._options.reading.written else ()
        return Partial(words, stable, finished, written)

    def transcript(self) -> Transcript:
        """The transcript of the whole stream, or since the last endpoint."""
        (outcome,) = self._outcomes(self._search.finish(self.hypotheses))
        return self._options.reading.transcript(
            [outcome], self._vocabulary, self.seconds, self._frame_s, earlier=self._kept
        )

    def _outcomes(self, finished: Any) -> list[Outcome]:
        return self._search.outcomes(finished, self._options.reading.nbest)

    def _words(self) -> tuple[tuple[Word, ...], int]:
        """Words, and the number that are stable because the next word has begun."""
        spans = token_spans(self._search.best(self.hypotheses)[0], self._vocabulary)
        settled = self._search.stable(self.hypotheses)[0]
        stable = sum(span.end < settled for span in spans)
        calibration = self._options.reading.calibration
        return tuple(span.word(self._frame_s, calibration) for span in spans), stable

    def _segment(self) -> Transcript | None:
        """End the current segment if it is due, and return it unless it is empty."""
        endpointing = self._options.endpointing
        assert endpointing is not None
        (last,) = self._search.last_frames(self.hypotheses)
        silent_from = last + 1 if last is not None else self._frames
        if (self._frames - silent_from) * self._frame_s >= endpointing.silence_s:
            return self._end_segment()
        if (self._frames - self._segment_start) * self._frame_s < endpointing.longest_s:
            return None
        return self._end_segment() if self._search.confined else self._cut_before_last_word()

    def _end_segment(self) -> Transcript | None:
        finished = self._search.finish(self.hypotheses)
        (outcome,) = self._outcomes(finished)
        self.hypotheses = self._search.commit(finished, len(outcome.tokens), restart=True)
        return self._finished(outcome)

    def _cut_before_last_word(self) -> Transcript | None:
        """End the segment before its last word, which may be incomplete."""
        tokens = self._search.best(self.hypotheses)[0]
        starts = self._vocabulary.word_starts
        words = [index for index, token in enumerate(tokens) if starts[token.id]]
        tokens = tokens[: words[-1]] if words else ()
        self.hypotheses = self._search.commit(self.hypotheses, len(tokens))
        return self._finished(Outcome((Hypothesis(tokens, float("nan"), float("nan")),)))

    def _finished(self, outcome: Outcome) -> Transcript | None:
        self._segment_start = self._frames
        if self._options.keep_finished:
            self._kept.extend(outcome.tokens)
        if not outcome.tokens and not outcome.rejected:
            return None
        seconds = self._frames * self._frame_s
        return self._options.reading.transcript([outcome], self._vocabulary, seconds, self._frame_s)


def advance(
    runtime: Runtime, context: ChunkedContext, search: Search[Any], streams: Sequence[StreamPast]
) -> None:
    """Advance streams with complete chunks by the same number of chunks as a batch."""
    most = min(runtime.chunks_a_step, max(1, WINDOWS_A_STEP // len(streams)))
    chunks = min(most, *(stream.buffer.ready for stream in streams))
    windows = [stream.buffer.take(chunks) for stream in streams]
    frames, after = runtime.step(
        np.stack([window.mels for window in windows]),
        np.array([window.existing for window in windows]),
        runtime.join([stream.state for stream in streams]),
    )
    for stream, state in zip(streams, runtime.split(after), strict=True):
        stream.state = state
    real = np.array([window.real for window in windows])
    # Chunk by chunk if segments may end, so that they do not depend on how samples are divided.
    size = context.chunk if any(stream.cuts for stream in streams) else frames.shape[1]
    for start in range(0, frames.shape[1], size):
        counts = np.clip(real - start, 0, size)
        joined = search.join([stream.hypotheses for stream in streams])
        joined = search.advance(joined, frames[:, start : start + size], counts)
        for stream, hypotheses, count in zip(
            streams, search.split(joined), counts.tolist(), strict=True
        ):
            stream.decoded(hypotheses, count)


class StreamSession:
    """A live stream, created by ``Recognizer.stream``: push samples and receive text.

    Args:
        runtime: runtime of a subnet with chunked context.
        search: search over the frames of the runtime.
        vocabulary: vocabulary of the model.
        options: options of the stream.

    Raises:
        SubnetError: the runtime has full context.
    """

    def __init__(
        self,
        runtime: Runtime,
        search: Search[Any],
        vocabulary: Vocabulary,
        options: StreamOptions = StreamOptions(),
    ) -> None:
        self._runtime = runtime
        self._context = chunked_context(Subnet(runtime.context))
        self._search = search
        self._past = StreamPast(runtime, self._context, search, vocabulary, options)

    @property
    def seconds(self) -> float:
        """Duration of the audio pushed so far, in seconds."""
        return self._past.seconds

    def push(self, samples: Samples) -> Partial | None:
        """Push any number of mono samples (S,): floats in [-1, 1], or int16.

        Returns:
            A partial if the text changed or a segment ended, else None.

        Raises:
            AudioError: the samples are invalid; the stream remains unchanged.
            DualmodeError: the stream was finished.
        """
        self._check_open("push")
        self._past.push(check_samples(samples))
        self._advance()
        return self._past.partial()

    def finish(self) -> Transcript:
        """End the stream and return its transcript, including the last words.

        No segment ends here, so earlier partials and this transcript contain every word of the
        stream, with or without ``keep_finished``.

        Raises:
            DualmodeError: the stream was finished before.
        """
        self._check_open("finish")
        self._past.end()
        self._advance()
        return self._past.transcript()

    def _advance(self) -> None:
        while self._past.buffer.ready:
            advance(self._runtime, self._context, self._search, [self._past])

    def _check_open(self, action: str) -> None:
        if self._past.ended:
            raise DualmodeError(
                f"cannot {action}: the stream is finished; open a new one with Recognizer.stream"
            )


def silence(seconds: float) -> Samples:
    """Samples (S,) of silence."""
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
