"""The model card of every kind of recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualmode.model.masks import draw_masks
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_recipe
from dualmode.training.card import write_card, write_pretraining_card
from dualmode.training.checkpoint import Progress


@pytest.mark.parametrize(
    ("sparsity", "pruned"), [("0.7", "| none | 70."), ("0", "| none | none |")]
)
def test_a_card_says_what_device_leaves_out(
    tiny_recipe: Path, tmp_path: Path, sparsity: str, pruned: str
) -> None:
    """Nothing, if device is dense."""
    changes = ["pruning.sparsities=[0.7]", f"training.device_subnet.sparsity={sparsity}"]
    recipe = load_recipe(tiny_recipe, changes)
    model = Supernet(40, recipe.model, recipe.pruning)
    draw_masks(model.prunable(), recipe.pruning.sparsities)
    for write in (write_card, write_pretraining_card):
        write(tmp_path, model, recipe, Progress(), 3600.0)
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert f"| encoder weights pruned {pruned}" in card
