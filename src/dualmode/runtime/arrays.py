"""Functions shared by the runtimes that use NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualmode.features import MELS
from dualmode.model.subnet import ChunkedContext
from dualmode.runtime import Floats, Ids, Runtime, State


def join_arrays(states: Sequence[State]) -> State:
    """:meth:`Runtime.join` for NumPy arrays."""
    if len(states) == 1:
        return states[0]
    return tuple(np.concatenate(arrays) for arrays in zip(*states, strict=True))


def split_arrays(state: State) -> list[State]:
    """:meth:`Runtime.split` for NumPy arrays."""
    if len(state[0]) == 1:
        return [state]
    return [tuple(a[row : row + 1].copy() for a in state) for row in range(len(state[0]))]


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities (..., V) of logits (..., V)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalized: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalized


def encode_by_steps(runtime: Runtime, mels: Floats, lengths: Ids) -> tuple[Floats, Ids]:
    """:meth:`Runtime.encode` for a runtime that can only stream, as a batch of streams."""
    context, framing = runtime.context, runtime.framing
    assert isinstance(context, ChunkedContext)
    counts = np.array([framing.frames(int(length)) for length in lengths], dtype=np.int64)
    steps = -(-int(counts.max(initial=0)) // context.chunk)
    stride, read = framing.stride_mels * context.chunk, framing.mels_read(context.window)
    padded = np.zeros((len(mels), steps * stride + read, MELS), np.float32)
    padded[:, : mels.shape[1]] = mels[:, : padded.shape[1]]
    # Replace padding beyond the end of each utterance by zeros, as at the end of a stream.
    padded[np.arange(padded.shape[1]) >= lengths[:, None]] = 0.0
    state = runtime.initial_state(len(mels))
    chunks = []
    for step in range(steps):
        window = padded[:, step * stride : step * stride + read]
        left = np.clip(counts - step * context.chunk, 0, context.window)
        frames, state = runtime.step(window, left, state)
        chunks.append(frames)
    if not chunks:
        frames, _ = runtime.step(padded[:, :read], counts, state)
        return frames[:, :0], counts
    return np.concatenate(chunks, axis=1)[:, : int(counts.max())], counts
