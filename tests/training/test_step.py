"""Masks follow their schedule around the steps: they breathe until they are fixed, then never."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dualmode.config import DeviceSubnetConfig, ModelConfig, PruningConfig, Recipe, TrainingConfig
from dualmode.model.masks import measured_sparsity
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import parse_recipe
from dualmode.training import step as one_step
from dualmode.training.checkpoint import Progress
from dualmode.training.objective import LossDenominators
from dualmode.training.pruning_scores import make_score
from dualmode.training.step import update_masks


@pytest.fixture
def run() -> Any:
    torch.manual_seed(0)
    recipe = Recipe(
        name="masks",
        model=ModelConfig(width=32, layers=1, heads=2, feed_forward=64, subsampling_channels=4),
        pruning=PruningConfig(sparsities=(0.5, 0.75), start=0.2, end=0.6, every_steps=10),
        training=TrainingConfig(
            sampled_subnet=True, device_subnet=DeviceSubnetConfig(sparsity=0.75)
        ),
    )
    model = Supernet(20, recipe.model, recipe.pruning)
    average, score = copy.deepcopy(model), make_score(model, recipe.pruning)
    return SimpleNamespace(recipe=recipe, model=model, average=average, score=score)


def shake(run: Any) -> None:
    for layer in run.model.prunable():
        layer.weight.data = torch.randn_like(layer.weight)


def masks(run: Any, which: str = "model") -> torch.Tensor:
    return torch.cat([layer.blocks.flatten() for layer in getattr(run, which).prunable()])


def test_masks_wait_breathe_and_are_fixed(run):
    progress = update_masks(run, Progress(step=10), 0.1)
    assert masks(run).all()
    assert not progress.masks_fixed

    progress = update_masks(run, Progress(step=20), 0.4)
    early = masks(run).clone()
    assert 0.3 < measured_sparsity(run.model.prunable(), 0) < 0.5
    shake(run)
    assert torch.equal(masks(update_and_return(run, 21, 0.41)), early)  # not yet due
    update_masks(run, Progress(step=30), 0.5)
    assert (masks(run) & ~early).any(), "blocks come back while the masks are drawn again"

    progress = update_masks(run, Progress(step=33), 0.6)
    fixed = masks(run).clone()
    assert progress.masks_fixed
    assert measured_sparsity(run.model.prunable(), 0) == pytest.approx(0.5, abs=0.002)
    assert measured_sparsity(run.model.prunable(), 1) == pytest.approx(0.75, abs=0.002)
    shake(run)
    for step in (40, 50):
        update_masks(run, Progress(step=step, masks_fixed=True), 0.9)
    assert torch.equal(masks(run), fixed), "and never after"


def test_the_average_has_the_same_masks(run):
    update_masks(run, Progress(step=20), 0.5)
    assert torch.equal(masks(run, "model"), masks(run, "average"))
    assert not masks(run).all()


def update_and_return(run: Any, step: int, share: float) -> Any:
    update_masks(run, Progress(step=step), share)
    return run


@pytest.mark.parametrize(
    ("frame_ms", "frames"),
    [(40, [20, 14, 11, 22]), (80, [9, 6, 5, 10])],  # (mel frames - 3) // 4, (mel frames - 7) // 8
)
def test_two_processes_divide_by_what_each_recogniser_hears_in_both(monkeypatch, frame_ms, frames):
    """Their mean gradient is then that of one process with the utterances of both."""
    lengths = torch.tensor([83, 60, 47, 91])
    targets = torch.tensor([5, 3, 0, 7])
    heard = [{"server": [0], "device": [1]}, {"server": [], "device": [0, 1]}]
    sums: list[torch.Tensor] = []

    def agreed(rank: int) -> Any:
        mine = slice(2 * rank, 2 * rank + 2)
        batch = SimpleNamespace(feature_lengths=lengths[mine], seconds=1.5, unreadable=[])
        objective = SimpleNamespace(targets=lambda _: targets[mine])
        recipe = SimpleNamespace(model=SimpleNamespace(frame_ms=frame_ms))
        run = SimpleNamespace(
            objective=objective, fabric=SimpleNamespace(world_size=2), recipe=recipe
        )
        rows = {name: torch.tensor(r, dtype=torch.int64) for name, r in heard[rank].items()}
        return one_step._agree(run, batch, rows, 0.5, rank == 1)

    monkeypatch.setattr(one_step, "_total", lambda _, mine: sums.append(mine) or mine)
    for rank in range(2):
        agreed(rank)
    monkeypatch.setattr(one_step, "_total", lambda _, mine: sum(sums))
    both = agreed(0)
    found = both.step
    assert (both.unheard, both.seconds, both.stopping, both.problems) == (
        frozenset(),
        3.0,
        True,
        [],
    )
    assert found.denominators == LossDenominators(15 / 2, sum(frames) / 2, 2)
    assert found.parts["server"].denominators == LossDenominators(5 / 2, frames[0] / 2, 2)
    assert found.parts["device"].denominators == LossDenominators(10 / 2, sum(frames[1:]) / 2, 2)
    assert found.parts["device"].rows.tolist() == [1]


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_sampled_contexts_have_the_same_times_whatever_a_frame_lasts(frame_ms):
    recipe = parse_recipe(
        {"name": "r", "model": {"frame_ms": frame_ms}, "training": {"sampled_subnet": True}}, "r"
    )
    run = SimpleNamespace(recipe=recipe, subnets={})
    found = {
        (context.chunk * frame_ms, context.lookahead * frame_ms)
        for step in range(300)
        for context in [one_step._subnets(run, step)["sampled"].context]
    }
    assert found == {(c, r) for c in (160, 320, 640, 1280) for r in (0, 80, 160, 320)}


def test_gradients_become_views_of_one_tensor_that_is_clipped_at_once():
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    expected = [weight.grad.clone() for weight in weights]
    run = SimpleNamespace(fabric=SimpleNamespace(world_size=1))
    flat = one_step._average_gradients(run, weights)
    assert flat.norm() == pytest.approx(torch.cat([e.flatten() for e in expected]).norm().item())
    flat.mul_(0.5)
    for weight, gradient in zip(weights, expected, strict=True):
        assert torch.equal(weight.grad, gradient / 2)
