"""The features of training are those of kaldi-native-fbank."""

import numpy as np
import pytest

from dualmode.data.training_features import training_fbank
from dualmode.features import fbank


@pytest.mark.parametrize("samples", [0, 79, 80, 239, 399, 400, 401, 479, 480, 5000, 80000])
@pytest.mark.parametrize("level", [0.3, 1e-3, 0.0])
def test_same_as_kaldi_native_fbank(samples: int, level: float) -> None:
    noise = np.random.default_rng(samples).normal(0, level, samples).astype(np.float32)
    reference, batched = fbank(noise), training_fbank(noise)
    assert batched.shape == reference.shape
    assert batched.dtype == np.float32
    if samples:
        assert np.abs(batched - reference).max(initial=0.0) < 2e-3


def test_same_for_a_tone_with_an_offset() -> None:
    time_s = np.arange(16000) / 16000
    tone = (0.2 + 0.3 * np.sin(2 * np.pi * 300 * time_s)).astype(np.float32)
    difference = np.abs(training_fbank(tone) - fbank(tone))
    # Bins far from a pure tone hold nothing but the rounding of the transform.
    loud = fbank(tone) > -8
    assert difference[loud].max() < 2e-3
