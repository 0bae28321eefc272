"""Masks meet their targets exactly, nest, and touch nothing but what they mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.masks import (
    PrunableLinear,
    draw_masks,
    measured_sparsity,
    pack_bits,
    prunable,
    pruned_counts,
    unpack_bits,
)
from dualmode.model.subnet import SERVER, ChunkedContext, FullContext, Subnet
from dualmode.model.supernet import Supernet

TARGETS = (0.5, 0.7, 0.85)


def supernet(**pruning: object) -> Supernet:
    torch.manual_seed(0)
    config = ModelConfig(
        width=32, layers=2, heads=2, feed_forward=64, kernel_frames=5, subsampling_channels=4
    )
    return Supernet(40, config, PruningConfig(sparsities=TARGETS, **pruning))


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_targets_are_met_in_whole_blocks_and_masks_nest(allocation):
    net = supernet()
    layers = net.prunable()
    draw_masks(layers, TARGETS, allocation=allocation, layer_cap=0.9)
    blocks = sum(layer.blocks[0].numel() for layer in layers)
    for index, target in enumerate(TARGETS):
        removed = round(measured_sparsity(layers, index) * blocks)
        slack = len(layers) if allocation == "uniform" else 1  # a rounding a layer, or one
        assert abs(removed - target * blocks) <= slack / 2
        for layer in layers:
            if allocation == "global":
                assert 1 - layer.blocks[index].float().mean() <= 0.9
            zero = (layer.effective_weight(index) == 0).view(-1, 8, layer.weight.shape[1])
            assert (zero.all(dim=1) == zero.any(dim=1)).all()  # whole blocks or nothing
            assert (zero.all(dim=1) == ~layer.blocks[index]).all()
    for denser, sparser in ((0, 1), (1, 2)):
        assert all((layer.blocks[denser] | ~layer.blocks[sparser]).all() for layer in layers)


def test_the_weakest_blocks_go_and_come_back_when_they_grow():
    layer = PrunableLinear(4, 16, targets=1, block=(8, 1))
    torch.nn.init.ones_(layer.weight)
    layer.weight.data[:8, 2] = 0.01
    draw_masks([layer], [1 / 8])
    assert (~layer.blocks[0]).nonzero().tolist() == [[0, 2]]
    layer.weight.data[:8, 2] = 5.0
    layer.weight.data[8:, 1] = 0.02
    draw_masks([layer], [1 / 8])
    assert (~layer.blocks[0]).nonzero().tolist() == [[1, 1]]


def test_the_server_is_the_same_to_the_bit_with_and_without_masks():
    net = supernet().eval()
    mels, lengths = torch.randn(2, 50, 80), torch.tensor([50, 33])
    with torch.no_grad():
        before, _ = net(mels, lengths, SERVER)
        draw_masks(net.prunable(), TARGETS)
        after, _ = net(mels, lengths, SERVER)
        sparse, _ = net(mels, lengths, Subnet(FullContext(), 0.85))
    assert torch.equal(before, after)
    assert not torch.allclose(before, sparse)


def test_pruned_weights_learn_through_the_server_only():
    net = supernet()
    draw_masks(net.prunable(), TARGETS)
    mels, lengths = torch.randn(2, 50, 80), torch.tensor([50, 33])
    device = Subnet(ChunkedContext(4, 8, 2), 0.7)
    index = TARGETS.index(0.7)

    def gradients(subnet: Subnet) -> list[torch.Tensor]:
        net.zero_grad()
        frames, _ = net(mels, lengths, subnet)
        frames.square().mean().backward()
        return [
            layer.weight.grad.clone()
            for layer in net.encoder.layers.modules()
            if isinstance(layer, PrunableLinear)
        ]

    kept = [
        layer.expand(layer.blocks[index])
        for layer in net.encoder.layers.modules()
        if isinstance(layer, PrunableLinear)
    ]
    for gradient, mask in zip(gradients(device), kept, strict=True):
        assert not gradient[~mask].any()
        assert gradient[mask].any()
    assert all(
        gradient[~mask].any() for gradient, mask in zip(gradients(SERVER), kept, strict=True)
    )


def test_predictor_and_joiner_are_pruned_only_when_asked():
    encoder_only, everything = supernet(), supernet(scope="all")
    assert len(everything.prunable()) == len(prunable(everything))
    assert len(encoder_only.prunable()) < len(prunable(encoder_only))
    assert encoder_only.scorer(Subnet(FullContext(), 0.7)).mask is None
    assert everything.scorer(Subnet(FullContext(), 0.7)).mask == 1


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.floats(0.05, 0.9),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_global_counts_are_exact_for_any_sizes(sizes, sparsity, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(size, generator=generator).double() for size in sizes]
    counts = pruned_counts(scores, sparsity, "global", 1.0 - 1e-9)
    available = sum(int((1.0 - 1e-9) * size) for size in sizes)
    assert sum(counts) == min(round(sparsity * sum(sizes)), available)
    assert all(count <= size for count, size in zip(counts, sizes, strict=True))


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_packing_loses_no_bit(rows, columns, seed):
    mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack_bits(mask)
    assert packed.numel() == -(-mask.numel() // 8)
    assert torch.equal(unpack_bits(packed, mask.shape), mask)


def test_ragged_blocks_cover_the_edges():
    layer = PrunableLinear(5, 13, targets=1, block=(8, 2))
    draw_masks([layer], [0.5])
    weight = layer.effective_weight(0)
    assert layer.blocks.shape == (1, 2, 3)
    assert int((~layer.blocks[0]).sum()) == 3
    assert torch.equal(weight != 0, layer.expand(layer.blocks[0]) & (layer.weight != 0))


def test_scores_are_norms_of_blocks():
    layer = PrunableLinear(5, 16, targets=1, block=(8, 1))
    expected = layer.weight.detach().double().view(2, 8, 5).norm(dim=1)
    torch.testing.assert_close(layer.scores(), expected)


def test_the_scale_of_a_layer_does_not_decide_what_global_allocation_takes_from_it():
    scores = [torch.rand(40, 3), torch.rand(30, 5) ** 2]
    counts = pruned_counts(scores, 0.5, "global", 0.95)
    scaled = [scores[0] * 1000, scores[1]]
    assert pruned_counts(scaled, 0.5, "global", 0.95) == counts
    assert counts != pruned_counts(scores, 0.5, "uniform", 0.95), "they are ranked together"
