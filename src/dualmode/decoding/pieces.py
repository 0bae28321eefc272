"""Divides long audio at quiet places, so that memory does not grow with its duration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.features import FRAME_SAMPLES

LONGEST_S = 30.0
_QUIET_FRAMES = 5  # a cut is in the middle of the quietest 200 ms


@dataclass(frozen=True)
class Piece:
    """Samples of a longer recording that begin at its frame ``start`` (40 ms each)."""

    start: int
    samples: Samples


def cut_pieces(blocks: Iterable[Samples], longest_s: float = LONGEST_S) -> Iterator[Piece]:
    """Divide a stream of samples into pieces of at most ``longest_s`` seconds.

    Cuts are at the quietest place of the second half of the longest possible piece. Every sample is
    in exactly one piece, in order; memory is that of a block and a piece.

    Raises:
        ValueError: ``longest_s`` is below 2.
    """
    if longest_s < 2.0:
        raise ValueError(f"longest_s must be at least 2, not {longest_s}")
    longest = int(longest_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES * FRAME_SAMPLES
    start = 0
    waiting = np.zeros(0, dtype=np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) > longest:
            end = _quietest(waiting[:longest])
            yield Piece(start // FRAME_SAMPLES, waiting[:end])
            waiting = waiting[end:]
            start += end
    if len(waiting):
        yield Piece(start // FRAME_SAMPLES, waiting)


def _quietest(samples: Samples) -> int:
    """Position of the cut: a multiple of FRAME_SAMPLES in the second half of ``samples``."""
    first = len(samples) // 2 // FRAME_SAMPLES
    frames = samples[first * FRAME_SAMPLES :].reshape(-1, FRAME_SAMPLES)
    energy = np.square(frames, dtype=np.float64).sum(axis=1)
    around = np.convolve(energy, np.ones(_QUIET_FRAMES), mode="valid")
    middle = int(around.argmin()) + (_QUIET_FRAMES + 1) // 2
    return (first + middle) * FRAME_SAMPLES
