"""Store the matrices of a model in 16 or 8 bits, for distribution.

Matrices and kernels are most of a model. Vectors, the gains of norms and the statistics of features
are small, and stay float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dualmode.errors import ModelError

Storage = Literal["float32", "float16", "int8"]

_SCALE = ".scale"
_LARGEST = 127
_SMALLEST_SCALE = 1e-12  # of a row of zeros


def compacted(packed: dict[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Convert the matrices of a packed state.

    In int8, each output (first dimension) has its own scale, as :mod:`dualmode.export.artifact`
    has for the engine; it is stored beside the matrix, as ``NAME.scale``.
    """
    state: dict[str, Tensor] = {}
    for name, value in packed.items():
        matrix = value.dim() > 1 and value.dtype == torch.float32 and ".norm." not in name
        if storage == "int8" and matrix:
            largest = value.abs().amax(dim=tuple(range(1, value.dim())))
            scale = (largest / _LARGEST).clamp_min(_SMALLEST_SCALE)
            state[name] = (value / _of_rows(scale, value)).round().to(torch.int8)
            state[name + _SCALE] = scale
        else:
            state[name] = value.half() if storage == "float16" and matrix else value
    return state


def restored(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The packed state that :func:`compacted` stored, int8 matrices as float32.

    Raises:
        ModelError: an int8 matrix has no scale, or one of another shape.
    """
    state = {}
    for name, value in stored.items():
        if value.dtype == torch.int8:
            scale = stored.get(name + _SCALE)
            if scale is None or scale.shape != value.shape[:1] or not scale.is_floating_point():
                raise ModelError(f"{name} is stored in int8 without the scales of its rows")
            state[name] = value * _of_rows(scale.float(), value)
        elif not name.endswith(_SCALE):
            state[name] = value
    return state


def _of_rows(scale: Tensor, value: Tensor) -> Tensor:
    return scale.view(-1, *(1 for _ in range(value.dim() - 1)))
