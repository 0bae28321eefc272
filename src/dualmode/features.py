"""Log-mel features by kaldi-native-fbank, of a whole utterance or of a stream; frame arithmetic.

The settings equal those of sherpa-onnx: 80 mels from 20 to 7600 Hz, windows of 25 ms every 10 ms
(Povey), no dither, mirrored edges.

This module also defines the relation of samples, mel frames (10 ms) and the encoder's frames (40 or
80 ms): :class:`Framing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from dualmode.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from torch import Tensor

MELS = 80
MEL_FRAME_MS = 10
MEL_FRAME_SAMPLES = SAMPLE_RATE_HZ * MEL_FRAME_MS // 1000

Mels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Framing:
    """How the frames of an encoder lie on mel frames.

    The subsampling is two or three unpadded convolutions of three rows and stride 2. With a stride
    of S mel frames, frame j therefore reads the 2 S - 1 mel frames from S j on.

    Attributes:
        frame_ms: time from one frame to the next, ``model.frame_ms`` of the recipe: 40 or 80.

    Raises:
        ValueError: another frame length.
    """

    frame_ms: int

    def __post_init__(self) -> None:
        if self.frame_ms not in (40, 80):
            raise ValueError(f"a frame lasts 40 or 80 ms, not {self.frame_ms}")

    @property
    def frame_s(self) -> float:
        """Time from one frame to the next, in seconds."""
        return self.frame_ms / 1000

    @property
    def stride_mels(self) -> int:
        """Mel frames from one frame to the next, S."""
        return self.frame_ms // MEL_FRAME_MS

    @property
    def stride_samples(self) -> int:
        """Samples from one frame to the next."""
        return self.stride_mels * MEL_FRAME_SAMPLES

    @property
    def reach_mels(self) -> int:
        """Mel frames that one frame reads."""
        return 2 * self.stride_mels - 1

    @property
    def overlap_mels(self) -> int:
        """Mel frames that two consecutive frames both read."""
        return self.reach_mels - self.stride_mels

    @property
    def shortest_frames(self) -> int:
        """Frames of 40 ms, the shortest, that one frame lasts: 1 or 2."""
        return self.frame_ms // 40

    def frames(self, mels: int) -> int:
        """Number of frames of ``mels`` mel frames."""
        return max(0, (mels - self.overlap_mels) // self.stride_mels)

    def frame_counts(self, mels: Tensor) -> Tensor:
        """:meth:`frames` of each utterance of a batch (B,)."""
        return ((mels - self.overlap_mels) // self.stride_mels).clamp_min(0)

    def mels_read(self, frames: int) -> int:
        """Number of mel frames that ``frames`` consecutive frames read."""
        return self.stride_mels * frames + self.overlap_mels


def mel_frames(samples: int) -> int:
    """Number of mel frames of ``samples`` samples at 16 kHz: one every 10 ms, rounded."""
    return (samples + MEL_FRAME_SAMPLES // 2) // MEL_FRAME_SAMPLES


def fbank(samples: npt.NDArray[np.floating]) -> Mels:
    """Features of a whole utterance: (S,) samples in [-1, 1] at 16 kHz -> (M, 80).

    M is ``mel_frames(S)``; fewer than 80 samples (5 ms) have no mel frame.
    """
    online = OnlineFbank()
    return np.concatenate([online.push(samples), online.finish()])


def fbank_batch(
    audios: Sequence[npt.NDArray[np.floating]],
) -> tuple[Mels, npt.NDArray[np.int64]]:
    """Features of B utterances, padded with zeros: (B, M, 80), and their lengths (B,)."""
    features = [fbank(samples) for samples in audios]
    lengths = np.array([len(mels) for mels in features], dtype=np.int64)
    padded = np.zeros((len(features), int(lengths.max(initial=0)), MELS), np.float32)
    for row, mels in zip(padded, features, strict=True):
        row[: len(mels)] = mels
    return padded, lengths


class OnlineFbank:
    """Features of a stream: the concatenated outputs of ``push`` and ``finish`` equal ``fbank``."""

    def __init__(self) -> None:
        options = knf.FbankOptions()
        options.frame_opts.samp_freq = SAMPLE_RATE_HZ
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = False
        options.mel_opts.num_bins = MELS
        options.mel_opts.low_freq = 20.0
        options.mel_opts.high_freq = -400.0  # below the Nyquist frequency
        self._extractor = knf.OnlineFbank(options)
        self._returned = 0
        self._finished = False

    def push(self, samples: npt.NDArray[np.floating]) -> Mels:
        """Push (S,) samples and return the (m, 80) mel frames that are complete.

        Raises:
            ValueError: samples are not one-dimensional, or ``finish`` was called before.
        """
        if self._finished:
            raise ValueError("the stream is finished: create a new OnlineFbank")
        if samples.ndim != 1:
            raise ValueError(f"push takes (S,) samples of one channel, not {samples.shape}")
        if len(samples):
            mono = np.ascontiguousarray(samples, dtype=np.float32)
            self._extractor.accept_waveform(SAMPLE_RATE_HZ, mono)
        return self._take()

    def finish(self) -> Mels:
        """Return the last (m, 80) mel frames, whose windows extend beyond the end of the stream."""
        if not self._finished:
            self._finished = True
            self._extractor.input_finished()
        return self._take()

    def _take(self) -> Mels:
        ready = self._extractor.num_frames_ready
        count = ready - self._returned
        mels = np.empty((count, MELS), np.float32)
        for index in range(count):
            mels[index] = self._extractor.get_frame(self._returned + index)
        # Without this, the extractor keeps all frames of the stream in memory.
        self._extractor.pop(count)
        self._returned = ready
        return mels
