"""Disturbances of training audio and features; every function draws from the generator given."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.signal import oaconvolve

from dualmode.audio import SAMPLE_RATE_HZ, Samples, resample
from dualmode.config import DataConfig
from dualmode.features import Mels

Random = np.random.Generator

_SILENT = 1e-8  # mean power of speech or noise below which their ratio says nothing
_FAINT_LOG10 = (-4.5, -3.0)  # deviation of what microphones call silence, full scale being 1
_LONGEST_MASKED_SHARE = 0.2  # of an utterance, by one time mask
_DECAY_S = (0.1, 0.6)  # until a room's sound is 60 dB below its beginning
_DIRECT_DB = (-3.0, 15.0)  # of the direct sound's energy over that of all reflections
_TELEPHONE_HZ = ((100.0, 350.0), (3200.0, 3900.0))  # lower and upper edge of the band
_EDGE_HZ = 80.0  # over which a band ends
_MU = 255.0  # of ITU-T G.711


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


def reverberate(samples: Samples, rng: Random) -> Samples:
    """(S,) samples as heard in a room drawn at random: as many, as loud, and not delayed.

    The impulse response is the direct sound and, from 1 to 4 ms after it, noise that decays
    exponentially (Polack's model of late reverberation), a few early samples of it far stronger
    than the rest. Cheaper than mirrored sources: one convolution an utterance.
    """
    power = float(np.mean(np.square(samples))) if len(samples) else 0.0
    if power < _SILENT:
        return samples
    decay_s = rng.uniform(*_DECAY_S)
    time_s = np.arange(1, round(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    reflections = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / decay_s)
    early = rng.integers(16, 640, size=6)
    reflections[early] *= 6
    reflections[: int(rng.integers(16, 64))] = 0
    direct = 10 ** (rng.uniform(*_DIRECT_DB) / 20)
    response = np.concatenate([[direct * np.linalg.norm(reflections)], reflections])
    heard = oaconvolve(samples, response.astype(np.float32))[: len(samples)]
    gain = np.sqrt(power / max(float(np.mean(np.square(heard))), _SILENT))
    return np.asarray(heard * gain, dtype=np.float32)


def telephone(samples: Samples, rng: Random) -> Samples:
    """(S,) samples as they come out of a telephone: nothing above a band's upper edge, between
    3.2 and 3.9 kHz, little below its lower one, and half of the time in eight bits by mu-law."""
    spectrum = np.fft.rfft(samples)
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum))
    (lower, upper) = (rng.uniform(*edge) for edge in _TELEPHONE_HZ)
    kept = np.clip((hz - lower) / _EDGE_HZ + 1, 0.03, 1) * np.clip((upper - hz) / _EDGE_HZ, 0, 1)
    band = np.fft.irfft(spectrum * kept, len(samples)).astype(np.float32)
    if rng.random() < 0.5:
        curve = np.log1p(_MU * np.minimum(np.abs(band), 1)) / np.log1p(_MU)
        band = np.sign(band) * np.expm1(np.round(curve * 127) / 127 * np.log1p(_MU)) / _MU
    return np.asarray(band, dtype=np.float32)


def change_gain(samples: Samples, gain_db: float) -> Samples:
    """(S,) samples louder by ``gain_db`` decibels; what exceeds full scale is clipped."""
    louder = samples * np.float32(10 ** (gain_db / 20))
    return np.asarray(np.clip(louder, -1, 1), dtype=np.float32)


def draw_noise(noises: Sequence[Samples], length: int, rng: Random) -> Samples:
    """A random stretch of ``length`` samples of one noise, which repeats where it is too short."""
    noise = noises[int(rng.integers(len(noises)))]
    start = int(rng.integers(max(1, len(noise) - length + 1)))
    stretch = noise[start : start + length]
    return stretch if len(stretch) == length else np.resize(stretch, length)


def draw_tails_s(longest_s: float, count: int, rng: Random) -> list[float]:
    """Seconds of silence after each of ``count`` utterances: none in half of them, at most
    ``longest_s``, short ones more often.

    A recogniser that only ever heard utterances which end with their last word waits for the end
    before it says that word, and in a stream the end does not come.
    """
    drawn = np.square(rng.random(count)) * longest_s
    tails: list[float] = np.where(rng.random(count) < 0.5, drawn, 0.0).tolist()
    return tails


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
