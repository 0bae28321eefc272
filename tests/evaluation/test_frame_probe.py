"""The linear probe: frames get the labels of the tokens beside them, and what is there is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dualmode.errors import DataError
from dualmode.evaluation.frame_probe import _accuracy, _held, spread

UTTERANCES, FRAMES, CLASSES = 40, 30, 4


def test_blanks_take_the_label_of_the_nearest_token_within_reach() -> None:
    path = np.array([0, 0, 0, 0, 7, 0, 0, 9, 0, 0, 0, 0, 0])
    assert spread(path, reach=2).tolist() == [-1, -1, 7, 7, 7, 7, 9, 9, 9, 9, -1, -1, -1]
    assert spread(np.zeros(3, dtype=np.int64)).tolist() == [-1] * 3


def test_about_a_fifth_is_held_out_by_name_alone() -> None:
    names = [f"utterance-{number}" for number in range(1000)]
    held = [_held(name) for name in names]
    assert 0.15 < np.mean(held) < 0.25
    assert held == [_held(name) for name in names]


def test_frames_that_tell_their_label_are_told_apart_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = [[rng.integers(CLASSES, size=FRAMES) for _ in range(UTTERANCES)]]
    held_out = [np.arange(UTTERANCES) % 5 == 0]
    noise = torch.from_numpy(rng.normal(size=(UTTERANCES, FRAMES, 8)).astype(np.float32))
    telling = noise.clone()
    telling[..., :CLASSES] += 6 * torch.nn.functional.one_hot(torch.tensor(np.stack(labels[0])))
    assert _accuracy([telling], labels, held_out) > 0.95
    assert _accuracy([noise], labels, held_out) < 0.45
    unlabelled = [[np.where(np.arange(FRAMES) < 5, row, -1) for row in labels[0]]]
    assert _accuracy([telling], unlabelled, held_out) > 0.9


def test_too_little_speech_is_an_error() -> None:
    rows = [[np.array([1, 2])]]
    with pytest.raises(DataError, match="too few utterances"):
        _accuracy([torch.zeros(1, 2, 3)], rows, [np.array([True])])
