"""The geometry of windows against plain loops, and rotations against complex numbers."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualmode.model.windows import (
    WindowLayout,
    Windows,
    fold,
    make_windows,
    rotate,
    rotations,
    unfold_left,
)

layouts = st.builds(
    WindowLayout,
    windows=st.integers(1, 4),
    chunk=st.integers(1, 4),
    lookahead=st.integers(0, 6),
    left=st.integers(0, 7),
)


@settings(max_examples=40, deadline=None)
@given(layouts, st.lists(st.integers(0, 16), min_size=1, max_size=3), st.integers(0, 9) | st.none())
def test_windows_are_those_of_a_plain_loop(
    layout: WindowLayout, lengths: list[int], processed: int | None
) -> None:
    width, past = layout.chunk + layout.lookahead, processed or 0
    behind = None if processed is None else torch.full((len(lengths),), processed)
    found = make_windows(layout, torch.tensor(lengths), behind, 4)
    keys = found.key_mask.view(len(lengths), layout.windows, layout.left + width)
    frequency = torch.tensor([1.0, 0.01], dtype=torch.float64)
    for row, length in enumerate(lengths):
        for number in range(layout.windows):
            start = number * layout.chunk
            window = [at < length for at in range(start, start + width)]
            assert found.valid[row, number].tolist() == window
            if start < length:  # the others have no frame, so it does not matter what they see
                left = [at >= -past for at in range(start - layout.left, start)]
                assert keys[row, number].tolist() == left + window
            assert keys[row, number].any(), "a softmax over nothing is not a number"
            angle = (start + past + torch.arange(width))[:, None] * frequency
            for part, expected in ((found.cos, angle.cos()), (found.sin, angle.sin())):
                ours = part[min(row, len(part) - 1), number, :, 0, 0]
                torch.testing.assert_close(ours, expected.float(), atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(layouts, st.integers(1, 20))
def test_folding_gives_each_window_its_frames(layout: WindowLayout, frames: int) -> None:
    frames = min(frames, layout.windows * layout.chunk + layout.lookahead)
    x = torch.arange(1, frames + 1).view(1, -1, 1).float()
    length = max(1, layout.left)  # layers without left context do not ask
    past = -torch.arange(length, 0, -1).view(1, -1, 1).float()
    folded = fold(x, layout)
    centre = folded[:, :, : layout.chunk]
    before = unfold_left(past, centre, length)
    width = layout.chunk + layout.lookahead
    for number in range(layout.windows):
        start = number * layout.chunk
        expected = [at + 1 if at < frames else 0 for at in range(start, start + width)]
        assert folded[0, number, :, 0].tolist() == expected
        earlier = range(start - length, start)
        assert before[0, number, :, 0].tolist() == [
            at if at < 0 else at + 1 if at < frames else 0 for at in earlier
        ]


def test_a_rotation_is_a_complex_product_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    position = torch.tensor([[[0, 3, 7], [90, 1, 12345]]])
    cos, sin = rotations(position, 8)
    x = torch.randn(1, 2, 3, 2, 2, 8, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(0)
    rotated = rotate(x, Windows(1, 0, none, none, cos, sin))
    factor = torch.complex(cos.double(), sin.double())
    product = torch.complex(x[..., :4], x[..., 4:]) * factor
    expected = torch.cat([product.real, product.imag], dim=-1)
    torch.testing.assert_close(rotated, expected)
    weights = torch.randn_like(x)
    gradients: list[Tensor] = [
        torch.autograd.grad((weights * values).sum(), x)[0] for values in (rotated, expected)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])
