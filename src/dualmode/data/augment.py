"""Disturbances of training audio and features; every function draws from the generator given."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dualmode.audio import SAMPLE_RATE_HZ, Samples, resample
from dualmode.config import DataConfig
from dualmode.features import Mels

Random = np.random.Generator

_SILENT = 1e-8  # mean power of speech or noise below which their ratio says nothing
_FAINT_LOG10 = (-4.5, -3.0)  # deviation of what microphones call silence, full scale being 1
_LONGEST_MASKED_SHARE = 0.2  # of an utterance, by one time mask


def perturb_speed(samples: Samples, speed: float) -> Samples:
    """Play (S,) samples ``speed`` times as fast, which moves the pitch as well: (S / speed,).

    Ko et al., "Audio augmentation for speech recognition", Interspeech 2015.
    """
    ratio = Fraction(speed).limit_denominator(100)
    return resample(samples, ratio.denominator, ratio.numerator)


def add_noise(samples: Samples, noise: npt.NDArray[np.floating], snr_db: float) -> Samples:
    """Add (S,) noise so that the samples' power is ``snr_db`` decibels above the noise's."""
    power = float(np.mean(np.square(samples))) if len(samples) else 0.0
    noise_power = float(np.mean(np.square(noise))) if len(noise) else 0.0
    if power < _SILENT or noise_power < _SILENT:
        return samples
    gain = np.sqrt(power / noise_power * 10 ** (-snr_db / 10))
    return np.asarray(samples + gain * noise, dtype=np.float32)


def draw_noise(noises: Sequence[Samples], length: int, rng: Random) -> Samples:
    """A random stretch of ``length`` samples of one noise, which repeats where it is too short."""
    noise = noises[int(rng.integers(len(noises)))]
    start = int(rng.integers(max(1, len(noise) - length + 1)))
    stretch = noise[start : start + length]
    return stretch if len(stretch) == length else np.resize(stretch, length)


def draw_tail_s(longest_s: float, rng: Random) -> float:
    """Seconds of silence after the utterances of a batch: none in half of all, at most
    ``longest_s``, short ones more often. One length a batch, for padding costs as much as speech.

    A recogniser that only ever heard utterances which end with their last word waits for the end
    before it says that word, and in a stream the end does not come.
    """
    return float(longest_s * rng.random() ** 2) if rng.random() < 0.5 else 0.0


def append_silence(samples: Samples, seconds: float, rng: Random) -> Samples:
    """Append zeros (half of the time) or noise as faint as a microphone's own."""
    return np.concatenate([samples, _silence(seconds, rng)]) if seconds else samples


def join(spoken: Sequence[Samples], pause_s: float, rng: Random) -> Samples:
    """One (S,) recording of several utterances, ``pause_s`` of silence between them."""
    parts = list(spoken[:1])
    for samples in spoken[1:]:
        parts += [_silence(pause_s, rng), samples]
    return np.concatenate(parts)


def _silence(seconds: float, rng: Random) -> Samples:
    level = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(*_FAINT_LOG10)
    noise = level * rng.standard_normal(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
    return np.asarray(noise, dtype=np.float32)


def mask_mels(mels: Mels, data: DataConfig, rng: Random) -> Mels:
    """SpecAugment: replace stretches of time and of frequency in (M, 80) by each bin's mean.

    Park et al., "SpecAugment", Interspeech 2019, without time warping. A time mask covers at most
    a fifth of the utterance, so that short commands keep words to learn from.
    """
    frames, bins = mels.shape
    if not frames:
        return mels
    masked = mels.copy()
    mean = mels.mean(axis=0)
    longest = min(data.time_mask_frames, int(_LONGEST_MASKED_SHARE * frames))
    for _ in range(data.time_masks):
        start, stop = _stretch(frames, longest, rng)
        masked[start:stop] = mean
    for _ in range(data.frequency_masks):
        start, stop = _stretch(bins, min(data.frequency_mask_bins, bins), rng)
        masked[:, start:stop] = mean[start:stop]
    return masked


def _stretch(total: int, longest: int, rng: Random) -> tuple[int, int]:
    width = int(rng.integers(longest + 1))
    start = int(rng.integers(total - width + 1))
    return start, start + width
