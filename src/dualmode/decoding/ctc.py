"""Greedy decoding and forced alignment with the auxiliary CTC head."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dualmode.text import BLANK


def best_path(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """Best symbol of each frame, with repeats merged and blanks removed (Graves, 2006).

    Args:
        log_probs: (B, T, V).
        lengths: (B,) numbers of valid frames.
    """
    paths = []
    for symbols, length in zip(log_probs.argmax(-1).tolist(), lengths.tolist(), strict=True):
        real = symbols[:length]
        paths.append(
            [s for s, before in zip(real, [BLANK, *real], strict=False) if s not in (BLANK, before)]
        )
    return paths


def align(log_probs: npt.NDArray[np.floating], tokens: list[int]) -> npt.NDArray[np.int64]:
    """The most probable CTC alignment (Graves, 2006) of ``tokens``: a symbol for each frame.

    Args:
        log_probs: (T, V) of one utterance.
    Returns:
        (T,) tokens, blank where none is emitted.
    Raises:
        ValueError: there are too few frames for the tokens.
    """
    if len(tokens) > len(log_probs):
        raise ValueError(f"{len(log_probs)} frames cannot say {len(tokens)} tokens")
    symbols = np.full(2 * len(tokens) + 1, BLANK)
    symbols[1::2] = tokens
    scores = np.asarray(log_probs, dtype=np.float64)[:, symbols]
    skips = np.zeros(len(symbols), bool)  # over the blank between two different tokens
    skips[3::2] = symbols[3::2] != symbols[1:-2:2]
    best = np.full(len(symbols), -np.inf)
    best[:2] = scores[:1, :2]
    came = np.zeros(scores.shape, np.int64)
    for frame in range(1, len(scores)):
        stay, one, two = best, _shifted(best, 1), np.where(skips, _shifted(best, 2), -np.inf)
        choices = np.stack([stay, one, two])
        came[frame] = choices.argmax(axis=0)
        best = choices.max(axis=0) + scores[frame]
    state = len(symbols) - 1
    if tokens and best[state - 1] > best[state]:
        state -= 1
    if not np.isfinite(best[state]):
        raise ValueError(f"{len(scores)} frames cannot say {len(tokens)} tokens")
    path = np.zeros(len(scores), np.int64)
    for frame in range(len(scores) - 1, -1, -1):
        path[frame] = symbols[state]
        state -= came[frame, state]
    return path


def _shifted(values: npt.NDArray[np.float64], by: int) -> npt.NDArray[np.float64]:
    return np.concatenate([np.full(by, -np.inf), values])[: len(values)]
