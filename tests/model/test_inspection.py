"""Bytes and sparsities, counted again by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.inspection import Footprint, Inspection, inspect_model
from dualmode.model.masks import PrunableLinear, draw_masks
from dualmode.model.supernet import Supernet

MODEL = ModelConfig(
    width=16,
    layers=2,
    heads=2,
    feed_forward=36,  # not a multiple of the block's eight outputs
    kernel_frames=5,
    subsampling_channels=4,
    predictor_width=16,
    joiner_width=16,
)


def inspected(**pruning: object) -> tuple[Supernet, Inspection]:
    torch.manual_seed(0)
    config = PruningConfig.model_validate({"sparsities": (0.5, 0.7), **pruning})
    model = Supernet(30, MODEL, config)
    draw_masks(model.prunable(), config.sparsities)
    return model, inspect_model(model)


def footprint(found: Inspection, recogniser: str, form: str) -> Footprint:
    (row,) = [f for f in found.footprints if (f.recogniser, f.format) == (recogniser, form)]
    return row


def test_parts_add_up() -> None:
    model, found = inspected()
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert sum(found.parts.values()) == found.parameters
    assert found.frame_ms == 40
    assert found.prunable == sum(layer.outputs * layer.inputs for layer in found.layers)


def test_every_prunable_layer_is_listed_under_its_name() -> None:
    model, found = inspected()
    for layer in found.layers:
        module = model.get_submodule(layer.name)
        assert isinstance(module, PrunableLinear)
        assert tuple(module.weight.shape) == (layer.outputs, layer.inputs)
    assert len(found.layers) == len(model.prunable())
    assert found.measured == pytest.approx((0.5, 0.7), abs=0.02)


def test_server_bytes_are_what_recognition_runs() -> None:
    model, found = inspected()
    heads = sum(
        p.numel()
        for n, p in model.named_parameters()
        if n.split(".")[0] in {"ctc", "simple_frames", "simple_predictions"}
    )
    second_norms = sum(p[0].numel() for n, p in model.named_parameters() if "norm" in n)
    needed = found.parameters - heads - second_norms + 2 * 80
    assert footprint(found, "server", "dense fp32").total_bytes == 4 * needed


@pytest.mark.parametrize("scope", ["encoder", "all"])
@pytest.mark.parametrize("index", [0, 1])
def test_sparse_bytes_by_hand(scope: str, index: int) -> None:
    model, found = inspected(scope=scope)
    name = f"device at {model.sparsities[index]:g}"
    dense = footprint(found, name, "dense fp32")
    sparse = footprint(found, name, "sparse fp32")
    kept = sum(int(layer.blocks[index].sum()) for layer in model.prunable())
    rows = sum(math.ceil(layer.weight.shape[0] / 8) + 1 for layer in model.prunable())
    whole = sum(layer.weight.numel() for layer in model.prunable())
    assert dense.total_bytes == footprint(found, "server", "dense fp32").total_bytes
    assert sparse.weight_bytes == dense.weight_bytes - 4 * whole + 4 * 8 * kept
    assert sparse.index_bytes == 2 * kept + 4 * rows
    assert sparse.total_bytes < dense.total_bytes


def test_int8_bytes_by_hand() -> None:
    model, found = inspected()
    fp32 = footprint(found, "device at 0.7", "sparse fp32")
    int8 = footprint(found, "device at 0.7", "sparse int8")
    used = [
        m
        for n, m in model.named_modules()
        if isinstance(m, (PrunableLinear, torch.nn.Linear))
        and n not in {"ctc", "simple_frames", "simple_predictions"}
    ]
    pruned = {id(layer) for layer in model.prunable()}
    stored = sum(m.weight.numel() for m in used if id(m) not in pruned) + 8 * sum(
        int(layer.blocks[1].sum()) for layer in model.prunable()
    )
    assert int8.weight_bytes == fp32.weight_bytes - 3 * stored
    assert int8.scale_bytes == 4 * sum(m.weight.shape[0] for m in used)
    assert int8.index_bytes == fp32.index_bytes


def test_sparser_is_smaller() -> None:
    _, found = inspected()
    sizes = [footprint(found, f"device at {s:g}", "sparse int8").total_bytes for s in (0.5, 0.7)]
    assert sizes[1] < sizes[0] < footprint(found, "server", "dense int8").total_bytes


def test_json_holds_totals() -> None:
    _, found = inspected()
    tree = json.loads(json.dumps(found.to_dict()))
    assert tree["footprints"][0]["total_bytes"] == found.footprints[0].total_bytes
