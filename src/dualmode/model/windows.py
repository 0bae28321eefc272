"""Folds a sequence into windows, the geometry that all layers share.

Window ``n`` holds the C centre frames ``nC .. nC + C - 1`` and private copies of the R look-ahead
frames after them (Emformer's hard copy, Shi et al., arXiv 2010.10759), so latency does not grow
with depth. Full context is one window; a step of a stream is one window with a past.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.model.subnet import ChunkedContext, Context


@dataclass(frozen=True)
class Windows:
    """The arguments of a layer besides its input (B, N, W, D).

    Attributes:
        chunk: C, centre frames per window.
        left: L, centre frames before a window that attention sees.
        valid: (B, N, W) True where a window's frame exists.
        key_mask: (B * N, 1, 1, L + W) True where a key may be attended to.
        cos, sin: (1 or B, N, W, 1, 1, head width / 2) rotations of absolute frame positions.
    """

    chunk: int
    left: int
    valid: Tensor
    key_mask: Tensor
    cos: Tensor
    sin: Tensor


class WindowLayout(NamedTuple):
    """Division of a sequence into N windows of C centre and R look-ahead frames, L to the left."""

    windows: int
    chunk: int
    lookahead: int
    left: int


def whole_layout(context: Context, frames: int) -> WindowLayout:
    """The windows that cover an utterance of ``frames`` frames."""
    if isinstance(context, ChunkedContext):
        count = -(-frames // context.chunk)
        return WindowLayout(count, context.chunk, context.lookahead, context.left)
    return WindowLayout(1, frames, 0, 0)


def step_layout(context: ChunkedContext, frames: int) -> WindowLayout:
    """The windows that fit completely, with their look-ahead, into ``frames`` frames."""
    count = (frames - context.lookahead) // context.chunk
    return WindowLayout(count, context.chunk, context.lookahead, context.left)


def fold(x: Tensor, layout: WindowLayout) -> Tensor:
    """Fold (B, T, D) into windows (B, N, C + R, D), zero-padded at the end."""
    windows, chunk, lookahead, _ = layout
    if windows == 1 and chunk + lookahead == x.shape[1]:
        return x.unsqueeze(1)
    x = F.pad(x, (0, 0, 0, windows * chunk + lookahead - x.shape[1]))
    centre = _chunks(x[:, : windows * chunk], windows)
    if lookahead == 0:
        output: Tensor = centre
        return output
    # Shifted views and a concatenation: their gradients are plain slices, unlike a gather's.
    parts, start = [centre], chunk
    while start < chunk + lookahead:
        shifted = F.pad(x, (0, 0, 0, chunk))[:, start : start + windows * chunk]
        parts.append(_chunks(shifted, windows))
        start += chunk
    return torch.cat(parts, dim=2)[:, :, : chunk + lookahead]


def _chunks(x: Tensor, count: int) -> Tensor:
    """Cut (B, T, ...) into (B, count, T / count, ...)."""
    return x.reshape(x.shape[0], count, x.shape[1] // count, *x.shape[2:])


def unfold_left(past: Tensor, centre: Tensor, length: int) -> Tensor:
    """The ``length`` centre frames before each window.

    Args:
        past: (B, length, ...) frames before the first window.
        centre: (B, N, C, ...) centre frames of the windows.
    Returns:
        (B, N, length, ...)
    """
    windows, chunk = centre.shape[1:3]
    if windows == 1:
        return past.unsqueeze(1)
    chunks = -(-length // chunk)
    gap = chunks * chunk - length
    padding = [0, 0] * (past.dim() - 2) + [gap, 0]
    earlier = _chunks(F.pad(past, padding), chunks)
    sequence = torch.cat([earlier, centre[:, :-1]], dim=1)
    shifted = [sequence[:, i : i + windows] for i in range(chunks)]
    return torch.cat(shifted, dim=2)[:, :, gap:]


def make_windows(
    layout: WindowLayout, lengths: Tensor, processed: Tensor | None, head_width: int
) -> Windows:
    """Lay out windows for sequences of ``lengths`` (B,) frames.

    ``processed`` (B,) counts the earlier frames of a stream; None means none.

    Nothing here branches on the values of a tensor, which would synchronise a GPU with the host
    and prevent tracing for export.
    """
    windows, chunk, lookahead, left = layout
    device = lengths.device
    starts = torch.arange(windows, device=device)[:, None] * chunk
    index = starts + torch.arange(chunk + lookahead, device=device)
    valid = index[None] < lengths[:, None, None]
    past = torch.zeros_like(lengths) if processed is None else processed
    left_index = starts + torch.arange(-left, 0, device=device)
    left_valid = left_index[None] >= -past[:, None, None]
    keys = torch.cat([left_valid.expand(lengths.shape[0], -1, -1), valid], dim=2)
    # A window beyond the end has no valid key; let it attend to all, so that it stays finite.
    keys = keys | ~keys.any(dim=2, keepdim=True)
    mask = keys.flatten(0, 1)[:, None, None, :]
    position = index[None] if processed is None else index[None] + processed[:, None, None]
    cos, sin = rotations(position, head_width)
    return Windows(chunk, left, valid, mask, cos, sin)


def rotations(position: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., 1, 1, head_width / 2) of rotary positions (Su et al., 2104.09864).

    Whole turns are subtracted in float64, so that angles are exact after hours of a stream.
    Cosines and sines are computed in float32, because ONNX Runtime lacks them in float64.
    """
    half = head_width // 2
    exponent = torch.arange(half, dtype=torch.float64, device=position.device) / half
    turns = position[..., None, None, None].double() * (10000.0**-exponent / (2 * math.pi))
    angle = ((turns - turns.floor()) * (2 * math.pi)).float()
    return angle.cos(), angle.sin()


class _Rotate(torch.autograd.Function):
    """A rotation in three passes over memory; its gradient is the inverse rotation. Composed of
    autograd operations it would take a dozen passes, which slows down a step on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(grad, cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    if torch.compiler.is_exporting():  # writing in place would become scatters in the graph
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    out = x * torch.cat([cos, cos], dim=-1)
    out[..., :half].addcmul_(x[..., half:], sin, value=-1)
    out[..., half:].addcmul_(x[..., :half], sin)
    return out


def rotate(x: Tensor, windows: Windows) -> Tensor:
    """Rotate queries or keys (B, N, W, ..., H, head width), of 6 dimensions, by position."""
    rotated: Tensor = _Rotate.apply(  # type: ignore[no-untyped-call]
        x, windows.cos.to(x.dtype), windows.sin.to(x.dtype)
    )
    return rotated
