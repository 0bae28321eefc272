"""Scores of blocks equal what they are by definition, and masks are drawn by them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.masks import PrunableLinear, draw_masks, measured_sparsity
from dualmode.model.subnet import SERVER, ChunkedContext, FullContext, Subnet
from dualmode.model.supernet import Supernet
from dualmode.training.pruning_scores import make_score

DEVICE = Subnet(ChunkedContext(4, 8, 2), 0.7)
WHOLE_SPARSE = Subnet(FullContext(), 0.7)
DECAY = 0.9
SCORES = ("activation", "taylor")
MODEL = ModelConfig(
    width=32,
    layers=2,
    heads=2,
    feed_forward=48,
    kernel_frames=5,
    subsampling_channels=4,
    dropout=0.0,
)


def pruning(score: str) -> PruningConfig:
    return PruningConfig(sparsities=(0.7,), score=score, score_decay=DECAY)


@pytest.fixture
def net() -> Supernet:
    torch.manual_seed(0)
    net = Supernet(20, MODEL, PruningConfig(sparsities=(0.7,)))
    draw_masks(net.prunable(), [0.4])
    return net.train()


def batch(seed: int, mels: tuple[int, ...] = (91, 60)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(mels), max(mels), 80, generator=generator), torch.tensor(mels)


def learn(net: Supernet, seed: int, subnet: Subnet = DEVICE, scale: float = 1.0) -> None:
    """A forward and a backward pass of some loss."""
    net.zero_grad()
    frames, _ = net(*batch(seed), subnet)
    torch.autograd.backward(scale * frames[..., ::3].sin().sum())


def itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def observe(score: Any, net: Supernet, seed: int, subnet: Subnet = DEVICE) -> None:
    with score.observing():
        learn(net, seed, subnet)
    score.update(itself, 1)


def input_squares(net: Supernet, seed: int) -> list[tuple[torch.Tensor, int]]:
    """Sums of squares of each layer's inputs, and their number, each utterance by itself."""
    features, lengths = batch(seed)
    found: dict[PrunableLinear, tuple[torch.Tensor, int]] = {}

    def add(layer: Any, arguments: tuple[torch.Tensor, Any]) -> None:
        frames = arguments[0].detach().double().flatten(0, -2)
        before, count = found.get(layer, (torch.zeros(frames.shape[1]), 0))
        found[layer] = (before + frames.square().sum(dim=0), count + len(frames))

    handles = [layer.register_forward_pre_hook(add) for layer in net.prunable()]
    for row, length in enumerate(lengths.tolist()):
        net(features[row : row + 1, :length], lengths[row : row + 1], WHOLE_SPARSE)
    for handle in handles:
        handle.remove()
    return [found[layer] for layer in net.prunable()]


def test_activation_is_weight_times_norm_of_input_over_the_frames_that_exist(net: Supernet) -> None:
    score = make_score(net, pruning("activation"))
    seen = []
    for seed in (1, 2, 3):
        observe(score, net, seed, WHOLE_SPARSE)
        seen.append(input_squares(net, seed))
    for index, (layer, found) in enumerate(zip(net.prunable(), score.blocks(), strict=True)):
        sums, count = torch.zeros(layer.weight.shape[1]), 0.0
        for step in seen:
            sums = DECAY * sums + (1 - DECAY) * step[index][0]
            count = DECAY * count + (1 - DECAY) * step[index][1]
        products = layer.weight.detach().double() * (sums / count).sqrt()
        expected = products.view(-1, 8, layer.weight.shape[1]).norm(dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)
        norms = layer.scores().flatten()
        assert (found.flatten().argsort() != norms.argsort()).any(), "it is another ranking"


def gate_gradients(net: Supernet, seed: int) -> list[torch.Tensor]:
    """Derivatives of the loss by the gate of each block, pruned ones too."""
    gated = copy.deepcopy(net)
    gates = []
    for layer in gated.prunable():
        gates.append(layer.blocks.float().requires_grad_())
        layer.blocks = gates[-1]
    learn(gated, seed)
    return [gate.grad[0].double() for gate in gates]  # type: ignore[index]


def test_taylor_is_the_mean_square_of_the_derivative_by_each_blocks_gate(net: Supernet) -> None:
    score = make_score(net, pruning("taylor"))
    steps = []
    for seed in (1, 2, 3):
        observe(score, net, seed)
        steps.append(gate_gradients(net, seed))
    for index, found in enumerate(score.blocks()):
        average = torch.zeros_like(found)
        for step in steps:
            average = DECAY * average + (1 - DECAY) * step[index].square()
        torch.testing.assert_close(found, average.sqrt(), rtol=1e-3, atol=1e-7)
        pruned = ~net.prunable()[index].blocks[0]
        assert found[pruned].all(), "pruned blocks can return"


@pytest.mark.parametrize("name", SCORES)
def test_halves_of_a_batch_on_two_processes_are_the_batch_on_one(net: Supernet, name: str) -> None:
    """Each process divides its losses so that the mean gradient is that of the whole batch."""
    whole, *ranks = (make_score(net, pruning(name)) for _ in range(3))
    with whole.observing():
        learn(net, 1)
        learn(net, 2)
    whole.update(itself, 1)
    for rank, score in enumerate(ranks):
        with score.observing():
            learn(net, 1 + rank, scale=2.0)
    sums = [score._seen.clone() for score in ranks]  # type: ignore[attr-defined]
    for score in ranks:
        score.update(lambda _: sums[0] + sums[1], 2)
    for expected, *found in zip(*(score.blocks() for score in (whole, *ranks)), strict=True):
        assert torch.equal(*found)
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", SCORES)
def test_observing_changes_no_gradient_and_sees_sparse_subnets_only(
    net: Supernet, name: str
) -> None:
    learn(net, 1)
    expected = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    score = make_score(net, pruning(name))
    observe(score, net, 1)
    for parameter, gradient in expected.items():
        assert torch.equal(net.get_parameter(parameter).grad, gradient)  # type: ignore[arg-type]
    before = score.state()
    with score.observing():
        learn(net, 2, SERVER)
        with torch.no_grad():
            net(*batch(3), DEVICE)
    learn(net, 4)
    assert not score._seen.any()  # type: ignore[attr-defined]
    assert all(torch.equal(value, before[key]) for key, value in score.state().items())


@pytest.mark.parametrize("name", SCORES)
def test_until_something_is_seen_the_weights_decide(net: Supernet, name: str) -> None:
    score = make_score(net, pruning(name))
    for layer, found in zip(net.prunable(), score.blocks(), strict=True):
        assert torch.equal(found, layer.scores())
    net.encoder.requires_grad_(False)
    with score.observing():
        net(*batch(1), DEVICE)  # a frozen encoder has no gradients to observe


@pytest.mark.parametrize("name", ["magnitude", *SCORES])
def test_masks_keep_the_blocks_of_the_highest_scores(net: Supernet, name: str) -> None:
    score = make_score(net, pruning(name))
    observe(score, net, 1)
    layers = net.prunable()
    draw_masks(layers, [0.7], scores=score.blocks())
    assert measured_sparsity(layers, 0) == pytest.approx(0.7, abs=0.005)
    for layer, scores in zip(layers, score.blocks(), strict=True):
        kept = layer.blocks[0]
        assert scores[kept].min() >= scores[~kept].max()


@pytest.mark.parametrize("name", SCORES)
def test_a_restored_score_goes_on_as_if_nothing_had_happened(net: Supernet, name: str) -> None:
    score, restored = make_score(net, pruning(name)), make_score(net, pruning(name))
    observe(score, net, 1)
    restored.restore(score.state())
    for each in (score, restored):
        observe(each, net, 2)
    for ours, theirs in zip(score.blocks(), restored.blocks(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="missing"):
        restored.restore({})
    wrong = {key: value[:-1] for key, value in score.state().items()}
    with pytest.raises(ValueError, match="shape"):
        restored.restore(wrong)
