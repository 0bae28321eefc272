"""What is stored in fewer bits comes back within half of a step of its row."""

from __future__ import annotations

import pytest
import torch

from dualmode.errors import ModelError
from dualmode.model.compact import compacted, restored


@pytest.mark.parametrize("shape", [(5, 7), (4, 1, 3, 3), (6, 1, 1, 15)])
def test_int8_is_within_half_a_step_of_each_row(shape: tuple[int, ...]) -> None:
    value = torch.randn(shape) * torch.logspace(-3, 3, shape[0]).view(-1, *[1] * (len(shape) - 1))
    value[1] = 0
    stored = compacted({"layer.weight": value}, "int8")
    assert stored["layer.weight"].dtype == torch.int8
    again = restored(stored)
    assert list(again) == ["layer.weight"]
    step = value.abs().flatten(1).amax(1).view(-1, *[1] * (len(shape) - 1)) / 127
    assert ((again["layer.weight"] - value).abs() <= 0.5001 * step).all()


def test_vectors_norms_and_masks_stay_as_they_are() -> None:
    state = {
        "layer.bias": torch.randn(8),
        "layer.norm.gain": torch.randn(2, 8),
        "layer.blocks": torch.randint(0, 255, (9,), dtype=torch.uint8),
    }
    for storage in ("float16", "int8"):
        stored = compacted(state, storage)  # type: ignore[arg-type]
        assert all(torch.equal(stored[name], value) for name, value in state.items())
        assert restored(stored).keys() == state.keys()


def test_a_scale_that_is_not_a_number_for_each_row_is_refused() -> None:
    stored = compacted({"layer.weight": torch.randn(4, 3)}, "int8")
    for scale in (torch.ones(3), torch.ones(4, 1), torch.ones(4, dtype=torch.int64)):
        with pytest.raises(ModelError, match="scales"):
            restored({**stored, "layer.weight.scale": scale})
