"""The features of ``dualmode.features``, computed by Lhotse's filter bank for training.

kaldi-native-fbank computes one mel frame at a time; Lhotse computes all frames of an utterance at
once in about half the time. A test compares the two. Recognition uses kaldi-native-fbank.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from lhotse.features.kaldi.layers import Wav2LogFilterBank

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.features import MELS, Mels, fbank

_SHORTEST = 400  # samples: below one window Lhotse and Kaldi mirror the edges differently


def training_fbank(samples: Samples) -> Mels:
    """(S,) samples in [-1, 1] at 16 kHz -> (M, 80), within 2e-3 of ``features.fbank``."""
    if len(samples) < _SHORTEST:
        return fbank(samples)
    with torch.inference_mode():
        mels: Mels = _filter_bank()(torch.from_numpy(samples)[None])[0].numpy()
    return mels


@lru_cache(maxsize=1)
def _filter_bank() -> Wav2LogFilterBank:
    return Wav2LogFilterBank(
        sampling_rate=SAMPLE_RATE_HZ,
        frame_length=0.025,
        frame_shift=0.01,
        dither=0.0,
        window_type="povey",
        low_freq=20.0,
        high_freq=7600.0,
        num_filters=MELS,
        snip_edges=False,
        use_energy=False,
    )
