"""Samples of cuts, whatever their channels, rates and offsets in their recordings."""

from __future__ import annotations

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from dualmode.audio import SAMPLE_RATE_HZ, Samples, to_mono_16khz
from dualmode.data.usable import source_of
from dualmode.errors import AudioError, DataError

_NOISE_SECONDS = 3600.0  # of noise held in memory: 230 MB


def load_noise(cuts: CutSet, seed: int) -> list[Samples]:
    """Read noises as 16 kHz samples: all of them, or an hour's worth drawn by ``seed``.

    Raises:
        DataError: no noise in the CutSet. AudioError: a file that cannot be read.
    """
    cuts = cuts.to_eager()
    noises, seconds = [], 0.0
    for index in np.random.default_rng(seed).permutation(len(cuts)):
        noise = load_samples(cuts[int(index)])
        noises.append(noise)
        seconds += len(noise) / SAMPLE_RATE_HZ
        if seconds > _NOISE_SECONDS:
            break
    if not noises:
        raise DataError("the noise CutSet is empty: give another, or none")
    return noises


def load_samples(cut: Cut) -> Samples:
    """A cut's audio: (S,) at 16 kHz, channels averaged.

    Raises:
        AudioError: it cannot be read; the message names the cut and the file.
    """
    try:
        samples = cut.load_audio()
    # Lhotse's backends raise whatever their libraries raise.
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AudioError(
            f"{cut.id} ({source_of(cut)}) cannot be read: {first}; prepare the corpus again"
        ) from None
    return to_mono_16khz(np.asarray(samples).T, int(cut.sampling_rate))
