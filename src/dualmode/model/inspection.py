"""Parameters and sparsity of a supernet, and the size of its recognisers in bytes.

Sizes are those of a file that contains one recogniser and nothing else. In the block-sparse format
each kept block of a linear map is stored as its weights and a 16-bit column index; 32-bit row
pointers mark where each row of blocks starts. In int8 every linear map, pruned or not, has one byte
per weight and one fp32 scale per output; everything else remains fp32.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from dualmode.errors import SubnetError
from dualmode.model.layers import Norms
from dualmode.model.masks import PrunableLinear, measured_sparsity
from dualmode.model.supernet import Supernet

_FP32, _INT8 = 4, 1
_COLUMN_BYTES, _ROW_POINTER_BYTES = 2, 4
_WIDEST = 1 << 16  # number of 16-bit column indices
_TRAINING_ONLY = ("simple_frames", "simple_predictions", "ctc")


@dataclass(frozen=True)
class LayerSparsity:
    """A linear map that may be pruned, and the share of its blocks that each mask removes."""

    name: str
    outputs: int
    inputs: int
    sparsities: tuple[float, ...]


@dataclass(frozen=True)
class Footprint:
    """Bytes of one recogniser in one format."""

    recogniser: str
    format: str
    weight_bytes: int
    index_bytes: int = 0
    scale_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.index_bytes + self.scale_bytes


@dataclass(frozen=True)
class Inspection:
    """Result of ``inspect_model``.

    Attributes:
        frame_ms: time from one frame of the encoder to the next.
        parameters: number of parameters, including those that only training uses.
        parts: parameters of each part.
        prunable: weights that masks may remove.
        sparsities: targets for which there are masks.
        measured: shares of blocks that the masks remove.
    """

    frame_ms: int
    parameters: int
    parts: dict[str, int]
    prunable: int
    sparsities: tuple[float, ...]
    measured: tuple[float, ...]
    layers: tuple[LayerSparsity, ...]
    footprints: tuple[Footprint, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        tree = asdict(self)
        for entry, row in zip(tree["footprints"], self.footprints, strict=True):
            entry["total_bytes"] = row.total_bytes
        return tree


def inspect_model(model: Supernet) -> Inspection:
    """Count parameters, blocks and bytes. The result depends on masks, not on weights."""
    layers = model.prunable()
    numbers = range(len(model.sparsities))
    names = {id(module): name for name, module in model.named_modules()}
    sparse = [
        row
        for index, target in enumerate(model.sparsities)
        for row in _device_footprints(model, index, f"device at {target:g}")
    ]
    return Inspection(
        frame_ms=model.encoder.framing.frame_ms,
        parameters=_count(model),
        parts={name: _count(part) for name, part in model.named_children()},
        prunable=sum(layer.weight.numel() for layer in layers),
        sparsities=model.sparsities,
        measured=tuple(measured_sparsity(layers, i) for i in numbers),
        layers=tuple(
            LayerSparsity(
                names[id(layer)],
                outputs=layer.weight.shape[0],
                inputs=layer.weight.shape[1],
                sparsities=tuple(measured_sparsity([layer], i) for i in numbers),
            )
            for layer in layers
        ),
        footprints=(_dense_footprint(model, _FP32), _dense_footprint(model, _INT8), *sparse),
    )


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _dense_footprint(model: Supernet, size: int, recogniser: str = "server") -> Footprint:
    maps = _linear_maps(model)
    weights = sum(m.weight.numel() for m in maps)
    rest = _recogniser_values(model) - weights
    return Footprint(
        recogniser,
        f"dense {'fp32' if size == _FP32 else 'int8'}",
        weights * size + rest * _FP32,
        scale_bytes=_scales(maps) if size == _INT8 else 0,
    )


def _device_footprints(model: Supernet, mask: int, recogniser: str) -> list[Footprint]:
    pruned = model.prunable()
    held = {id(layer) for layer in pruned}
    dense = sum(m.weight.numel() for m in _linear_maps(model) if id(m) not in held)
    kept = sum(_kept_weights(layer, mask) for layer in pruned)
    rest = _recogniser_values(model) - sum(m.weight.numel() for m in _linear_maps(model))
    indices = sum(_index_bytes(layer, mask) for layer in pruned)
    scales = _scales(_linear_maps(model))
    return [
        _dense_footprint(model, _FP32, recogniser),
        Footprint(recogniser, "sparse fp32", (kept + dense + rest) * _FP32, indices),
        Footprint(
            recogniser, "sparse int8", (kept + dense) * _INT8 + rest * _FP32, indices, scales
        ),
    ]


def _linear_maps(model: Supernet) -> list[PrunableLinear | nn.Linear]:
    """The linear maps that recognition uses."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, PrunableLinear | nn.Linear) and name not in _TRAINING_ONLY
    ]


def _recogniser_values(model: Supernet) -> int:
    """Values that are stored densely: one set of norms and the feature statistics, but no heads
    that only training uses."""
    unused = sum(_count(getattr(model, name)) for name in _TRAINING_ONLY)
    for module in model.modules():
        if isinstance(module, Norms):
            sets, width = module.gain.shape
            unused += 2 * (sets - 1) * width
    subsampling = model.encoder.subsampling
    return _count(model) - unused + subsampling.mean.numel() + subsampling.deviation.numel()


def _kept_weights(layer: PrunableLinear, mask: int) -> int:
    """Number of weights stored for the kept blocks; blocks at ragged edges are stored whole."""
    return int(layer.blocks[mask].sum()) * math.prod(layer.block)


def _index_bytes(layer: PrunableLinear, mask: int) -> int:
    rows, columns = layer.blocks.shape[1:]
    if columns > _WIDEST:
        raise SubnetError(f"{columns} columns of blocks do not fit 16-bit indices")
    return int(layer.blocks[mask].sum()) * _COLUMN_BYTES + (rows + 1) * _ROW_POINTER_BYTES


def _scales(maps: list[PrunableLinear | nn.Linear]) -> int:
    return sum(m.weight.shape[0] for m in maps) * _FP32
