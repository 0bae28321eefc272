"""The frames that pre-training masks, and the distractors of each.

Every utterance has its own random generator, so draws do not depend on batches or processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualmode.config import PretrainingConfig

Random = np.random.Generator
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hidden:
    """Masked frames of a batch; K is the largest number of an utterance.

    Attributes:
        frames: (B, K) int64, ascending, padded with 0.
        valid: (B, K) True where a masked frame exists.
        distractors: (B, K, N) int64 indices 0 .. K - 1 of other masked frames of the utterance.
        noise: (B, K, G, E) Gumbel noise for sampling codewords; None in evaluation and BEST-RQ.
    """

    frames: Tensor
    valid: Tensor
    distractors: Tensor
    noise: Tensor | None

    def mask(self, frames: int) -> Tensor:
        """(B, frames) True where a frame is masked."""
        counts = torch.zeros(len(self.frames), frames, device=self.frames.device)
        return counts.scatter_add_(1, self.frames, self.valid.float()) > 0

    def of(self, rows: Tensor) -> Hidden:
        """Select the utterances ``rows`` of the batch."""
        noise = None if self.noise is None else self.noise[rows]
        return Hidden(self.frames[rows], self.valid[rows], self.distractors[rows], noise)

    def to(self, device: torch.device | str) -> Hidden:
        """The same with tensors on ``device``."""
        names = ("frames", "valid", "distractors")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        noise = None if self.noise is None else self.noise.to(device, non_blocking=True)
        return replace(self, **moved, noise=noise)


def hide(
    lengths: Sequence[int], rngs: Sequence[Random], config: PretrainingConfig, *, noisy: bool
) -> Hidden:
    """Draw spans for utterances of ``lengths`` frames; ``noisy`` adds Gumbel noise for training.

    Distractors and noise are for wav2vec 2.0 only; with BEST-RQ there are none (N is 0).
    """
    contrast = config.objective == "wav2vec2"
    others = config.distractors if contrast else 0
    chosen = [draw_spans(length, config, rng) for length, rng in zip(lengths, rngs, strict=True)]
    rows, most = len(lengths), max(1, max(map(len, chosen)))
    frames = np.zeros((rows, most), np.int64)
    valid = np.zeros((rows, most), bool)
    distractors = np.zeros((rows, most, others), np.int64)
    shape = (config.codebooks, config.entries)
    noise = np.zeros((rows, most, *shape), np.float32) if noisy and contrast else None
    for row, (drawn, rng) in enumerate(zip(chosen, rngs, strict=True)):
        count = len(drawn)
        frames[row, :count], valid[row, :count] = drawn, True
        distractors[row, :count] = draw_distractors(count, others, rng)
        if noise is not None:
            exponential = rng.standard_exponential((count, *shape), dtype=np.float32)
            noise[row, :count] = -np.log(np.maximum(exponential, 1e-20))
    return Hidden(
        torch.from_numpy(frames),
        torch.from_numpy(valid),
        torch.from_numpy(distractors),
        None if noise is None else torch.from_numpy(noise),
    )


def draw_spans(length: int, config: PretrainingConfig, rng: Random) -> Indices:
    """Draw the frames to mask out of ``length``, ascending. Spans may overlap.

    Empty if fewer than two frames would be masked, since there would be no distractors.
    """
    starts = length - config.mask_frames + 1
    if starts < 1:
        return np.zeros(0, np.int64)
    wanted = int(config.mask_probability * length / config.mask_frames + rng.random())
    most = max(1, length // config.mask_frames)
    count = min(max(wanted, config.min_spans), most, starts)
    first = rng.choice(starts, count, replace=False)
    hidden = np.unique(first[:, None] + np.arange(config.mask_frames))
    return hidden if len(hidden) > 1 else np.zeros(0, np.int64)


def draw_distractors(count: int, wanted: int, rng: Random) -> Indices:
    """Draw indices (count, wanted) of other masked frames for each of ``count``."""
    if count < 2:
        return np.zeros((count, wanted), np.int64)
    drawn = rng.integers(count - 1, size=(count, wanted))
    return drawn + (drawn >= np.arange(count)[:, None])
