"""Mel frames of a stream wait here until a chunk and its look-ahead are there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dualmode.features import FRAME_MELS, MELS, Mels, encoder_frames, mels_read
from dualmode.model.subnet import ChunkedContext


class ChunkWindow(NamedTuple):
    """What one step of a stream reads: N chunks of C frames and R frames of look-ahead.

    Attributes:
        mels: (4 (N C + R) + 3, 80) mel frames, zeros past the end of the stream.
        existing: how many of the N C + R frames exist.
        real: how many of the N C frames that come out are real.
    """

    mels: Mels
    existing: int
    real: int


class ChunkBuffer:
    """Mel frames in, windows out; the last windows of a stream know how much of them is real."""

    def __init__(self, context: ChunkedContext) -> None:
        self._context = context
        self._mels: Mels = np.zeros((0, MELS), dtype=np.float32)
        self._ended = False

    def __len__(self) -> int:
        """Mel frames that wait."""
        return len(self._mels)

    def push(self, mels: Mels) -> None:
        """Take mel frames (m, 80)."""
        self._mels = np.concatenate([self._mels, mels]) if len(self._mels) else mels

    def end(self) -> None:
        """No more mel frames come: the rest does not wait for its look-ahead."""
        self._ended = True

    @property
    def ready(self) -> int:
        """How many chunks can be taken now."""
        left = encoder_frames(len(self._mels))
        if self._ended:
            return -(-left // self._context.chunk)
        return max(0, left - self._context.lookahead) // self._context.chunk

    def take(self, chunks: int) -> ChunkWindow:
        """The window of the next ``chunks`` chunks, which are not more than are ready."""
        centre = chunks * self._context.chunk
        span = centre + self._context.lookahead
        left = encoder_frames(len(self._mels))
        mels = self._mels[: mels_read(span)]
        if len(mels) < mels_read(span):
            mels = np.concatenate([mels, np.zeros((mels_read(span) - len(mels), MELS), np.float32)])
        # A copy, so that what waits does not hold the memory of what was taken.
        self._mels = self._mels[FRAME_MELS * centre :].copy()
        return ChunkWindow(mels, min(left, span), min(left, centre))
