"""A Conformer layer against one that is written frame by frame, and its dropout."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.layers import ActiveWeights, ConformerLayer, FeedForward, LayerState, Norms
from dualmode.model.masks import PrunableLinear, draw_masks, prunable
from dualmode.model.subnet import ChunkedContext, Context, FullContext
from dualmode.model.windows import fold, make_windows, rotations, whole_layout

WIDTH, HEADS, KERNEL, FRAMES = 16, 2, 5, 11
REACH, HEAD = KERNEL // 2, WIDTH // HEADS


@pytest.fixture
def layer() -> ConformerLayer:
    torch.manual_seed(0)
    config = ModelConfig(width=WIDTH, heads=HEADS, feed_forward=24, kernel_frames=KERNEL)
    layer = ConformerLayer(config, PruningConfig(sparsities=(0.6,))).eval()
    for parameter in layer.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    draw_masks(list(prunable(layer).values()), (0.6,))
    return layer


def normed(norms: Norms, x: Tensor, active: ActiveWeights) -> Tensor:
    x = x - x.mean(dim=-1, keepdim=True)
    x = x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return x * norms.gain[active.norm] + norms.bias[active.norm]


def linear(module: PrunableLinear, x: Tensor, active: ActiveWeights) -> Tensor:
    weight = module.weight
    if active.mask is not None:
        weight = weight * module.expand(module.blocks[active.mask].float())
    return x @ weight.T + module.bias


def fed_forward(module: FeedForward, x: Tensor, active: ActiveWeights) -> Tensor:
    return linear(
        module.contract,
        F.silu(linear(module.expand, normed(module.norm, x, active), active)),
        active,
    )


def plain(layer: ConformerLayer, x: Tensor, context: Context, active: ActiveWeights) -> Tensor:
    """The layer of (T, D) in the order of the paper, frame by frame; without look-ahead."""
    first, end = [0] * FRAMES, [FRAMES] * FRAMES  # what a frame attends to
    if isinstance(context, ChunkedContext):
        starts = [at // context.chunk * context.chunk for at in range(FRAMES)]
        first = [max(0, start - context.left) for start in starts]
        end = [min(FRAMES, start + context.chunk) for start in starts]
    x = x + 0.5 * fed_forward(layer.first, x, active)

    attention = layer.attention
    projected = linear(attention.project, normed(attention.norm, x, active), active)
    query, key, value = projected.view(FRAMES, 3, HEADS, HEAD).unbind(1)
    cos, sin = (part[:, 0] for part in rotations(torch.arange(FRAMES), HEAD))
    query, key = (
        torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        for a, b in (part.chunk(2, dim=-1) for part in (query, key))
    )
    attended = torch.zeros(FRAMES, HEADS, HEAD)
    for at in range(FRAMES):
        seen = slice(first[at], end[at])
        scores = torch.einsum("hd,khd->hk", query[at], key[seen]) / math.sqrt(HEAD)
        attended[at] = torch.einsum("hk,khd->hd", scores.softmax(dim=1), value[seen])
    x = x + linear(attention.out, attended.flatten(1), active)

    convolution = layer.convolution
    content, gate = linear(convolution.gate, normed(convolution.norm, x, active), active).chunk(
        2, 1
    )
    gated = content * gate.sigmoid()
    mixed = convolution.depthwise.bias.repeat(FRAMES, 1)
    for at in range(FRAMES):
        for offset in range(-REACH, REACH + 1):
            if 0 <= at + offset < end[at]:
                mixed[at] += (
                    convolution.depthwise.weight[:, 0, 0, offset + REACH] * gated[at + offset]
                )
    x = x + linear(convolution.out, F.silu(mixed), active)
    return x + 0.5 * fed_forward(layer.second, x, active)


@pytest.mark.parametrize(
    "context", [FullContext(), ChunkedContext(4, 6, 0), ChunkedContext(3, 1, 0)]
)
@pytest.mark.parametrize("active", [ActiveWeights(None, 0), ActiveWeights(0, 1)])
@torch.no_grad()
def test_a_layer_is_what_the_paper_says(
    layer: ConformerLayer, context: Context, active: ActiveWeights
) -> None:
    x = torch.randn(1, FRAMES, WIDTH)
    layout = whole_layout(context, FRAMES)
    windows = make_windows(layout, torch.tensor([FRAMES]), None, HEAD)
    attended = torch.zeros(1, layout.left, HEADS, HEAD)
    past = LayerState(attended, attended, torch.zeros(1, REACH, WIDTH))
    found, _ = layer(fold(x, layout), windows, active, past)
    found = found.flatten(1, 2)[0, :FRAMES]
    torch.testing.assert_close(found, plain(layer, x[0], context, active), atol=1e-5, rtol=1e-4)


def test_dropout_keeps_the_mean_and_drops_the_same_features_of_all_frames(
    layer: ConformerLayer,
) -> None:
    layer.train()
    layer.dropout = 0.25
    torch.manual_seed(0)
    x, branch = torch.randn(3, 2, 5, WIDTH), torch.rand(3, 2, 5, WIDTH) + 0.5
    draws = torch.stack([(layer._add(x, branch, 0.5) - x) / branch for _ in range(800)])
    kept = draws > 0.1
    torch.testing.assert_close(draws, kept * (0.5 / 0.75), atol=1e-5, rtol=1e-5)
    assert (kept == kept[:, :, :1, :1]).all()
    assert (kept[:, 0] != kept[:, 1]).any(), "each utterance has its own"
    assert abs(float(draws.mean()) - 0.5) < 0.01
    layer.eval()
    torch.testing.assert_close(layer._add(x, branch, 0.5), x + 0.5 * branch)
