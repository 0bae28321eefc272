"""A saved model is the model that was saved, and a damaged one says so."""

from __future__ import annotations

import pytest
import torch

from dualmode.config import ModelConfig, Recipe, TextConfig
from dualmode.errors import ModelError
from dualmode.model.directory import load_model, save_model
from dualmode.model.masks import draw_masks
from dualmode.model.supernet import Supernet
from dualmode.text import train_tokens


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    recipe = Recipe(
        name="small",
        text=TextConfig(vocabulary_size=34),
        model=ModelConfig(width=32, layers=1, heads=2, feed_forward=48, subsampling_channels=4),
    )
    tokens = train_tokens(
        ["turn the light on", "call anna at nine", "zebra fox jump"], recipe.text, tmp_path
    )
    net = Supernet(tokens.size, recipe.model, recipe.pruning).eval()
    draw_masks(net.prunable(), net.sparsities)
    save_model(tmp_path, net, recipe)
    return tmp_path, net, recipe


def test_saving_and_loading_changes_no_bit(saved):
    path, net, recipe = saved
    loaded = load_model(path)
    assert loaded.recipe == recipe
    for (name, ours), theirs in zip(
        net.state_dict().items(), loaded.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    mels, lengths = torch.randn(1, 60, 80), torch.tensor([60])
    with torch.no_grad():
        for subnet in (loaded.device_subnet,):
            assert torch.equal(
                net(mels, lengths, subnet)[0], loaded.model(mels, lengths, subnet)[0]
            )


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "tokens.model"])
def test_a_missing_or_cut_file_is_a_clear_error(saved, name):
    path, _, _ = saved
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 3])
    with pytest.raises(ModelError, match=str(path)):
        load_model(path)
    (path / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_model(path)


def test_weights_of_another_size_are_refused(saved):
    path, _, recipe = saved
    bigger = recipe.model_copy(update={"model": recipe.model.model_copy(update={"width": 40})})
    (path / "config.yaml").write_text(bigger.to_yaml())
    with pytest.raises(ModelError, match="do not fit"):
        load_model(path)
