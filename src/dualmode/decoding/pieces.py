"""Divides long audio at quiet places, so that memory does not grow with its duration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.features import Framing

LONGEST_S = 30.0
_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 25  # loudness is measured every 40 ms
_QUIET_BLOCKS = 5  # a cut is in the middle of the quietest 200 ms


@dataclass(frozen=True)
class Piece:
    """Samples of a longer recording that begin at its frame ``start``."""

    start: int
    samples: Samples


def cut_pieces(blocks: Iterable[Samples], longest_s: float, framing: Framing) -> Iterator[Piece]:
    """Divide a stream of samples into pieces of at most ``longest_s`` seconds.

    Cuts are at the quietest place of the second half of the longest possible piece, between two
    frames of ``framing``. Every sample is in exactly one piece, in order; memory is that of a block
    and a piece.

    Raises:
        ValueError: ``longest_s`` is below 2.
    """
    if longest_s < 2.0:
        raise ValueError(f"longest_s must be at least 2, not {longest_s}")
    frame = framing.stride_samples
    longest = int(longest_s * SAMPLE_RATE_HZ) // frame * frame
    start = 0
    waiting = np.zeros(0, dtype=np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) > longest:
            end = _quietest(waiting[:longest]) // frame * frame
            yield Piece(start // frame, waiting[:end])
            waiting = waiting[end:]
            start += end
    if len(waiting):
        yield Piece(start // frame, waiting)


def _quietest(samples: Samples) -> int:
    """The quietest place in the second half of ``samples``, in samples from their start."""
    first = len(samples) // 2 // _BLOCK_SAMPLES
    blocks = samples[first * _BLOCK_SAMPLES :].reshape(-1, _BLOCK_SAMPLES)
    energy = np.square(blocks, dtype=np.float64).sum(axis=1)
    around = np.convolve(energy, np.ones(_QUIET_BLOCKS), mode="valid")
    middle = int(around.argmin()) + (_QUIET_BLOCKS + 1) // 2
    return (first + middle) * _BLOCK_SAMPLES
