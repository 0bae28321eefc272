"""Pulls towards the recogniser that a run started from."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from dualmode.config import ModelConfig, PruningConfig, TrainingConfig
from dualmode.data.batches import Batch
from dualmode.errors import ModelError, RecipeError
from dualmode.model.directory import WEIGHTS
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_recipe
from dualmode.training.finetuning import accumulate, accumulate_split
from dualmode.training.launch import train
from dualmode.training.objective import LossDenominators, Part
from dualmode.training.original import Original, pull_weights
from dualmode.training.passes import SubnetLosses
from dualmode.training.schedule import Weights

SUBNETS = {"server": SERVER, "device": Subnet(ChunkedContext(4, 8, 2), 0.7)}
DENOMINATORS = LossDenominators(8.0, 40.0)
Weighted = dict[str, torch.Tensor]


@pytest.fixture
def net() -> Supernet:
    torch.manual_seed(0)
    sizes = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 48, "kernel_frames": 5}
    heads = {"subsampling_channels": 4, "predictor_width": 16, "joiner_width": 16}
    net = Supernet(20, ModelConfig(**sizes, **heads, dropout=0.0), PruningConfig())
    draw_masks(net.prunable(), net.sparsities)
    return net


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 20, (2, 4), generator=generator)
    return Batch(
        torch.randn(2, 83, 80, generator=generator),
        torch.tensor([83, 60]),
        tokens,
        torch.tensor([4, 4]),
        ["text"] * 2,
        ["a", "b"],
        1.0,
    )


def original_of(net: Supernet) -> Original:
    return Original(copy.deepcopy(net).eval().requires_grad_(False), SUBNETS)


def moved(net: Supernet) -> Supernet:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def whole(
    net: Supernet, batch: Batch, original: Original | None, pull: float
) -> tuple[dict[str, SubnetLosses], torch.Tensor]:
    net.zero_grad()
    heard = original and original.hear(batch.features, batch.feature_lengths)
    config, weights = TrainingConfig(distillation="none"), Weights(1.0, 0.2, pull)
    losses = accumulate(
        net, batch, SUBNETS, config, weights, DENOMINATORS, torch.Tensor.backward, heard
    )
    return losses, torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


@given(st.floats(0, 2), st.floats(1e-6, 1))
def test_weights_move_by_rate_times_strength(strength: float, rate: float) -> None:
    parameter, anchor = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])
    group = {"params": [parameter], "lr": rate}
    pull_weights([group], {parameter: anchor}, strength)
    share = min(1.0, rate * strength)
    expected = torch.tensor([3.0 - 2 * share, -1.0 + 2 * share])
    torch.testing.assert_close(parameter, expected)


def test_an_unchanged_recogniser_is_not_pulled(net: Supernet, batch: Batch) -> None:
    losses, pulled = whole(net, batch, original_of(net), 3.0)
    _, plain = whole(net, batch, None, 0.0)
    assert all(abs(float(found.output_pull)) < 1e-6 for found in losses.values())
    torch.testing.assert_close(pulled, plain, atol=1e-5, rtol=1e-3)


def test_the_pull_leads_back_to_the_original(net: Supernet, batch: Batch) -> None:
    original = original_of(net)
    losses, pulled = whole(moved(net), batch, original, 1.0)
    _, plain = whole(net, batch, original, 0.0)
    assert all(float(found.output_pull) > 1e-3 for found in losses.values())
    before = sum(float(found.output_pull) for found in losses.values())
    step = 1e-2 * (pulled - plain) / (pulled - plain).norm()  # along the pull's own gradient
    learnt = [p for p in net.parameters() if p.grad is not None]
    with torch.no_grad():
        for parameter, piece in zip(learnt, step.split([p.numel() for p in learnt]), strict=True):
            parameter -= piece.view_as(parameter)
    after = sum(float(found.output_pull) for found in whole(net, batch, original, 1.0)[0].values())
    assert after < before
    assert all(p.grad is None for p in original.model.parameters())


def test_parts_of_a_split_step_are_pulled_like_their_utterances(
    net: Supernet, batch: Batch
) -> None:
    original = original_of(net)
    moved(net)
    heard = original.hear(batch.features, batch.feature_lengths)
    parts = {
        "server": Part(torch.tensor([1]), DENOMINATORS),
        "device": Part(torch.tensor([0]), DENOMINATORS),
    }
    config, weights = TrainingConfig(), Weights(1.0, 0.2, 1.0)
    losses = accumulate_split(
        net, batch, SUBNETS, parts, config, weights, torch.Tensor.backward, heard
    )
    for name, row in (("server", 1), ("device", 0)):
        latents, lengths = net.latents(batch.features, batch.feature_lengths)
        rows = torch.tensor([row])
        encoded = net.encode(latents[rows], lengths[rows], SUBNETS[name])
        alone = heard.distance(name, net.ctc_log_probs(encoded), rows) / DENOMINATORS.frames
        torch.testing.assert_close(losses[name].output_pull, alone.detach())


def test_a_pulled_run_stays_near_its_start(tiny_recipe: Path, tmp_path: Path) -> None:
    def run(name: str, steps: int, *changes: str, start: Path | None = None) -> Weighted:
        settings = [f"training.steps={steps}", "training.processes=1", *changes]
        begin = [f"init.model='{start}'"] if start else []
        train(load_recipe(tiny_recipe, [*settings, *begin]), tmp_path / name)
        return load_file(tmp_path / name / WEIGHTS)

    first = run("first", 2)
    free = run("free", 2, start=tmp_path / "first")
    pull = ("init.weight_pull=10000", "init.output_pull=1")
    held = run("held", 2, *pull, start=tmp_path / "first")
    largest = max(first, key=lambda name: first[name].numel())
    away = [(found[largest].float() - first[largest].float()).norm() for found in (free, held)]
    assert away[1] < 0.1 * away[0]


def test_pulls_need_a_recogniser(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="need a recogniser"):
        train(load_recipe(tiny_recipe, ["init.weight_pull=1"]), tmp_path / "model")
    assert not (tmp_path / "model").exists() or not any((tmp_path / "model").iterdir())
    with pytest.raises(RecipeError, match="fine-tuning only"):
        load_recipe("speech-pretrain", ["init.output_pull=1"])
