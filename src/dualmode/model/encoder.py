"""The encoder: one path for training, streaming and full context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.config import ModelConfig, PruningConfig
from dualmode.features import MELS, Framing
from dualmode.model.layers import ActiveWeights, ConformerLayer, LayerState, Norms, norm_sets
from dualmode.model.subnet import ChunkedContext, Context
from dualmode.model.windows import Windows, fold, make_windows, step_layout, whole_layout


class Subsampling(nn.Module):
    """Normalise log-mels and subsample with unpadded 3x3 convolutions of stride 2.

    Frames of 40 ms have two of them. Frames of 80 ms have three, as in FastConformer (Rekesh et
    al., arXiv 2305.05084), whose convolutions are depthwise separable.

    The output is what wav2vec 2.0 calls latents; it is the same for every subnet.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        channels = model.subsampling_channels
        self.framing = Framing(model.frame_ms)
        self.register_buffer("mean", torch.zeros(MELS))
        self.register_buffer("deviation", torch.ones(MELS))
        self.first = nn.Conv2d(1, channels, 3, stride=2)
        self.second = nn.Conv2d(channels, channels, 3, stride=2)
        self.third = nn.Conv2d(channels, channels, 3, stride=2) if model.frame_ms == 80 else None
        bins = self.framing.frames(MELS)  # each convolution halves bins as it halves mel frames
        self.out = nn.Linear(channels * bins, model.width)

    def forward(self, mels: Tensor) -> Tensor:
        """Map mel frames (B, M, 80) to latents (B, T, D); fewer mel frames than a frame reads are
        padded."""
        mels = (mels - self.mean) / self.deviation
        if mels.shape[1] < self.framing.reach_mels:
            mels = F.pad(mels, (0, 0, 0, self.framing.reach_mels - mels.shape[1]))
        x = F.relu(self._convolve(self.first, mels.unsqueeze(1)))
        x = F.relu(self._convolve(self.second, x))
        if self.third is not None:
            x = F.relu(self._convolve(self.third, x))
        output: Tensor = self.out(x.permute(0, 2, 3, 1).flatten(2))
        return output

    def _convolve(self, convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """Convolve, in training with channels last, which is twice as fast on CPUs."""
        if not self.training:
            return convolution(x)  # type: ignore[no-any-return]
        weight = convolution.weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, convolution.bias, convolution.stride)


@dataclass(frozen=True)
class EncoderState:
    """The past of a batch of streams: frames ``processed`` (B,), and each layer's state."""

    processed: Tensor
    layers: tuple[LayerState, ...]

    def flat(self) -> tuple[Tensor, ...]:
        """Each layer's key, value and conv, then ``processed``; the batch is the first dimension
        of all."""
        return (*(tensor for layer in self.layers for tensor in layer), self.processed)

    @staticmethod
    def from_flat(tensors: Sequence[Tensor]) -> EncoderState:
        """Undo :meth:`flat`."""
        *layers, processed = tensors
        size = len(LayerState._fields)
        starts = range(0, len(layers), size)
        return EncoderState(processed, tuple(LayerState(*layers[s : s + size]) for s in starts))


class Encoder(nn.Module):
    """Conformer layers over latents, for any context and mask."""

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        self.width, self.heads = model.width, model.heads
        self.reach = (model.kernel_frames - 1) // 2
        self.subsampling = Subsampling(model)
        self.layers = nn.ModuleList(ConformerLayer(model, pruning) for _ in range(model.layers))
        self.norm = Norms(model.width, norm_sets(model))

    @property
    def framing(self) -> Framing:
        """How its frames lie on mel frames."""
        return self.subsampling.framing

    def initial_state(self, batch: int, left: int) -> EncoderState:
        """The initial state of ``batch`` streams with ``left`` frames of left context."""
        device = self.norm.gain.device
        attended = torch.zeros(batch, left, self.heads, self.width // self.heads, device=device)
        conv = torch.zeros(batch, self.reach, self.width, device=device)
        processed = torch.zeros(batch, dtype=torch.int64, device=device)
        layer = LayerState(attended, attended, conv)
        return EncoderState(processed, (layer,) * len(self.layers))

    def forward(
        self, latents: Tensor, lengths: Tensor, context: Context, active: ActiveWeights
    ) -> Tensor:
        """Encode whole utterances: latents (B, T, D) with valid lengths ``lengths`` (B,).

        Returns:
            Frames (B, T, D), zero beyond the lengths.
        """
        layout = whole_layout(context, latents.shape[1])
        state = self.initial_state(latents.shape[0], layout.left)
        windows = make_windows(layout, lengths, None, self.width // self.heads)
        frames, _ = self._run(fold(latents, layout), windows, active, state)
        return frames[:, : latents.shape[1]]

    def step(
        self,
        mels: Tensor,
        counts: Tensor,
        context: ChunkedContext,
        active: ActiveWeights,
        state: EncoderState,
    ) -> tuple[Tensor, EncoderState]:
        """Advance streams by all chunks whose windows are complete in ``mels``.

        Args:
            mels: (B, S (N C + R) + S - 1, 80) mel frames, with S of them from one frame to the
                next: N chunks and their look-ahead. The next call starts S N C mel frames later.
                Beyond the end of a stream, pass zeros.
            counts: (B,) how many of the N C + R frames exist; all of them, except at the end.
        Returns:
            frames (B, N C, D), equal to those of :meth:`forward` over the whole utterance, and
            the state to pass to the next call.
        """
        latents = self.subsampling(mels)
        layout = step_layout(context, latents.shape[1])
        windows = make_windows(layout, counts, state.processed, self.width // self.heads)
        return self._run(fold(latents, layout), windows, active, state)

    def _run(
        self, x: Tensor, windows: Windows, active: ActiveWeights, state: EncoderState
    ) -> tuple[Tensor, EncoderState]:
        after = []
        for layer, past in zip(self.layers, state.layers, strict=True):
            x, new_past = layer(x, windows, active, past)
            after.append(new_past)
        centre = self.norm(x[:, :, : windows.chunk], active)
        centre = centre * windows.valid[:, :, : windows.chunk, None]
        moved = windows.valid.shape[1] * windows.chunk
        return centre.flatten(1, 2), EncoderState(state.processed + moved, tuple(after))
