"""One optimiser step: what moves, by how much, and what does not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dualmode.config import DeviceSubnetConfig, PruningConfig, Recipe, TrainingConfig
from dualmode.data.left_out import Problem
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.training import step as one_step
from dualmode.training.step import take_step

BAD = Problem("id", "file", "unreadable", "why")


class Counter:
    """A pruning score that counts the steps that it observes and averages."""

    def __init__(self) -> None:
        self.observed = self.averaged = 0

    @contextmanager
    def observing(self) -> Iterator[None]:
        self.observed += 1
        yield

    def update(self, total: Any, processes: int) -> None:
        self.averaged += 1


def make_run(gradient: float, **training: Any) -> Any:
    """A run of a linear model whose every gradient is ``gradient``."""
    recipe = Recipe(
        name="step",
        training=TrainingConfig(warmup_steps=1, learning_rate=1.0, clip_norm=5.0, **training),
    )
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)

    def accumulate(model: torch.nn.Module, *_: Any) -> dict[str, Any]:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, run.gradient)
        return {}

    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "factor": 1.0}], lr=99.0)
    run = SimpleNamespace(
        recipe=recipe,
        model=model,
        average=copy.deepcopy(model),
        optimizer=optimizer,
        subnets={},
        anchors=None,
        gradient=gradient,
        score=Counter(),
        objective=SimpleNamespace(
            accumulate=accumulate, targets=lambda batch: torch.tensor([3.0, 4.0])
        ),
        fabric=SimpleNamespace(
            world_size=1, global_rank=0, device=torch.device("cpu"), autocast=nullcontext
        ),
    )
    return run


def make_batch(**changes: Any) -> Any:
    values = {
        "ids": ["a", "b"],
        "feature_lengths": torch.tensor([83, 60]),
        "seconds": 1.5,
        "unreadable": [],
    }
    batch = SimpleNamespace(**{**values, **changes})
    batch.to = lambda _: batch
    return batch


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("gradient", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(gradient: float) -> None:
    run = make_run(gradient)
    before, average = weights(run.model), weights(run.average)
    result = take_step(run, make_batch(), 0, 0.0, False)
    assert not result.finite
    assert torch.equal(weights(run.model), before)
    assert torch.equal(weights(run.average), average)
    assert not run.optimizer.state
    assert not run.score.averaged
    assert all(p.grad is None for p in run.model.parameters())
    run.gradient = 0.1
    assert take_step(run, make_batch(), 1, 0.0, False).finite
    assert not torch.equal(weights(run.model), before), "and the next step moves again"
    assert run.score.averaged == 1


def test_steps_are_observed_until_the_masks_are_fixed() -> None:
    run = make_run(0.1)
    end = run.recipe.pruning.end
    for share in (0.0, end - 0.01, end, 0.9):
        take_step(run, make_batch(), 0, share, False)
    assert (run.score.observed, run.score.averaged) == (2, 2)


def test_gradients_are_clipped_to_the_norm_of_the_recipe_and_no_further() -> None:
    for gradient, moved in ((100.0, 5.0), (0.5, 0.5 * 15**0.5)):
        run = make_run(gradient)
        before = weights(run.model)
        result = take_step(run, make_batch(), 0, 0.0, False)
        change = weights(run.model) - before
        assert float(change.norm()) == pytest.approx(moved, rel=1e-4)
        assert (change < 0).all(), "weights move against their gradient"
        assert float(result.gradient_norm) == pytest.approx(gradient * 15**0.5), "before clipping"


def test_the_learning_rate_is_the_schedules_times_the_groups_factor() -> None:
    run = make_run(0.5, final_learning_rate=0.0)
    run.optimizer.param_groups[0]["factor"] = 0.3
    take_step(run, make_batch(), 0, 0.5, False)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * 0.5)


def test_the_average_follows_fast_at_first_and_then_by_its_decay() -> None:
    run = make_run(0.5, average_decay=0.9)
    for step, decay in ((0, 1 / 10), (1, 2 / 11), (80, 0.9), (5000, 0.9)):
        before = weights(run.average).clone()
        take_step(run, make_batch(), step, 0.0, False)
        expected = decay * before + (1 - decay) * weights(run.model)
        torch.testing.assert_close(weights(run.average), expected)
    assert not any(p.requires_grad and p.grad is not None for p in run.average.parameters())


def test_a_step_reports_seconds_stops_and_what_was_unreadable() -> None:
    run = make_run(0.5)
    result = take_step(run, make_batch(unreadable=[BAD]), 0, 0.0, True)
    assert (result.seconds, result.halt, result.unreadable) == (1.5, True, [BAD])
    result = take_step(run, make_batch(), 1, 0.0, False)
    assert (result.halt, result.unreadable) == (False, [])


def test_denominators_are_the_targets_and_frames_of_the_batch() -> None:
    run, seen = make_run(0.5), []
    inner = run.objective.accumulate

    def accumulate(model: Any, batch: Any, subnets: Any, step: Any) -> Any:
        seen.append(step.denominators)
        return inner(model)

    run.objective.accumulate = accumulate
    take_step(run, make_batch(), 0, 0.0, False)
    (found,) = seen
    assert (found.targets, found.frames, found.processes) == (7.0, 20 + 14, 1)


def test_every_process_draws_its_own_numbers_and_a_resumed_run_the_same() -> None:
    seeds = {one_step._step_seed(1, step, rank) for step in range(50) for rank in range(-1, 8)}
    assert len(seeds) == 50 * 9
    drawn: list[torch.Tensor] = []

    def accumulate(model: torch.nn.Module, *_: Any) -> dict[str, Any]:
        drawn.append(torch.rand(3))
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return {}

    for rank in (0, 0, 1):
        run = make_run(0.5)
        run.fabric.global_rank = rank
        run.objective.accumulate = accumulate
        take_step(run, make_batch(), 7, 0.0, False)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def sampled(step: int, rank: int = 0, seed: int = 1) -> Any:
    device = DeviceSubnetConfig(left_frames=24, sparsity=0.75)
    recipe = Recipe(
        name="sampled",
        pruning=PruningConfig(sparsities=(0.5, 0.75)),
        training=TrainingConfig(sampled_subnet=True, device_subnet=device, seed=seed),
    )
    fabric = SimpleNamespace(global_rank=rank)
    run: Any = SimpleNamespace(recipe=recipe, subnets={"server": 1, "device": 2}, fabric=fabric)
    return one_step._subnets(run, step)["sampled"]


def test_the_sampled_subnet_is_drawn_anew_each_step_and_alike_in_every_process() -> None:
    drawn = [sampled(step) for step in range(300)]
    assert drawn == [sampled(step, rank=3) for step in range(300)]
    assert drawn != [sampled(step, seed=2) for step in range(300)]
    assert {subnet.sparsity for subnet in drawn} == {0.0, 0.5, 0.75}
    contexts = [subnet.context for subnet in drawn]
    assert all(isinstance(context, ChunkedContext) for context in contexts)
    assert {context.left for context in contexts} == {24}
    assert {context.chunk for context in contexts} == {4, 8, 16, 32}
    assert {context.lookahead for context in contexts} == {0, 2, 4, 8}
    pairs = {(context.chunk, context.lookahead) for context in contexts}
    assert len(pairs) == 16, "chunk and look-ahead are drawn apart"


def test_without_the_key_no_subnet_is_drawn() -> None:
    run: Any = SimpleNamespace(recipe=Recipe(name="plain"), subnets={"server": 1, "device": 2})
    assert one_step._subnets(run, 3) == {"server": 1, "device": 2}


def test_the_encoder_is_frozen_for_as_long_as_the_recipe_says() -> None:
    encoder = torch.nn.ModuleDict({"subsampling": torch.nn.Linear(2, 2)})
    encoder["layer"] = torch.nn.Linear(2, 2)
    encoder.subsampling = encoder["subsampling"]
    model: Any = SimpleNamespace(encoder=encoder)
    init = Recipe(name="r").init.model_copy(
        update={"model": "m", "freeze_encoder_steps": 2, "freeze_subsampling_steps": 4}
    )
    learning = []
    for step in range(6):
        one_step._freeze(model, step, init)
        parts = (encoder["layer"], encoder["subsampling"])
        learning.append(tuple(part.weight.requires_grad for part in parts))
    assert learning == [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)] * 2


def test_recognisers_that_nobody_has_an_utterance_for_are_named() -> None:
    run = make_run(0.1)
    run.subnets = {"server": SERVER, "device": Subnet(ChunkedContext(8, 16, 2))}
    alone = make_batch(ids=["a"], feature_lengths=torch.tensor([83]))
    run.objective.targets = lambda batch: torch.tensor([3.0, 4.0][: len(batch.ids)])
    unheard = [take_step(run, alone, step, 0.0, False).unheard for step in range(20)]
    assert set(unheard) == {frozenset({"server"}), frozenset({"device"})}
    assert take_step(run, make_batch(), 0, 0.0, False).unheard == frozenset()
