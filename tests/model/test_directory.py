"""A saved model is the model that was saved, and a damaged one says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from dualmode.config import ModelConfig, Recipe, TextConfig
from dualmode.errors import ModelError
from dualmode.model.compact import compacted
from dualmode.model.directory import (
    copy_model,
    load_model,
    pack_state,
    replace_tensors,
    save_model,
)
from dualmode.model.masks import draw_masks
from dualmode.model.shipped import model_folder, shipped_models
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
    (path / "config.yaml").write_text(bigger.to_yaml(), encoding="utf-8")
    with pytest.raises(ModelError, match="do not fit"):
        load_model(path)


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 65536, "feed_forward": 65536, "layers": 256},  # 8 TB
        {"layers": 10**12},
        {"heads": 10**30},
    ],
    ids=str,
)
def test_no_memory_is_taken_for_what_a_hostile_recipe_asks_for(saved, sizes, monkeypatch):
    """Nothing is built, not even empty, but on the meta device."""
    path, _, recipe = saved
    tree = yaml.safe_load(recipe.to_yaml())
    tree["model"] |= sizes
    (path / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    real = Supernet.__init__

    def build(self, *arguments):
        assert torch.get_default_device() == torch.device("meta")
        real(self, *arguments)

    monkeypatch.setattr(Supernet, "__init__", build)
    with pytest.raises(ModelError, match=r"do not fit|less than or equal"):
        load_model(path)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",  # a header longer than memory
        b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}',
        b'\x3a\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}   ',
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x02\0\0\0\0\0\0\0{}",
    ],
)
def test_hostile_weights_are_a_clear_error(saved, header):
    path, _, _ = saved
    (path / "model.safetensors").write_bytes(header)
    with pytest.raises(ModelError, match=str(path)):
        load_model(path)


def test_weights_of_another_type_are_refused(saved):
    path, net, _ = saved
    tensors = {name: value.clone() for name, value in pack_state(net).items()}
    masks = [name for name in tensors if name.endswith(".blocks")]
    save_file({**tensors, masks[0]: tensors[masks[0]].float()}, path / "model.safetensors")
    with pytest.raises(ModelError, match="do not fit"):
        load_model(path)


@pytest.mark.parametrize(("storage", "share"), [("float16", 0.65), ("int8", 0.45)])
def test_fewer_bytes_are_nearly_the_same_model(saved, tmp_path, storage, share):
    path, net, recipe = saved
    out = tmp_path / "given"
    (path / "README.md").write_text("# A card\n", encoding="utf-8")
    copy_model(path, out, storage=storage)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (path, out)]
    assert sizes[1] < share * sizes[0]
    assert (out / "README.md").read_text(encoding="utf-8") == "# A card\n"
    loaded = load_model(out)
    assert loaded.recipe == recipe
    for name, value in loaded.model.state_dict().items():
        assert value.dtype == net.state_dict()[name].dtype
        original = net.state_dict()[name]
        if not value.is_floating_point():
            assert torch.equal(value, original), name
            continue
        bound = 1e-3 * original.abs() + 1e-6
        if storage == "int8" and value.dim() > 1:  # half of a step of 1/127 of the row's largest
            bound += original.abs().flatten(1).amax(1).view(-1, *[1] * (value.dim() - 1)) / 254
        assert ((value - original).abs() <= bound).all(), name
    with pytest.raises(ModelError, match="another folder"):
        copy_model(out, out)


def test_int8_without_its_scales_is_refused(saved):
    path, net, _ = saved
    stored = compacted(pack_state(net), "int8")
    scales = [name for name in stored if name.endswith(".scale")]
    for wrong in ({}, {scales[0]: torch.ones(1)}, {scales[0]: stored[scales[0]].int()}):
        damaged = {name: value for name, value in stored.items() if name != scales[0]} | wrong
        replace_tensors(path / "model.safetensors", damaged, {"format": "dualmode-2"})
        with pytest.raises(ModelError, match="int8 without the scales"):
            load_model(path)


def test_shipped_models_go_by_name_unless_a_directory_has_it(saved, tmp_path, monkeypatch):
    path, _, _ = saved
    monkeypatch.setattr("dualmode.model.shipped._models", lambda: path.parent)
    monkeypatch.chdir(tmp_path)
    name = path.name
    assert name in shipped_models()
    assert load_model(name).recipe.name == "small"
    assert model_folder("no-such-model") == Path("no-such-model")
    with pytest.raises(ModelError, match=name):
        load_model("no-such-model")
    own = tmp_path / name
    own.mkdir()
    (own / "config.yaml").write_text("", encoding="utf-8")
    assert model_folder(name) == Path(name)


def test_a_newer_format_is_refused_by_name(saved):
    path, net, _ = saved
    for written, message in (("dualmode-3", "dualmode-3.*upgrade"), ("pt", "unknown format 'pt'")):
        replace_tensors(path / "model.safetensors", pack_state(net), {"format": written})
        with pytest.raises(ModelError, match=message):
            load_model(path)
    replace_tensors(path / "model.safetensors", pack_state(net), {"format": "dualmode-1"})
    assert load_model(path).tokens.size > 2


def test_keys_of_other_minor_versions_are_not_fatal(saved, caplog):
    path, _, recipe = saved
    tree = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    tree["model"]["attention_sinks"] = 4
    tree["weather"] = {"rain": True}
    del tree["data"]["buckets"]
    (path / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    assert load_model(path).recipe == recipe
    assert "model.attention_sinks is unknown" in caplog.text
    assert "weather is unknown" in caplog.text


def test_an_older_name_of_a_section_is_understood(saved):
    path, _, recipe = saved
    text = (path / "config.yaml").read_text(encoding="utf-8")
    assert "  device_subnet:" in text
    (path / "config.yaml").write_text(
        text.replace("  device_subnet:", "  device:"), encoding="utf-8"
    )
    assert load_model(path).recipe == recipe
