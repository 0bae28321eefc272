"""Log-mel features of a whole utterance or of a stream, computed by kaldi-native-fbank.

The settings are those of sherpa-onnx, so that an exported model receives the same features there:
80 mel bins from 20 to 7600 Hz, Povey windows of 25 ms every 10 ms, no dither, mirrored edges.
"""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from dualmode.audio import SAMPLE_RATE_HZ

MELS = 80
MEL_FRAME_SAMPLES = SAMPLE_RATE_HZ // 100  # 10 ms

Mels = npt.NDArray[np.float32]


def mel_frames(samples: int) -> int:
    """Number of mel frames for ``samples`` samples at 16 kHz."""
    return (samples + MEL_FRAME_SAMPLES // 2) // MEL_FRAME_SAMPLES


def encoder_frames(mels: int) -> int:
    """Number of frames (40 ms) for ``mels`` mel frames; frame j reads mel frames 4j to 4j + 6."""
    return max(0, (mels - 3) // 4)


def fbank(samples: npt.NDArray[np.floating]) -> Mels:
    """Compute the features of a whole utterance: (S,) samples in [-1, 1] at 16 kHz -> (M, 80).

    M is ``mel_frames(S)``; fewer than 80 samples (5 ms) yield no mel frame.
    """
    online = OnlineFbank()
    return np.concatenate([online.push(samples), online.finish()])


class OnlineFbank:
    """Features of a stream; the outputs of ``push`` and ``finish`` join to ``fbank(whole)``."""

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
        """Take (S,) samples and return the (m, 80) mel frames that later samples cannot change.

        Raises:
            ValueError: the samples have more than one dimension, or the stream is finished.
        """
        if self._finished:
            raise ValueError("the stream is finished: start another OnlineFbank")
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
        # Without this the extractor keeps every frame of an hour-long stream.
        self._extractor.pop(count)
        self._returned = ready
        return mels
