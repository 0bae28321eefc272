"""A run that is killed or interrupted, and resumed, equals one that was left alone, bit for bit."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dualmode.errors import ModelError
from dualmode.model.directory import load_model

Weights = Callable[[Path], dict[str, Tensor]]
KILLS = 2


@pytest.fixture(scope="module")
def uninterrupted(tiny_recipe: Path, start: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted")
    process = start(tiny_recipe, out)
    assert process.wait() == 0, process.output
    return out


def assert_same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
    assert not different


def test_killed_at_random_moments(
    tiny_recipe: Path, start: Any, uninterrupted: Path, weights_of: Weights, tmp_path: Path
) -> None:
    out, killed = tmp_path / "killed", 0
    moments = random.Random()
    while killed < KILLS:
        process = start(tiny_recipe, out)
        if killed:
            process.wait_until(lambda p=process: "resuming" in p.output)
        else:
            process.wait_until(process.checkpoint.is_file)
        time.sleep(moments.uniform(0.0, 0.4))
        process.kill()
        if process.wait() == 0:
            break  # done before the blow fell: what is left to kill is nothing
        killed += 1
        _usable_or_not_there(out)
    assert killed
    process = start(tiny_recipe, out)
    assert process.wait() == 0, process.output
    assert_same_bits(weights_of(out), weights_of(uninterrupted))


def _usable_or_not_there(out: Path) -> None:
    """Whatever a kill leaves, a model that is there loads."""
    try:
        load_model(out)
    except ModelError as error:
        assert "missing" in str(error)  # noqa: PT017


def test_ctrl_c_saves_and_resumes(
    tiny_recipe: Path, start: Any, weights_of: Weights, tmp_path: Path
) -> None:
    """With two processes, which have to agree on the step that they stop after, and steps that are
    split, of which it has to be known again who heard what."""
    settings = ("training.processes=2", "training.step_sharing=split_taught")
    settings += ("training.sampled_subnet=true", "pruning.score=activation", "training.steps=16")
    two = [word for setting in settings for word in ("--set", setting)]
    undisturbed = start(tiny_recipe, tmp_path / "undisturbed", *two)
    assert undisturbed.wait() == 0, undisturbed.output
    out = tmp_path / "interrupted"
    process = start(tiny_recipe, out, *two)
    process.wait_until(process.checkpoint.is_file)
    process.press_ctrl_c()
    assert process.wait() == 130, process.output
    said = re.search(r"stopped and saved after step (\d+)", process.output)
    assert said
    assert "Traceback" not in process.output
    resumed = start(tiny_recipe, out, *two)
    assert resumed.wait() == 0, resumed.output
    assert f"resuming after step {said[1]}" in resumed.output
    assert_same_bits(weights_of(out), weights_of(tmp_path / "undisturbed"))


def test_another_recipe_does_not_continue_a_run(
    tiny_recipe: Path, start: Any, uninterrupted: Path
) -> None:
    process = start(tiny_recipe, uninterrupted, "--set", "training.seed=2")
    assert process.wait() == 1
    assert "another recipe" in process.output
    assert "Traceback" not in process.output
