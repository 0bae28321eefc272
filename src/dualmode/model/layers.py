"""Conformer layers over windows (Gulati et al., arXiv 2005.08100): pre-norm, rotary positions.

Every module maps windows (B, N, W, D) to windows. Its past is passed in and returned: training
passes zeros, a stream passes the past that the previous step returned.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.masks import PrunableLinear
from dualmode.model.windows import Windows, rotate, unfold_left


class ActiveWeights(NamedTuple):
    """A subnet as its layers use it: the index of its mask (None is dense) and of its norms."""

    mask: int | None
    norm: int


class LayerState(NamedTuple):
    """The past of a layer in a stream: rotated keys and values (B, L, H, head width) of the last L
    centre frames, and the last (kernel - 1) / 2 inputs (B, (kernel - 1) / 2, D) of the depthwise
    convolution."""

    key: Tensor
    value: Tensor
    conv: Tensor


class Norms(nn.Module):
    """LayerNorm with one gain and bias per set, so that server and device can have their own."""

    def __init__(self, width: int, sets: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(sets, width))
        self.bias = nn.Parameter(torch.zeros(sets, width))

    def forward(self, x: Tensor, active: ActiveWeights) -> Tensor:
        index = min(active.norm, len(self.gain) - 1)
        return F.layer_norm(x, x.shape[-1:], self.gain[index], self.bias[index])


class FeedForward(nn.Module):
    """Norm, expand, SiLU, contract: (B, N, W, D) -> same."""

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        make = LinearMaker(pruning)
        self.norm = Norms(model.width, norm_sets(model))
        self.expand = make(model.width, model.feed_forward)
        self.contract = make(model.feed_forward, model.width)

    def forward(self, x: Tensor, active: ActiveWeights) -> Tensor:
        x = F.silu(self.expand(self.norm(x, active), active.mask))
        output: Tensor = self.contract(x, active.mask)
        return output


class Attention(nn.Module):
    """A window's queries attend to the L centre frames before it and to the window."""

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        make = LinearMaker(pruning)
        self.heads = model.heads
        self.norm = Norms(model.width, norm_sets(model))
        self.project = make(model.width, 3 * model.width)
        self.out = make(model.width, model.width)

    def forward(
        self, x: Tensor, windows: Windows, active: ActiveWeights, past: LayerState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the output (B, N, W, D) and the new past keys and values."""
        projected = self.project(self.norm(x, active), active.mask)
        split = projected.unflatten(-1, (3, self.heads, -1))
        query, key = rotate(split[..., :2, :, :], windows).unbind(-3)
        value = split[..., 2, :, :]
        new_key, keys = self._with_left(key, past.key, windows)
        new_value, values = self._with_left(value, past.value, windows)
        attended = attend(
            query.flatten(0, 1).transpose(1, 2),
            keys.flatten(0, 1).transpose(1, 2),
            values.flatten(0, 1).transpose(1, 2),
            windows.key_mask,
        )
        attended = attended.transpose(1, 2).flatten(2).view_as(x)
        return self.out(attended, active.mask), new_key, new_value

    @staticmethod
    def _with_left(x: Tensor, past: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
        """The last L centre frames, and (B, N, L + W, H, head width): left context and window."""
        if windows.left == 0:
            return past, x
        centre = x[:, :, : windows.chunk]
        left = unfold_left(past.to(x.dtype), centre, windows.left)
        return last_frames(past, centre, windows.left), torch.cat([left, x], dim=2)


class Convolution(nn.Module):
    """Pointwise, gated linear unit, depthwise, SiLU, pointwise.

    The depthwise convolution sees centre frames on its left and nothing beyond the window on its
    right (dynamic chunk convolution, Li et al., arXiv 2304.09325).
    """

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        make = LinearMaker(pruning)
        self.reach = (model.kernel_frames - 1) // 2
        self.norm = Norms(model.width, norm_sets(model))
        self.gate = make(model.width, 2 * model.width)
        # Two-dimensional, because torch's channels-last kernels are several times faster.
        self.depthwise = nn.Conv2d(
            model.width, model.width, (1, model.kernel_frames), groups=model.width
        )
        self.out = make(model.width, model.width)

    def forward(
        self, x: Tensor, windows: Windows, active: ActiveWeights, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the output (B, N, W, D) and the new past inputs."""
        batch, count, width_frames, _ = x.shape
        gated = F.glu(self.gate(self.norm(x, active), active.mask), dim=-1)
        gated = gated * windows.valid[..., None]
        centre = gated[:, :, : windows.chunk]
        new_past = last_frames(past, centre, self.reach)
        left = unfold_left(past.to(gated.dtype), centre, self.reach)
        right = gated.new_zeros(batch, count, self.reach, gated.shape[-1])
        padded = torch.cat([left, gated, right], dim=2)
        image = padded.flatten(0, 1).transpose(1, 2).unsqueeze(2)
        mixed = self._depthwise(image).squeeze(2).transpose(1, 2)
        mixed = F.silu(mixed).reshape(batch, count, width_frames, -1)
        return self.out(mixed, active.mask), new_past

    def _depthwise(self, image: Tensor) -> Tensor:
        """Compute in float32 on CPUs: oneDNN hangs in some bfloat16 depthwise convolutions (16
        channels; 144 channels of a single window with two threads), and float32 is as fast."""
        if image.device.type != "cpu":
            return self.depthwise(image)  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            return self.depthwise(image.float()).to(image.dtype)  # type: ignore[no-any-return]


class ConformerLayer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each on a residual branch."""

    def __init__(self, model: ModelConfig, pruning: PruningConfig) -> None:
        super().__init__()
        self.dropout = model.dropout
        self.first = FeedForward(model, pruning)
        self.attention = Attention(model, pruning)
        self.convolution = Convolution(model, pruning)
        self.second = FeedForward(model, pruning)

    def forward(
        self, x: Tensor, windows: Windows, active: ActiveWeights, past: LayerState
    ) -> tuple[Tensor, LayerState]:
        x = self._add(x, self.first(x, active), 0.5)
        branch, key, value = self.attention(x, windows, active, past)
        x = self._add(x, branch)
        branch, conv = self.convolution(x, windows, active, past.conv)
        x = self._add(x, branch)
        x = self._add(x, self.second(x, active), 0.5)
        return x, LayerState(key, value, conv)

    def _add(self, x: Tensor, branch: Tensor, scale: float = 1.0) -> Tensor:
        """Add a branch, with dropout in training. All frames of an utterance share one dropout mask
        (Gal & Ghahramani, 1512.05287): one random number per element would cost a CPU more time
        than the layer's matrix products."""
        if not self.training or self.dropout == 0:
            return torch.add(x, branch, alpha=scale)
        keep = torch.rand(x.shape[0], 1, 1, x.shape[-1], device=x.device) >= self.dropout
        return torch.addcmul(x, branch, keep.to(x.dtype), value=scale / (1 - self.dropout))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention over (B, H, frames, head width).

    On CPUs the fused kernel of PyTorch is several times slower in bfloat16 than separate matrix
    products, which are used instead.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    scores = scores.masked_fill(~mask, -1e4)
    return torch.matmul(scores.softmax(-1), value)


def last_frames(past: Tensor, centre: Tensor, count: int) -> Tensor:
    """The last ``count`` of the past (B, count, ...) and the centre frames (B, N, C, ...)."""
    recent = centre.flatten(1, 2)
    if recent.shape[1] >= count:
        return recent[:, recent.shape[1] - count :]
    return torch.cat([past.to(recent.dtype), recent], dim=1)[:, -count:]


def norm_sets(model: ModelConfig) -> int:
    """Number of sets of norm gains: one, or two for full and chunked context."""
    return 2 if model.norms == "separate" else 1


class LinearMaker:
    """Makes prunable linear maps of one pruning configuration."""

    def __init__(self, pruning: PruningConfig) -> None:
        self.targets = len(pruning.sparsities)
        self.block = (pruning.block_outputs, pruning.block_inputs)

    def __call__(self, inputs: int, outputs: int) -> PrunableLinear:
        return PrunableLinear(inputs, outputs, targets=self.targets, block=self.block)
