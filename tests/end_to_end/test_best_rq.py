"""Pre-training by BEST-RQ: interrupted and resumed, and as a beginning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from dualmode.training.journal import LOG, read_log
from dualmode.training.loop import FOLDER

Weights = Callable[[Path], dict[str, Tensor]]


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, for pre-training by BEST-RQ."""
    tree = yaml.safe_load(tiny_recipe.read_text())
    tree["training"] = {**tree["training"], "objective": "pretrain", "steps": 16}
    tree["data"] = {**tree["data"], "time_masks": 0, "frequency_masks": 0, "workers": 0}
    tree["pretraining"] = {"objective": "best_rq", "random_quantizer": {"entries": 16}}
    path = tmp_path_factory.mktemp("best_rq") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def pretrained(recipe: Path, start: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a pre-training that nobody disturbed."""
    out = tmp_path_factory.mktemp("pretrained")
    process = start(recipe, out, command="pretrain")
    assert process.wait() == 0, process.output
    return out


def test_it_leaves_an_encoder_a_picture_and_a_card(pretrained: Path) -> None:
    assert (pretrained / FOLDER / "training.png").stat().st_size > 10_000
    card = (pretrained / "README.md").read_text()
    assert "BEST-RQ" in card
    assert "16 codes" in card
    last = read_log(pretrained / FOLDER / LOG)[-1]
    assert {"dev/server/accuracy", "dev/device/cross_entropy", "dev/codes/most_frequent"} <= set(
        last
    )


def test_interrupted_and_resumed_equals_undisturbed(
    recipe: Path, start: Any, pretrained: Path, weights_of: Weights, tmp_path: Path
) -> None:
    out = tmp_path / "interrupted"
    process = start(recipe, out, command="pretrain")
    process.wait_until(process.checkpoint.is_file)
    process.press_ctrl_c()
    assert process.wait() != 0, process.output
    process = start(recipe, out, command="pretrain")
    assert process.wait() == 0, process.output
    assert "resuming after step" in process.output
    ours, theirs = weights_of(out), weights_of(pretrained)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


def test_a_recogniser_begins_from_it(
    tiny_recipe: Path, pretrained: Path, start: Any, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    process = start(tiny_recipe, out, "--init", str(pretrained), "--set", "training.steps=2")
    assert process.wait() == 0, process.output
    assert (out / "tokens.model").is_file()
