"""Starting from another model: what is taken over, what is not, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dualmode.config import InitConfig, Recipe
from dualmode.errors import ModelError
from dualmode.model.directory import save_model
from dualmode.model.masks import draw_masks, measured_sparsity
from dualmode.model.supernet import Supernet
from dualmode.model.wav2vec import Wav2Vec
from dualmode.recipe_files import parse_recipe
from dualmode.text import TOKENS_MODEL
from dualmode.training.initialize import start_from
from dualmode.training.setup import make_optimizer
from dualmode.training.step import _freeze


def recipe(**sections: object) -> Recipe:
    tree = {
        "name": "small",
        "model": {"width": 16, "layers": 1, "heads": 2, "feed_forward": 24},
        "pruning": {"sparsities": [0.7]},
    }
    return parse_recipe({**tree, **sections}, "test")


def supernet(of: Recipe, seed: int) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(20, of.model, of.pruning)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A pre-trained encoder of half the sparsity that fine-tuning wants."""
    of = recipe(pruning={"sparsities": [0.35]}, training={"objective": "pretrain"})
    torch.manual_seed(1)
    model = Wav2Vec(of.model, of.pruning, of.pretraining)
    model.encoder.subsampling.mean.fill_(3.0)
    draw_masks(model.prunable(), [0.35])
    save_model(tmp_path / "pretrained", model, of)
    return tmp_path / "pretrained"


def test_the_encoder_and_its_statistics_come_and_the_rest_stays(pretrained: Path) -> None:
    ours = recipe()
    model, before = supernet(ours, 2), supernet(ours, 2)
    assert start_from(model, pretrained, ours) == (0.0, ())
    torch.manual_seed(1)
    source = Wav2Vec(ours.model, ours.pruning, ours.pretraining)
    for name, value in source.encoder.state_dict().items():
        if "mean" not in name and not name.endswith("blocks"):
            assert torch.equal(model.encoder.state_dict()[name], value), name
    assert (model.encoder.subsampling.mean == 3).all()
    assert torch.equal(model.ctc.weight, before.ctc.weight)
    assert all(layer.blocks.all() for layer in model.prunable()), "pruning starts afresh"


def test_norms_that_were_never_trained_start_from_those_that_were(tmp_path: Path) -> None:
    alone = recipe(training={"objective": "pretrain", "subnets": ["server"]})
    source = Wav2Vec(alone.model, alone.pruning, alone.pretraining)
    with torch.no_grad():
        source.encoder.norm.gain[0] = 2.0
    save_model(tmp_path / "alone", source, alone)
    save_model(tmp_path / "both", source, recipe(training={"objective": "pretrain"}))
    ours = recipe()
    for folder, device_gain in (("alone", 2.0), ("both", 1.0)):
        model = supernet(ours, 2)
        start_from(model, tmp_path / folder, ours)
        assert (model.encoder.norm.gain[0] == 2).all()
        assert (model.encoder.norm.gain[1] == device_gain).all(), folder


def test_masks_are_kept_where_the_recipe_says_so(pretrained: Path) -> None:
    ours = recipe(init={"masks": "keep"})
    model = supernet(ours, 2)
    kept, new = start_from(model, pretrained, ours)
    assert (kept, new) == (pytest.approx(0.5, abs=0.01), ())
    assert measured_sparsity(model.prunable(), 0) == pytest.approx(0.35, abs=0.01)


def test_of_a_recogniser_everything_comes(tmp_path: Path) -> None:
    ours = recipe()
    source = supernet(ours, 5)
    save_model(tmp_path / "model", source, ours)
    (tmp_path / "model" / TOKENS_MODEL).write_bytes(b"tokens")
    model = supernet(ours, 6)
    start_from(model, tmp_path / "model", ours)
    for name, value in source.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], value), name


@pytest.mark.parametrize(("there", "here"), [(40, 80), (80, 40)])
def test_frames_of_another_length_take_all_but_the_last_layers_of_the_subsampling(
    tmp_path: Path, there: int, here: int
) -> None:
    def of(frame_ms: int, **init: object) -> Recipe:
        return recipe(model={**recipe().model.model_dump(), "frame_ms": frame_ms}, init=init)

    source, ours = supernet(of(there), 5), of(here, masks="keep")
    draw_masks(source.prunable(), [0.7])
    save_model(tmp_path, source, of(there))
    model, before = supernet(ours, 6), supernet(ours, 6).state_dict()
    kept, new = start_from(model, tmp_path, ours)
    assert kept == pytest.approx(1.0, abs=0.01)
    only = {"encoder.subsampling.third"} if here == 80 else set()
    assert set(new) == {"encoder.subsampling.out"} | only
    theirs = source.state_dict()
    for name, value in model.state_dict().items():
        taken = name.rpartition(".")[0] not in new
        assert torch.equal(value, theirs[name] if taken else before[name]), name
    for key in ("weight_pull", "output_pull", "freeze_encoder_steps", "freeze_subsampling_steps"):
        with pytest.raises(
            ModelError, match=rf"frames of {there} ms.* {here} ms.*init\.{key} to 0"
        ):
            start_from(model, tmp_path, of(here, **{key: 1}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"width": 32, "layers": 1, "heads": 2, "feed_forward": 24}}, "model.width is"),
        ({"model": {"width": 16, "layers": 2, "heads": 2, "feed_forward": 24}}, "model.layers is"),
        ({"model": {"width": 16, "layers": 1, "heads": 4, "feed_forward": 24}}, "model.heads is"),
        (
            {"pruning": {"sparsities": [0.7], "block_outputs": 4}, "init": {"masks": "keep"}},
            "pruning.block_outputs is 8 there and 4 here",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    pretrained: Path, changed: dict[str, object], said: str
) -> None:
    ours = recipe(**changed)
    with pytest.raises(ModelError, match=said):
        start_from(supernet(ours, 2), pretrained, ours)


def test_fresh_masks_do_not_mind_other_blocks(pretrained: Path) -> None:
    ours = recipe(pruning={"sparsities": [0.7], "block_outputs": 4})
    start_from(supernet(ours, 2), pretrained, ours)


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    ours = recipe()
    with pytest.raises(ModelError, match="cannot be loaded"):
        start_from(supernet(ours, 2), tmp_path / "nowhere", ours)


def test_what_came_trained_waits_and_then_learns() -> None:
    model = supernet(recipe(), 1)
    init = InitConfig(model="there", freeze_encoder_steps=2, freeze_subsampling_steps=4)
    learning = []
    for step in range(5):
        _freeze(model, step, init)
        parts = (model.encoder.subsampling, model.encoder.layers, model.ctc)
        learning.append([all(p.requires_grad for p in part.parameters()) for part in parts])
    assert learning == [[False, False, True]] * 2 + [[False, True, True]] * 2 + [[True] * 3]


def test_what_came_from_nowhere_does_not_wait() -> None:
    model = supernet(recipe(), 1)
    _freeze(model, 0, InitConfig(freeze_encoder_steps=2))
    assert all(p.requires_grad for p in model.parameters())


def test_pretraining_goes_on_with_quantizer_and_projections(pretrained: Path) -> None:
    ours = recipe(pruning={"sparsities": [0.35]}, training={"objective": "pretrain"})
    torch.manual_seed(2)
    model = Wav2Vec(ours.model, ours.pruning, ours.pretraining)
    start_from(model, pretrained, ours)
    torch.manual_seed(1)
    source = Wav2Vec(ours.model, ours.pruning, ours.pretraining)
    for name, parameter in source.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    other = recipe(training={"objective": "pretrain"}, pretraining={"entries": 20})
    with pytest.raises(ModelError, match=r"pretraining\.entries is 160 there and 20 here"):
        start_from(model, pretrained, other)


def test_the_learning_rate_of_what_came_trained_is_lower() -> None:
    model = supernet(recipe(), 1)
    ours = recipe(init={"model": "somewhere", "learning_rate_factor": 0.3})
    factors = {
        id(p): group["factor"]
        for group in make_optimizer(model, ours).param_groups
        for p in group["params"]
    }
    assert {factors[id(p)] for p in model.encoder.parameters()} == {0.3}
    assert factors[id(model.ctc.weight)] == 1.0
    assert len(factors) == len(list(model.parameters()))
