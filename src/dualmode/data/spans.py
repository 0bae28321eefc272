"""The frames that pre-training masks, and the distractors of each.

All draws follow from the generator of one utterance, so that neither batches nor processes
change them.
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
    """Hidden frames of a batch; K is the most that an utterance has.

    Attributes:
        frames: (B, K) int64, in order, padded with 0.
        valid: (B, K) True where a hidden frame exists.
        distractors: (B, K, N) int64 numbers among the K of other hidden frames of the utterance.
        noise: (B, K, G, E) Gumbel noise for the choice of codewords; None in evaluation.
    """

    frames: Tensor
    valid: Tensor
    distractors: Tensor
    noise: Tensor | None

    def mask(self, frames: int) -> Tensor:
        """(B, frames) True where a frame is hidden."""
        counts = torch.zeros(len(self.frames), frames, device=self.frames.device)
        return counts.scatter_add_(1, self.frames, self.valid.float()) > 0

    def of(self, rows: Tensor) -> Hidden:
        """That of some utterances of the batch."""
        noise = None if self.noise is None else self.noise[rows]
        return Hidden(self.frames[rows], self.valid[rows], self.distractors[rows], noise)

    def to(self, device: torch.device | str) -> Hidden:
        """The same on ``device``."""
        names = ("frames", "valid", "distractors")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        noise = None if self.noise is None else self.noise.to(device, non_blocking=True)
        return replace(self, **moved, noise=noise)


def hide(
    lengths: Sequence[int], rngs: Sequence[Random], config: PretrainingConfig, *, noisy: bool
) -> Hidden:
    """Draw spans for utterances of ``lengths`` frames; ``noisy`` adds noise for training."""
    chosen = [draw_spans(length, config, rng) for length, rng in zip(lengths, rngs, strict=True)]
    rows, most = len(lengths), max(1, max(map(len, chosen)))
    frames = np.zeros((rows, most), np.int64)
    valid = np.zeros((rows, most), bool)
    distractors = np.zeros((rows, most, config.distractors), np.int64)
    shape = (config.codebooks, config.entries)
    noise = np.zeros((rows, most, *shape), np.float32) if noisy else None
    for row, (mine, rng) in enumerate(zip(chosen, rngs, strict=True)):
        count = len(mine)
        frames[row, :count], valid[row, :count] = mine, True
        distractors[row, :count] = draw_distractors(count, config.distractors, rng)
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
    """Frames to hide of ``length``, in order; spans may overlap, and none reaches past the end.

    Empty if fewer than two frames would be hidden: there would be no distractors.
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
    """For each of ``count`` hidden frames, (count, wanted) numbers of others, itself left out."""
    if count < 2:
        return np.zeros((count, wanted), np.int64)
    drawn = rng.integers(count - 1, size=(count, wanted))
    return drawn + (drawn >= np.arange(count)[:, None])
