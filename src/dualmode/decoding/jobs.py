"""Audio to recognise: files and samples, read in blocks, with their progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dualmode.audio import (
    SAMPLE_RATE_HZ,
    Samples,
    check_samples,
    duration_s,
    stream_audio,
    to_mono_16khz,
)
from dualmode.decoding.guidance import Reading
from dualmode.decoding.outcome import Outcome
from dualmode.decoding.pieces import LONGEST_S, Piece
from dualmode.decoding.transcript import Transcript, Vocabulary
from dualmode.errors import AudioError
from dualmode.progress import Progress

Audio = str | Path | Samples


class AudioJob:
    """A file or samples of a batch, and the outcomes so far."""

    def __init__(self, audio: Audio, sample_rate_hz: int) -> None:
        self.audio = audio
        self.sample_rate_hz = sample_rate_hz
        self.samples = 0
        self.outcomes: list[Outcome] = []
        self.error: AudioError | None = None

    def blocks(self) -> Iterator[Samples]:
        """Samples at 16 kHz in blocks of bounded size."""
        for block in self._read():
            self.samples += len(block)
            yield block

    def expected_s(self) -> float:
        """Duration in seconds, for files by their header."""
        if isinstance(self.audio, (str, Path)):
            return duration_s(self.audio)
        return len(self.audio) / self.sample_rate_hz

    def result(
        self, vocabulary: Vocabulary, reading: Reading, frame_s: float
    ) -> Transcript | AudioError:
        """The transcript, from frames of ``frame_s`` seconds, or the error."""
        if self.error is not None:
            return self.error
        return reading.transcript(self.outcomes, vocabulary, self.samples / SAMPLE_RATE_HZ, frame_s)

    def _read(self) -> Iterator[Samples]:
        if isinstance(self.audio, (str, Path)):
            yield from stream_audio(self.audio, LONGEST_S)
            return
        samples = to_mono_16khz(check_samples(self.audio), self.sample_rate_hz)
        size = round(LONGEST_S * SAMPLE_RATE_HZ)
        for start in range(0, len(samples), size):
            yield samples[start : start + size]


class AudioJobs:
    """All audio of a batch, with its progress.

    Args:
        audios: files and arrays of samples.
        sample_rate_hz: sample rate of samples; ignored for files.
        progress: called with the seconds of audio done and in total.
    """

    def __init__(
        self, audios: Sequence[Audio], sample_rate_hz: int, progress: Progress | None
    ) -> None:
        self._jobs = [AudioJob(audio, sample_rate_hz) for audio in audios]
        self._progress = progress
        self._total_s = sum(job.expected_s() for job in self._jobs) if progress else 0.0
        self._done_s = 0.0

    def __iter__(self) -> Iterator[AudioJob]:
        return iter(self._jobs)

    def done(self, samples: int) -> None:
        """Report that ``samples`` more samples at 16 kHz were recognised."""
        self._done_s += samples / SAMPLE_RATE_HZ
        if self._progress:
            self._progress(self._done_s, max(self._done_s, self._total_s))

    def results(
        self, vocabulary: Vocabulary, reading: Reading, frame_s: float
    ) -> list[Transcript | AudioError]:
        """A transcript, from frames of ``frame_s`` seconds, or an error for each job."""
        return [job.result(vocabulary, reading, frame_s) for job in self._jobs]


def grouped(
    pieces: Iterator[tuple[AudioJob, Piece]], seconds: float
) -> Iterator[list[tuple[AudioJob, Piece]]]:
    """Group pieces into batches of at most ``seconds``, padding included, or of one piece."""
    group: list[tuple[AudioJob, Piece]] = []
    longest = 0
    for job, piece in pieces:
        longest = max(longest, len(piece.samples))
        if group and longest * (len(group) + 1) > seconds * SAMPLE_RATE_HZ:
            yield group
            group, longest = [], len(piece.samples)
        group.append((job, piece))
    if group:
        yield group
