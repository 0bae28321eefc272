"""Hidden frames: as many as asked for, inside the utterance, and never their own distractors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualmode.config import PretrainingConfig
from dualmode.data.spans import draw_distractors, draw_spans, hide


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("probability", "frames"), [(0.65, 5), (0.3, 10), (0.8, 2)])
def test_spans_hide_the_expected_share(probability: float, frames: int) -> None:
    config = PretrainingConfig(mask_probability=probability, mask_frames=frames, min_spans=1)
    length = 400
    hidden = [draw_spans(length, config, rng(seed)) for seed in range(200)]
    # Spans start anywhere without replacement, and overlap.
    expected = 1 - (1 - probability / frames) ** frames
    assert np.mean([len(one) for one in hidden]) / length == pytest.approx(expected, rel=0.04)
    everywhere = np.bincount(np.concatenate(hidden), minlength=length) / 200
    assert everywhere[frames:-frames].min() > expected / 2
    assert everywhere[frames:-frames].max() < min(1.0, expected * 1.6)


@given(length=st.integers(0, 60), span=st.integers(1, 9), seed=st.integers(0, 99))
def test_spans_are_whole_and_inside(length: int, span: int, seed: int) -> None:
    config = PretrainingConfig(mask_frames=span)
    frames = draw_spans(length, config, rng(seed))
    assert (np.diff(frames) > 0).all()
    if len(frames):
        assert frames[0] >= 0
        assert frames[-1] < length
        runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
        assert min(map(len, runs)) >= span
    assert len(frames) != 1
    if length >= 2 * span and span > 1:
        assert len(frames) >= span, "an utterance with room has something to predict"


@given(count=st.integers(0, 30), seed=st.integers(0, 99))
def test_no_frame_is_its_own_distractor(count: int, seed: int) -> None:
    drawn = draw_distractors(count, 20, rng(seed))
    assert drawn.shape == (count, 20)
    if count > 1:
        assert (drawn != np.arange(count)[:, None]).all()
        assert drawn.min() >= 0
        assert drawn.max() < count


def test_distractors_are_drawn_evenly() -> None:
    drawn = draw_distractors(5, 20000, rng(0))
    for frame in range(5):
        shares = np.bincount(drawn[frame], minlength=5) / 20000
        assert shares[frame] == 0
        assert np.delete(shares, frame) == pytest.approx(np.full(4, 0.25), abs=0.02)


def test_padding_is_neither_hidden_nor_a_distractor() -> None:
    lengths = (50, 21, 1, 0)
    found = hide(lengths, [rng(seed) for seed in range(4)], PretrainingConfig(), noisy=True)
    mask = found.mask(50)
    for row, length in enumerate(lengths):
        count = int(found.valid[row].sum())
        assert not mask[row, length:].any()
        assert int(mask[row].sum()) == count
        if count:
            assert int(found.distractors[row, :count].max()) < count
    assert found.valid[0].any()
    assert not found.valid[2:].any()
    assert found.noise is not None
    assert float(found.noise[found.valid].mean()) == pytest.approx(0.577, abs=0.03)  # Gumbel's


def test_an_utterance_draws_the_same_in_any_company() -> None:
    config = PretrainingConfig()
    alone = hide((30,), [rng(7)], config, noisy=True)
    among = hide((50, 30), [rng(1), rng(7)], config, noisy=True)
    count = int(alone.valid.sum())
    assert np.array_equal(alone.frames[0, :count], among.frames[1, :count])
    assert np.array_equal(alone.distractors[0, :count], among.distractors[1, :count])
    assert alone.noise is not None
    assert among.noise is not None
    assert np.array_equal(alone.noise[0, :count], among.noise[1, :count])
