"""Recipes: shipped ones load at their size, errors name the key, YAML goes there and back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.config import Recipe
from dualmode.errors import RecipeError, SubnetError
from dualmode.model.subnet import device_subnet, named_subnet, trained_subnets
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_recipe, parse_recipe, shipped_recipes

MILLIONS = {"quickstart": 1.5}


def millions(name: str) -> float | None:
    """The size that a recipe's name promises, in millions of parameters."""
    named = re.fullmatch(r".*-(\d+)m", name)
    return float(named[1]) if named else MILLIONS.get(name)


def test_recipes_are_shipped() -> None:
    sizes = {"conformer-10m", "conformer-30m", "conformer-80m"}
    assert {"quickstart", "speech", *sizes} <= set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipe_builds_at_its_size(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    with torch.device("meta"):
        model = Supernet(recipe.text.vocabulary_size, recipe.model, recipe.pruning)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    promised = millions(name)
    if promised is not None:
        assert count == pytest.approx(promised, rel=0.15)


@pytest.mark.parametrize("name", shipped_recipes())
def test_resolved_recipe_reads_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "config.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(path) == recipe


@settings(deadline=None)
@given(
    steps=st.integers(1, 10**7),
    sparsities=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    minutes=st.none() | st.floats(0.1, 1e4),
    noise=st.none() | st.text("abcé:#'\" -", min_size=1),
)
def test_any_recipe_reads_back(
    steps: int, sparsities: list[int], minutes: float | None, noise: str | None
) -> None:
    tree = {
        "name": "any",
        "pruning": {"sparsities": [s / 100 for s in sorted(sparsities)]},
        "training": {
            "steps": steps,
            "minutes": minutes,
            "sampled_subnet": True,
            "device_subnet": {"sparsity": sparsities[0] / 100},
        },
        "data": {"noise": noise},
    }
    recipe = parse_recipe(tree, "any")
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe


def test_recognisers_train_together_or_alone() -> None:
    assert set(trained_subnets(load_recipe("speech"))) == {"server", "device"}
    alone = load_recipe("speech", ["training.subnets=[device]"])
    assert list(trained_subnets(alone)) == ["device"]
    with pytest.raises(SubnetError, match="has no server: it was trained as device only"):
        named_subnet("server", alone)
    for wrong in ("[]", "[device, server]", "[server, server]", "[phone]"):
        with pytest.raises(RecipeError, match=r"training"):
            load_recipe("speech", [f"training.subnets={wrong}"])


def test_precision_may_be_written_as_a_number() -> None:
    assert load_recipe("speech", ["training.precision=32"]).training.precision == "32"


def test_masks_that_nothing_would_train_are_refused_by_name() -> None:
    tree = {"name": "any", "pruning": {"sparsities": [0.5, 0.7]}}
    with pytest.raises(RecipeError, match=r"training\.sampled_subnet"):
        parse_recipe(tree, "any")
    tree["training"] = {"sampled_subnet": True}
    with pytest.raises(RecipeError, match=r"device_subnet\.sparsity=None must be one of"):
        parse_recipe(tree, "any")
    tree = {"name": "any", "pruning": {"sparsities": [0.97], "allocation": "global"}}
    with pytest.raises(RecipeError, match="layer_cap"):
        parse_recipe(tree, "any")


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    plain = load_recipe("quickstart")
    changed = load_recipe(
        "quickstart",
        ["training.steps=7", "data.train=[a, b]", "training.device_subnet.chunk_frames=4"],
    )
    assert changed.training.steps == 7
    assert changed.data.train == ("a", "b")
    assert changed.training.device_subnet.chunk_frames == 4
    assert changed.model == plain.model
    assert changed.training.device_subnet.left_frames == plain.training.device_subnet.left_frames


def test_override_makes_a_section_that_the_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("name: short\n")
    assert load_recipe(path, ["model.layers=3"]).model.layers == 3


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.stepz=3", "training.stepz"),
        ("training.steps=-1", "training.steps"),
        ("training.steps=many", "training.steps"),
        ("model.kernel_frames=4", "kernel_frames"),
        ("model.kernel_frames=1", "kernel_frames"),
        ("data.train=[x", "data.train=[x"),
        ("training.seed=2020-13-45", "training.seed=2020-13-45"),
        ("data.train=" + "[" * 9999, "data.train=[[["),
        ("data.noise=!!python/object/apply:os.getcwd []", "data.noise=!!python"),
        ("model.width=30", "width"),
        ("model.frame_ms=60", "model.frame_ms"),
        ("pretraining.random_quantizer.stacked_mels=8", "stacked_mels=8 must be at most 7"),
        ("pruning.sparsities=[0.7, 0.5]", "sparsities"),
        ("pruning.sparsities=[1.0]", "sparsities"),
        ("pruning.end=0.01", "end"),
        ("name.first=x", "name.first"),
        ("steps", "section.key=value"),
    ],
)
def test_errors_name_the_key(override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(named)):
        load_recipe("quickstart", [override])


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
HOSTILE = [
    "name: !!python/object/apply:os.system ['true']",
    "name: r\ndata: {train: " + "[" * 9999 + "}",
    BOMB + "name: r\ndata: {train: *a11, weights: *a11}",
    "name: &n [*n]",
    "name: 2020-13-45",
]


@pytest.mark.parametrize("content", ["[1, 2]", "just words", "a: [", "", *HOSTILE])
def test_a_file_that_is_no_recipe_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        load_recipe(path)


@pytest.mark.parametrize("content", [b"name: \xff\xfe", b"#" * (1 << 20) + b"\nname: large"])
def test_a_file_that_is_no_text_or_too_large_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        load_recipe(tmp_path / "broken.yaml")


@pytest.mark.parametrize("source", ["no-such-recipe", "no-such-file.yaml"])
def test_a_missing_recipe_is_named(source: str) -> None:
    with pytest.raises(RecipeError, match=source):
        load_recipe(source)


def test_recipes_do_not_change() -> None:
    recipe = Recipe(name="fixed")
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]


def test_pre_training_hears_single_utterances_as_they_are() -> None:
    hears = parse_recipe({"name": "mine", "training": {"objective": "pretrain"}}, "mine").data
    assert hears.join_probability == hears.tail_silence_seconds == hears.time_masks == 0
    assert parse_recipe({"name": "mine"}, "mine").data.join_probability > 0
    with pytest.raises(RecipeError, match=r"data\.join_probability, data\.time_masks to be 0"):
        load_recipe("speech-pretrain", ["data.join_probability=0.1", "data.time_masks=2"])


def test_device_may_be_dense() -> None:
    recipe = load_recipe("quickstart", ["training.device_subnet.sparsity=0"])
    assert device_subnet(recipe).sparsity == 0
    with pytest.raises(RecipeError, match=r"one of pruning\.sparsities=\[0\.7\], or 0"):
        load_recipe("quickstart", ["training.device_subnet.sparsity=0.5"])
