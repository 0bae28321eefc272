"""The features of ``dualmode.features`` at three times the speed, for training.

kaldi-native-fbank makes one mel frame at a time, and at the speed of training that takes a tenth
of a two-core machine. This makes all of an utterance's at once; a test holds the two together.
Recognisers keep to kaldi-native-fbank itself.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import rfft
from torch import Tensor

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.features import MEL_FRAME_SAMPLES, MELS, Mels, mel_frames

_WINDOW = 400  # samples: 25 ms
_FFT = 512
_PREEMPHASIS = np.float32(0.97)
_LOW_HZ, _HIGH_HZ = 20.0, 7600.0
# The first window is centred on the first 10 ms; what it lacks is mirrored at the edge.
_LEAD = (_WINDOW - MEL_FRAME_SAMPLES) // 2


def fast_fbank(samples: Samples) -> Mels:
    """(S,) samples in [-1, 1] at 16 kHz -> (M, 80), within 2e-3 of ``features.fbank``."""
    frames = mel_frames(len(samples))
    if not frames:
        return np.zeros((0, MELS), np.float32)
    tail = (frames - 1) * MEL_FRAME_SAMPLES + _WINDOW - _LEAD - len(samples)
    padded = np.pad(samples, (_LEAD, max(0, tail)), mode="symmetric")
    view = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
    windows = view[::MEL_FRAME_SAMPLES][:frames]
    centred = windows - windows.mean(axis=1, keepdims=True)
    sharpened = np.empty_like(centred)
    sharpened[:, 1:] = centred[:, 1:] - _PREEMPHASIS * centred[:, :-1]
    sharpened[:, 0] = (1 - _PREEMPHASIS) * centred[:, 0]
    sharpened *= _povey()
    spectrum = rfft(sharpened, _FFT)[:, : _FFT // 2]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # PyTorch's product keeps to one thread in a worker; NumPy's would take them all.
    energies = torch.from_numpy(power) @ _mel_bank()
    return energies.clamp_(min=torch.finfo(torch.float32).eps).log_().numpy()


@lru_cache(maxsize=1)
def _povey() -> npt.NDArray[np.float32]:
    phase = 2 * np.pi * np.arange(_WINDOW) / (_WINDOW - 1)
    return np.asarray((0.5 - 0.5 * np.cos(phase)) ** 0.85, dtype=np.float32)


@lru_cache(maxsize=1)
def _mel_bank() -> Tensor:
    """(256, 80) weights of triangles that are even on Kaldi's mel scale."""
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ]))
    corners = low + (high - low) / (MELS + 1) * np.arange(MELS + 2)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = _mel(np.arange(_FFT // 2) * SAMPLE_RATE_HZ / _FFT)[:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
