"""Augmentation of training audio and features, drawn from the generator that is passed in."""

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

_SILENT = 1e-8  # mean power below which a signal-to-noise ratio is meaningless
_FAINT_LOG10 = (-4.5, -3.0)  # log10 of the standard deviation of a microphone's own noise
_LONGEST_MASKED_SHARE = 0.2  # largest share of an utterance that one time mask covers
_DECAY_S = (0.1, 0.6)  # reverberation time: decay by 60 dB
_DIRECT_DB = (-3.0, 15.0)  # direct-to-reverberant energy ratio
_TELEPHONE_HZ = ((100.0, 350.0), (3200.0, 3900.0))  # ranges of the band's lower and upper edge
_EDGE_HZ = 80.0  # width of the transition at an edge of the band
_MU = 255.0  # mu-law parameter of ITU-T G.711


def perturb_speed(samples: Samples, speed: float) -> Samples:
    """Play (S,) samples ``speed`` times as fast, which also changes the pitch: (S / speed,).

    Ko et al., "Audio augmentation for speech recognition", Interspeech 2015.
    """
    ratio = Fraction(speed).limit_denominator(100)
    return resample(samples, ratio.denominator, ratio.numerator)


def add_noise(samples: Samples, noise: npt.NDArray[np.floating], snr_db: float) -> Samples:
    """Add (S,) noise at a signal-to-noise ratio of ``snr_db`` decibels."""
    power = float(np.mean(np.square(samples))) if len(samples) else 0.0
    noise_power = float(np.mean(np.square(noise))) if len(noise) else 0.0
    if power < _SILENT or noise_power < _SILENT:
        return samples
    gain = np.sqrt(power / noise_power * 10 ** (-snr_db / 10))
    return np.asarray(samples + gain * noise, dtype=np.float32)


def reverberate(samples: Samples, rng: Random) -> Samples:
    """Reverberate (S,) samples in a random room; length, loudness and timing are preserved.

    The impulse response is the direct sound followed, after 1 to 4 ms, by exponentially decaying
    noise (Polack's model of late reverberation) with a few much stronger early reflections. It
    takes one convolution per utterance, less than the image-source method.
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
    reverberated = oaconvolve(samples, response.astype(np.float32))[: len(samples)]
    gain = np.sqrt(power / max(float(np.mean(np.square(reverberated))), _SILENT))
    return np.asarray(reverberated * gain, dtype=np.float32)


def telephone(samples: Samples, rng: Random) -> Samples:
    """Send (S,) samples through a telephone line: remove everything above 3.2 to 3.9 kHz and
    attenuate everything below 100 to 350 Hz; half of the lines also code in 8-bit mu-law."""
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
    """Amplify (S,) samples by ``gain_db`` decibels and clip them at full scale."""
    louder = samples * np.float32(10 ** (gain_db / 20))
    return np.asarray(np.clip(louder, -1, 1), dtype=np.float32)


def draw_noise(noises: Sequence[Samples], length: int, rng: Random) -> Samples:
    """A random stretch of ``length`` samples of one noise; a noise that is too short repeats."""
    noise = noises[int(rng.integers(len(noises)))]
    start = int(rng.integers(max(1, len(noise) - length + 1)))
    stretch = noise[start : start + length]
    return stretch if len(stretch) == length else np.resize(stretch, length)


def draw_tails_s(longest_s: float, count: int, rng: Random) -> list[float]:
    """Draw the silence, in seconds, after each of ``count`` utterances.

    Half of them get none; the others get at most ``longest_s``, and short silences are more
    frequent. A recogniser trained only on utterances that end with their last word waits for the
    end of the audio before it emits that word, and a stream does not end.
    """
    drawn = np.square(rng.random(count)) * longest_s
    tails: list[float] = np.where(rng.random(count) < 0.5, drawn, 0.0).tolist()
    return tails


def append_silence(samples: Samples, seconds: float, rng: Random) -> Samples:
    """Append ``seconds`` of zeros or, half of the time, of noise as faint as a microphone's."""
    return np.concatenate([samples, _silence(seconds, rng)]) if seconds else samples


def join(spoken: Sequence[Samples], pause_s: float, rng: Random) -> Samples:
    """Join utterances (S,) to one recording with ``pause_s`` seconds of silence between them."""
    parts = list(spoken[:1])
    for samples in spoken[1:]:
        parts += [_silence(pause_s, rng), samples]
    return np.concatenate(parts)


def _silence(seconds: float, rng: Random) -> Samples:
    level = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(*_FAINT_LOG10)
    noise = level * rng.standard_normal(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
    return np.asarray(noise, dtype=np.float32)


def mask_mels(mels: Mels, data: DataConfig, rng: Random) -> Mels:
    """SpecAugment: replace spans of time and of frequency in (M, 80) mel frames by bin means.

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
