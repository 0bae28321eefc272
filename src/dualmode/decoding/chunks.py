"""Collects the mel frames of a stream until a chunk and its look-ahead are complete."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dualmode.features import FRAME_MELS, MELS, Mels, encoder_frames, mels_read
from dualmode.model.subnet import ChunkedContext


class ChunkWindow(NamedTuple):
    """Input of one step of a stream: N chunks of C frames and R frames of look-ahead.

    Attributes:
        mels: (4 (N C + R) + 3, 80) mel frames, zeros beyond the end of the stream.
        existing: number of the N C + R frames that exist.
        real: number of the N C output frames that exist.
    """

    mels: Mels
    existing: int
    real: int


class ChunkBuffer:
    """Collects mel frames and returns windows; those at the end state how many frames exist."""

    def __init__(self, context: ChunkedContext) -> None:
        self._context = context
        self._mels: Mels = np.zeros((0, MELS), dtype=np.float32)
        self._ended = False

    def __len__(self) -> int:
        """Number of mel frames in the buffer."""
        return len(self._mels)

    def push(self, mels: Mels) -> None:
        """Add mel frames (m, 80)."""
        self._mels = np.concatenate([self._mels, mels]) if len(self._mels) else mels

    def end(self) -> None:
        """Mark the end of the stream, so that the rest does not wait for its look-ahead."""
        self._ended = True

    @property
    def ready(self) -> int:
        """Number of chunks that can be taken now."""
        left = encoder_frames(len(self._mels))
        if self._ended:
            return -(-left // self._context.chunk)
        return max(0, left - self._context.lookahead) // self._context.chunk

    def take(self, chunks: int) -> ChunkWindow:
        """Remove and return the window of the next ``chunks`` chunks, at most :attr:`ready`."""
        centre = chunks * self._context.chunk
        span = centre + self._context.lookahead
        left = encoder_frames(len(self._mels))
        mels = self._mels[: mels_read(span)]
        if len(mels) < mels_read(span):
            mels = np.concatenate([mels, np.zeros((mels_read(span) - len(mels), MELS), np.float32)])
        # A copy, so that the buffer does not keep the memory of the window alive.
        self._mels = self._mels[FRAME_MELS * centre :].copy()
        return ChunkWindow(mels, min(left, span), min(left, centre))
