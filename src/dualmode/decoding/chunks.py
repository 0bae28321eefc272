"""Frames of a stream: mel frames wait here until a chunk and its look-ahead are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.errors import SubnetError
from dualmode.features import MELS
from dualmode.model.encoder import frame_count
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.model.supernet import Supernet

Mels = npt.NDArray[np.float32]

MAX_CHUNKS = 32  # of one call to the encoder: bounds memory when much audio is pushed at once


def chunked_context(subnet: Subnet) -> ChunkedContext:
    """The context of a subnet that streams.

    Raises:
        SubnetError: it has full context.
    """
    if not isinstance(subnet.context, ChunkedContext):
        raise SubnetError("server sees the whole utterance; stream with device")
    return subnet.context


class ChunkEncoder:
    """The encoder of one stream: mel frames in, frames out, chunk by chunk.

    Raises:
        SubnetError: ``subnet`` has full context, or the model holds no such masks.
    """

    def __init__(self, model: Supernet, subnet: Subnet) -> None:
        self._context = chunked_context(subnet)
        model.active_weights(subnet)  # an unknown sparsity shows here, not at the first chunk
        self._model = model
        self._subnet = subnet
        self._state = model.initial_state(1, subnet)
        self._mels = np.zeros((0, MELS), dtype=np.float32)
        self.device = self._state.processed.device

    @torch.inference_mode()
    def push(self, mels: Mels) -> Iterator[Tensor]:
        """Take mel frames (m, 80); give each chunk (1, C, J) that they complete."""
        self._mels = np.concatenate([self._mels, mels])
        chunk, lookahead = self._context.chunk, self._context.lookahead
        while len(self._mels) >= self._context.step_mels:
            there = (len(self._mels) - 3) // 4 - lookahead
            chunks = min(there // chunk, MAX_CHUNKS)
            window = torch.from_numpy(self._mels[: 4 * (chunks * chunk + lookahead) + 3])
            counts = torch.tensor([chunks * chunk + lookahead])
            frames = self._step(window, counts)
            self._mels = self._mels[4 * chunks * chunk :]
            yield from torch.split(frames, chunk, dim=1)

    @torch.inference_mode()
    def finish(self) -> Iterator[Tensor]:
        """Give the frames that no more look-ahead will come for: (1, at most C, J) each."""
        left = int(frame_count(torch.tensor(len(self._mels))))
        if left == 0:
            return
        chunk, lookahead = self._context.chunk, self._context.lookahead
        chunks = -(-left // chunk)
        mels = 4 * (chunks * chunk + lookahead) + 3
        window = F.pad(
            torch.from_numpy(self._mels)[:mels], (0, 0, 0, max(0, mels - len(self._mels)))
        )
        frames = self._step(window, torch.tensor([left]))[:, :left]
        yield from torch.split(frames, chunk, dim=1)

    def _step(self, window: Tensor, counts: Tensor) -> Tensor:
        frames, self._state = self._model.stream(
            window.unsqueeze(0).to(self.device), counts.to(self.device), self._state, self._subnet
        )
        return frames


@torch.inference_mode()
def stream_many(
    model: Supernet, subnet: Subnet, features: Sequence[Mels]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Stream B utterances side by side, one chunk a step, each with its own state.

    Args:
        features: mel frames (M, 80) of each; alike lengths waste least.

    Yields:
        frames (B, C, J), and lengths (B,) how many of them are real: 0 where an utterance ended.

    Raises:
        SubnetError: ``subnet`` has full context, or the model holds no such masks.
    """
    context = chunked_context(subnet)
    state = model.initial_state(len(features), subnet)
    device = state.processed.device
    totals = frame_count(torch.tensor([len(mels) for mels in features]))
    steps = -(-int(totals.max()) // context.chunk) if len(features) else 0
    stride = 4 * context.chunk
    padded = torch.zeros(len(features), steps * stride + context.step_mels, MELS)
    for row, mels in enumerate(features):
        padded[row, : len(mels)] = torch.from_numpy(mels)
    for step in range(steps):
        left = (totals - step * context.chunk).clamp_min(0)
        window = padded[:, step * stride : step * stride + context.step_mels].to(device)
        frames, state = model.stream(
            window, left.clamp_max(context.window).to(device), state, subnet
        )
        yield frames, left.clamp_max(context.chunk)
