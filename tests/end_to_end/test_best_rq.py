"""Pre-training by BEST-RQ: interrupted and resumed, by two processes, and as a beginning."""

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
STEPS = 6
STILL = (
    "model.dropout=0",
    "data.speeds=[1.0]",
    "data.buckets=1",
    "data.workers=0",
    f"training.steps={STEPS}",
    "training.log_every_steps=1",
    "training.step_sharing=all",  # utterances are assigned to recognisers within each process
)
CURVES = (
    *(f"{name}/{term}" for name in ("server", "device") for term in ("cross_entropy", "accuracy")),
    "codes/perplexity_1",
)


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


def test_two_processes_follow_the_curve_of_one(
    recipe: Path, start: Any, weights_of: Weights, tmp_path: Path
) -> None:
    curves, quantizers = {}, []
    for count in (1, 2):
        out = tmp_path / str(count)
        settings = (*STILL, f"training.processes={count}", "data.batch_seconds=16")
        options = [word for setting in settings for word in ("--set", setting)]
        process = start(recipe, out, *options, command="pretrain")
        assert process.wait() == 0, process.output
        curves[count] = [r for r in read_log(out / FOLDER / LOG) if "server/cross_entropy" in r]
        quantizers.append({k: v for k, v in weights_of(out).items() if "quantizer" in k})
    assert len(curves[1]) == len(curves[2]) == STEPS
    for expected, found in zip(curves[1], curves[2], strict=True):
        for name in CURVES:
            assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name
    assert len(quantizers[0]) == 6, "in the weights, their average and the model that was kept"
    assert all(torch.equal(value, quantizers[1][key]) for key, value in quantizers[0].items())


def test_a_recogniser_begins_from_it(
    tiny_recipe: Path, pretrained: Path, start: Any, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    process = start(tiny_recipe, out, "--init", str(pretrained), "--set", "training.steps=2")
    assert process.wait() == 0, process.output
    assert (out / "tokens.model").is_file()
