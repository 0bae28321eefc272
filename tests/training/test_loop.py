"""What a run refuses before it touches the directory that it is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dualmode.errors import CheckpointError, DataError, ModelError
from dualmode.model.directory import WEIGHTS
from dualmode.recipe_files import load_recipe
from dualmode.training.launch import train


@pytest.fixture
def model(babbling_model: Path, tmp_path: Path) -> Path:
    """A model that came from elsewhere: nothing in it says that it was trained here."""
    return Path(shutil.copytree(babbling_model, tmp_path / "model"))


def test_a_model_from_elsewhere_is_not_replaced_unasked(tiny_recipe: Path, model: Path) -> None:
    before = (model / WEIGHTS).read_bytes()
    with pytest.raises(CheckpointError, match="--fresh to replace it"):
        train(load_recipe(tiny_recipe), model)
    assert (model / WEIGHTS).read_bytes() == before


def test_nothing_is_cleaned_away_for_a_run_that_cannot_begin(
    tiny_recipe: Path, model: Path, tmp_path: Path
) -> None:
    files = sorted(model.rglob("*"))
    for change, error, message in (
        (f"data.train=[{tmp_path}/nowhere]", DataError, "no such CutSet"),
        (f"init.model={tmp_path}/nowhere", ModelError, "no model to start from"),
        (f"init.model={model}", ModelError, "is the model to start from"),
    ):
        with pytest.raises(error, match=message):
            train(load_recipe(tiny_recipe, [change]), model, fresh=True)
    assert sorted(model.rglob("*")) == files
