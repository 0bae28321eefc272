"""Pre-training by the command: killed and resumed, by two processes, and worth its while."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.errors import ModelError
from dualmode.model.directory import load_model
from dualmode.recipe_files import load_recipe
from dualmode.training.journal import LOG, read_log
from dualmode.training.loop import FOLDER

Weights = Callable[[Path], dict[str, Tensor]]

HIDING = {"entries": 12, "code_width": 16, "projection_width": 16, "distractors": 8}
STEPS = 6
STILL = (
    "model.dropout=0",
    "data.speeds=[1.0]",
    "data.buckets=1",
    "data.time_masks=0",
    "data.frequency_masks=0",
    f"training.steps={STEPS}",
    "training.log_every_steps=1",
    "training.step_sharing=all",  # utterances are assigned to recognisers within each process
)
CURVES = (
    *(f"{name}/{term}" for name in ("server", "device") for term in ("contrastive", "accuracy")),
    "codes/diversity",
    "codes/perplexity_1",
    "codes/penalty",
)


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, for pre-training: masked audio instead of masked features."""
    tree = yaml.safe_load(tiny_recipe.read_text())
    tree["training"] = {**tree["training"], "objective": "pretrain"}
    tree["data"] = {**tree["data"], "time_masks": 0, "frequency_masks": 0, "workers": 0}
    path = tmp_path_factory.mktemp("pretraining") / "tiny.yaml"
    path.write_text(yaml.safe_dump({**tree, "pretraining": HIDING}))
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
    assert "has to be fine-tuned before" in (pretrained / "README.md").read_text()
    assert not (pretrained / "tokens.model").exists()
    last = read_log(pretrained / FOLDER / LOG)[-1]
    assert {"dev/server/accuracy", "dev/device/contrastive", "dev/codes/used_2"} <= set(last)
    with pytest.raises(ModelError, match="dualmode train RECIPE --init"):
        load_model(pretrained)


def test_killed_and_resumed_equals_undisturbed(
    recipe: Path, start: Any, pretrained: Path, weights_of: Weights, tmp_path: Path
) -> None:
    for attempt in range(5):
        out = tmp_path / f"killed-{attempt}"
        process = start(recipe, out, command="pretrain")
        process.wait_until(process.checkpoint.is_file)
        time.sleep(random.uniform(0.0, 0.4))
        process.kill()
        if process.wait() != 0:
            break
    assert process.wait() != 0, "it was done before the blow fell, five times"
    process = start(recipe, out, command="pretrain")
    assert process.wait() == 0, process.output
    assert "resuming after step" in process.output
    ours, theirs = weights_of(out), weights_of(pretrained)
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in ours.items() if not torch.equal(value, theirs[name])]


def test_two_processes_follow_the_curve_of_one(recipe: Path, start: Any, tmp_path: Path) -> None:
    curves = {}
    for count in (1, 2):
        out = tmp_path / str(count)
        settings = (*STILL, f"training.processes={count}", "data.batch_seconds=16")
        options = [word for setting in settings for word in ("--set", setting)]
        process = start(recipe, out, *options, command="pretrain")
        assert process.wait() == 0, process.output
        curves[count] = [r for r in read_log(out / FOLDER / LOG) if "server/contrastive" in r]
    assert len(curves[1]) == len(curves[2]) == STEPS
    for expected, found in zip(curves[1], curves[2], strict=True):
        for name in CURVES:
            assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


def refusal(*arguments: object) -> str:
    """What a command says that ends with an error for the user, in one line."""
    result = CliRunner().invoke(app, [str(word) for word in arguments], env={"NO_COLOR": "1"})
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), "a traceback for the user"
    return " ".join(result.output.split())


def test_commands_refuse_each_others_recipes(
    recipe: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    said = refusal("train", recipe, "--out", tmp_path / "a")
    assert "is a recipe for 'dualmode pretrain'" in said
    said = refusal("pretrain", tiny_recipe, "--out", tmp_path / "b")
    assert "is a recipe for 'dualmode train'" in said


def test_another_shape_is_refused_by_the_name_of_its_key(
    tiny_recipe: Path, pretrained: Path, tmp_path: Path
) -> None:
    other = ("--out", tmp_path / "other", "--init", pretrained, "--set", "model.width=32")
    assert "model.width is 16 there and 32 here" in refusal("train", tiny_recipe, *other)


@pytest.fixture(scope="module")
def tuned(
    tiny_recipe: Path, pretrained: Path, start: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A recogniser that began from the pre-trained encoder and its masks."""
    out = tmp_path_factory.mktemp("tuned")
    options = ("--init", str(pretrained), "--set", "init.masks=keep")
    process = start(tiny_recipe, out, *options)
    assert process.wait() == 0, process.output
    return out


def test_masks_that_are_kept_never_grow_denser(tuned: Path) -> None:
    records = [r for r in read_log(tuned / FOLDER / LOG) if "sparsity" in r]
    assert {round(r["sparsity"], 3) for r in records} == {0.7}


def test_a_finished_start_does_not_need_its_encoder(
    tiny_recipe: Path, pretrained: Path, tuned: Path, start: Any, tmp_path: Path
) -> None:
    """What the run began from is in its checkpoint; the directory may be gone by then."""
    hidden = pretrained.with_name("moved")
    pretrained.rename(hidden)
    try:
        options = ("--init", str(pretrained), "--set", "init.masks=keep")
        process = start(tiny_recipe, tuned, *options)
        assert process.wait() == 0, process.output
    finally:
        hidden.rename(pretrained)


def test_pre_training_goes_on_from_an_ended_run(
    recipe: Path, pretrained: Path, start: Any, tmp_path: Path
) -> None:
    out = tmp_path / "longer"
    options = ("--init", str(pretrained), "--set", "training.steps=2")
    process = start(recipe, out, *options, command="pretrain")
    assert process.wait() == 0, process.output
    assert load_recipe(out / "config.yaml").init.model == str(pretrained)


def test_a_recogniser_can_be_adapted_with_its_tokens(
    tiny_recipe: Path, tuned: Path, start: Any, tmp_path: Path
) -> None:
    out = tmp_path / "adapted"
    settings = ("training.steps=2", "init.masks=keep", "training.transducer_start=0")
    options = [word for setting in settings for word in ("--set", setting)]
    process = start(tiny_recipe, out, "--init", str(tuned), *options)
    assert process.wait() == 0, process.output
    assert (out / "tokens.model").read_bytes() == (tuned / "tokens.model").read_bytes()
    records = [r for r in read_log(out / FOLDER / LOG) if "sparsity" in r]
    assert {round(r["sparsity"], 3) for r in records} == {0.7}


def test_the_probe_compares_with_random_weights(
    pretrained: Path, tuned: Path, tiny_corpus: Path, tmp_path: Path, check_probe_figures: Any
) -> None:
    figures = tmp_path / "new" / "probe.json"
    cuts = [str(tiny_corpus / split) for split in ("train", "test")]
    arguments = ["probe", str(pretrained), *cuts, "--aligner", str(tuned), "--json", str(figures)]
    result = CliRunner().invoke(app, arguments, env={"NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    assert "server, trained" in result.output
    found = json.loads(figures.read_text())
    assert min(found["frames"].values()) > 100
    check_probe_figures(found, result.output)
    layers = found["layers"]
    assert any(
        layers[f"{name}/trained"] != layers[f"{name}/random"] for name in ("server", "device")
    )
