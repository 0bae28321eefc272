"""Collects the mel frames of a stream until a chunk and its look-ahead are complete."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dualmode.features import MELS, Framing, Mels
from dualmode.model.subnet import ChunkedContext


class ChunkWindow(NamedTuple):
    """Input of one step of a stream: N chunks of C frames and R frames of look-ahead.

    Attributes:
        mels: (M, 80) mel frames that the N C + R frames read, zeros beyond the end of the stream.
        existing: number of the N C + R frames that exist.
        real: number of the N C output frames that exist.
    """

    mels: Mels
    existing: int
    real: int


class ChunkBuffer:
    """Collects mel frames and returns windows; those at the end state how many frames exist."""

    def __init__(self, context: ChunkedContext, framing: Framing) -> None:
        self._context = context
        self._framing = framing
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
        left = self._framing.frames(len(self._mels))
        if self._ended:
            return -(-left // self._context.chunk)
        return max(0, left - self._context.lookahead) // self._context.chunk

    def take(self, chunks: int) -> ChunkWindow:
        """Remove and return the window of the next ``chunks`` chunks, at most :attr:`ready`."""
        centre = chunks * self._context.chunk
        span = centre + self._context.lookahead
        left = self._framing.frames(len(self._mels))
        read = self._framing.mels_read(span)
        mels = self._mels[:read]
        if len(mels) < read:
            mels = np.concatenate([mels, np.zeros((read - len(mels), MELS), np.float32)])
        # A copy, so that the buffer does not keep the memory of the window alive.
        self._mels = self._mels[self._framing.stride_mels * centre :].copy()
        return ChunkWindow(mels, min(left, span), min(left, centre))
