"""Recognition of one stream of samples, as they come.

Streamed frames equal those of the offline forward of the same subnet, wherever the samples were
cut: mel frames wait until a chunk and its look-ahead are there, and the last chunk is told how
many of its frames are real.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.decoding.chunks import ChunkEncoder
from dualmode.decoding.search import Search
from dualmode.decoding.transcript import (
    FRAME_S,
    Token,
    Transcript,
    Vocabulary,
    Word,
    token_spans,
    transcript_of,
)
from dualmode.errors import AudioError, DualmodeError
from dualmode.features import OnlineFbank
from dualmode.model.subnet import Subnet
from dualmode.model.supernet import Supernet

Samples = npt.NDArray[np.float32]

TAIL_S = 0.3


@dataclass(frozen=True)
class Endpointing:
    """When a stream's text is cut into segments.

    Attributes:
        silence_s: a segment ends when no token was emitted for so long after its last word.
        longest_s: a segment that lasts longer is cut before its last word.
    """

    silence_s: float = 1.2
    longest_s: float = 20.0

    def __post_init__(self) -> None:
        if self.silence_s <= 0 or self.longest_s <= 0:
            raise ValueError("silence_s and longest_s must be greater than 0")


@dataclass(frozen=True)
class Partial:
    """What changed with the latest samples.

    Attributes:
        words: of the segment that is being spoken, so since the last endpoint.
        stable: how many of ``words``, from the first, will not change any more.
        finished: segments that ended with these samples, usually none or one.
    """

    words: tuple[Word, ...]
    stable: int
    finished: tuple[Transcript, ...] = ()

    @property
    def text(self) -> str:
        """The words of the current segment, a space between them."""
        return " ".join(word.text for word in self.words)

    @property
    def endpoint(self) -> bool:
        """Whether a segment ended."""
        return bool(self.finished)


class StreamSession:
    """Push samples, get text. Made by ``Recognizer.stream``.

    Args:
        model: in evaluation mode.
        vocabulary: of the model's tokens.
        subnet: with chunked context.
        search: over the subnet's scorer.
        endpointing: None never cuts the stream into segments; memory then grows with the text.
        tail_s: silence appended at the end, so that words spoken up to the last sample are
            emitted.
        keep_finished: whether :meth:`finish` gives the whole stream. If not, it gives what came
            after the last endpoint, and the memory of a stream that never ends is bounded.

    Raises:
        SubnetError: ``subnet`` has full context, or the model does not hold it.
    """

    def __init__(
        self,
        model: Supernet,
        vocabulary: Vocabulary,
        subnet: Subnet,
        search: Search[Any],
        *,
        endpointing: Endpointing | None,
        tail_s: float = TAIL_S,
        keep_finished: bool = True,
    ) -> None:
        self._encoder = ChunkEncoder(model, subnet)
        self._vocabulary = vocabulary
        self._search = search
        self._endpointing = endpointing
        self._tail_s = tail_s
        self._keep_finished = keep_finished
        self._fbank = OnlineFbank()
        self._state = search.start(1, self._encoder.device)
        self._samples = 0
        self._frames = 0
        self._segment_start = 0  # frame
        self._finished: list[Token] = []
        self._shown: tuple[Word, ...] = ()
        self._open = True

    @property
    def seconds(self) -> float:
        """Length of the audio pushed so far."""
        return self._samples / SAMPLE_RATE_HZ

    def push(self, samples: Samples) -> Partial | None:
        """Hear more: any number of 16 kHz mono samples in [-1, 1].

        Returns:
            A partial when the text changed or a segment ended, else None.

        Raises:
            AudioError: not one row of finite floating-point samples; the stream is as before.
            DualmodeError: the stream was finished.
        """
        self._check_open("push")
        checked = check_samples(samples)
        self._samples += len(checked)
        return self._advance(self._encoder.push(self._fbank.push(checked)))

    def finish(self) -> Transcript:
        """End the stream and get the transcript of all of it, the last words included.

        Raises:
            DualmodeError: the stream was finished before.
        """
        self._check_open("finish")
        self._open = False
        mels = np.concatenate([self._fbank.push(silence(self._tail_s)), self._fbank.finish()])
        self._advance(chain(self._encoder.push(mels), self._encoder.finish()))
        tokens = (*self._finished, *self._search.best(self._state)[0])
        return transcript_of(tokens, self._vocabulary, self.seconds)

    def _check_open(self, action: str) -> None:
        if not self._open:
            raise DualmodeError(
                f"cannot {action}: the stream is finished; open another with Recognizer.stream"
            )

    def _advance(self, chunks: Iterable[Tensor]) -> Partial | None:
        finished, before = [], self._frames
        # Chunk by chunk, so that endpoints do not depend on how the samples were cut.
        for frames in chunks:
            count = frames.shape[1]
            self._state = self._search.advance(self._state, frames, torch.tensor([count]))
            self._frames += count
            segment = self._segment()
            if segment is not None:
                finished.append(segment)
        if self._frames == before:
            return None
        words, stable = self._words()
        if not finished and words == self._shown:
            return None
        self._shown = words
        return Partial(words, stable, tuple(finished))

    def _words(self) -> tuple[tuple[Word, ...], int]:
        """Words, and how many of them are stable: the first token of the next word is."""
        spans = token_spans(self._search.best(self._state)[0], self._vocabulary)
        settled = self._search.stable(self._state)[0]
        stable = sum(span.end < settled for span in spans)
        return tuple(span.word() for span in spans), stable

    def _segment(self) -> Transcript | None:
        """End the current segment if it is time, and give it if it has words."""
        if self._endpointing is None:
            return None
        tokens = self._search.best(self._state)[0]
        silent_from = tokens[-1].frame + 1 if tokens else self._frames
        if (self._frames - silent_from) * FRAME_S >= self._endpointing.silence_s:
            return self._cut(tokens)
        if (self._frames - self._segment_start) * FRAME_S < self._endpointing.longest_s:
            return None
        # The last word may go on: it opens the next segment.
        starts = self._vocabulary.word_starts
        words = [index for index, token in enumerate(tokens) if starts[token.id]]
        return self._cut(tokens[: words[-1]] if words else ())

    def _cut(self, tokens: tuple[Token, ...]) -> Transcript | None:
        self._segment_start = self._frames
        self._state = self._search.commit(self._state, len(tokens))
        if self._keep_finished:
            self._finished.extend(tokens)
        return transcript_of(tokens, self._vocabulary, self._frames * FRAME_S) if tokens else None


def check_samples(samples: Samples) -> Samples:
    """Samples (S,) as float32.

    Raises:
        AudioError: not one row, not floating point, or not finite.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise AudioError(
            f"samples must be one row (S,), not {array.shape}: average the channels first"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"samples must be floats in [-1, 1], not {array.dtype}: divide int16 by 32768"
        )
    if not np.isfinite(array).all():
        raise AudioError("samples hold NaN or infinity: check where they come from")
    return array.astype(np.float32, copy=False)


def silence(seconds: float) -> Samples:
    """Zero samples."""
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
