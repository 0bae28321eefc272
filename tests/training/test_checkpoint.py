"""Checkpoints bring everything back, and say what is wrong when they cannot."""

from __future__ import annotations

import copy

import pytest
import torch

from dualmode.config import ModelConfig, PruningConfig, Recipe
from dualmode.errors import CheckpointError
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import SERVER
from dualmode.model.supernet import Supernet
from dualmode.training.checkpoint import Progress, load_checkpoint, same_training, save_checkpoint
from dualmode.training.pruning_scores import MagnitudeScore, make_score
from dualmode.training.setup import make_optimizer

RECIPE = Recipe(name="ours")
PROGRESS = Progress(step=3, epoch=1, batch=2, seconds=4.5, audio_seconds=60.0, best=0.25)


def make(seed: int) -> tuple[Supernet, Supernet, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    config = ModelConfig(
        width=16, layers=1, heads=2, feed_forward=24, subsampling_channels=2, dropout=0.0
    )
    net = Supernet(20, config, PruningConfig())
    return net, copy.deepcopy(net), make_optimizer(net, Recipe(name="optimizer"))


def step(net: Supernet, optimizer: torch.optim.Optimizer) -> None:
    mels = torch.randn(1, 40, 80, generator=torch.Generator().manual_seed(5))
    net(mels, torch.tensor([40]), SERVER)[0].square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path):
    net, average, optimizer = make(0)
    draw_masks(net.prunable(), [0.7])
    step(net, optimizer)
    score, other_score = (make_score(net, PruningConfig(score="taylor")) for _ in range(2))
    score.restore({name: torch.rand_like(value) for name, value in score.state().items()})
    save_checkpoint(tmp_path / "c.safetensors", net, average, optimizer, score, PROGRESS, RECIPE)
    other, other_average, other_optimizer = make(1)
    progress = load_checkpoint(
        tmp_path / "c.safetensors", other, other_average, other_optimizer, other_score, RECIPE
    )
    assert progress == PROGRESS
    for ours, theirs in zip(score.blocks(), other_score.blocks(), strict=True):
        assert torch.equal(ours, theirs)
    for model, opt in ((net, optimizer), (other, other_optimizer)):
        step(model, opt)
    for (name, ours), theirs in zip(
        net.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    for ours, theirs in zip(average.parameters(), other_average.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_another_recipe_is_refused(tmp_path):
    net, average, optimizer = make(0)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, net, average, optimizer, MagnitudeScore(net), PROGRESS, RECIPE)
    with pytest.raises(CheckpointError, match="another recipe"):
        load_checkpoint(path, net, average, optimizer, MagnitudeScore(net), Recipe(name="theirs"))


def test_a_run_goes_on_where_its_folders_have_moved_to_and_on_nothing_else(tmp_path):
    def recipe(folder, train="train"):
        folders = {
            "name": "r",
            "data": {"train": [f"{folder}/{train}"], "noise": f"{folder}/noise"},
        }
        return Recipe.model_validate(folders | {"init": {"model": f"{folder}/pretrained"}})

    assert same_training(recipe(tmp_path / "gone"), recipe(tmp_path / "there"))
    assert not same_training(recipe(tmp_path / "gone"), recipe(tmp_path / "gone", "other"))
    assert not same_training(recipe(tmp_path / "gone"), Recipe(name="r"))
    for folder in ("here", "there"):
        (tmp_path / folder / "train").mkdir(parents=True)
    assert not same_training(recipe(tmp_path / "here"), recipe(tmp_path / "there"))


def test_a_key_that_is_newer_than_the_run_counts_as_its_default(tmp_path, monkeypatch):
    net, average, optimizer = make(0)
    path = tmp_path / "c.safetensors"
    with monkeypatch.context() as patch:
        older = "\n".join(RECIPE.to_yaml().splitlines()[:1])
        patch.setattr(Recipe, "to_yaml", lambda self: older)
        save_checkpoint(path, net, average, optimizer, MagnitudeScore(net), PROGRESS, RECIPE)
    assert load_checkpoint(path, net, average, optimizer, MagnitudeScore(net), RECIPE) == PROGRESS


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_a_clear_error(tmp_path, share):
    net, average, optimizer = make(0)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, net, average, optimizer, MagnitudeScore(net), PROGRESS, RECIPE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path, net, average, optimizer, MagnitudeScore(net), RECIPE)
