"""Mel frames of a stream equal those of the whole, however the stream is cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.features import MELS, Framing, OnlineFbank, fbank, mel_frames

NOISE = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 30000),
    cuts=st.lists(st.integers(0, 30000), max_size=60),
)
def test_stream_equals_whole(length: int, cuts: list[int]) -> None:
    samples = NOISE[:length]
    online = OnlineFbank()
    pieces = np.split(samples, sorted(min(cut, length) for cut in cuts))
    streamed = np.concatenate([*map(online.push, pieces), online.finish()])
    assert np.array_equal(streamed, fbank(samples))


def test_a_stream_holds_back_only_what_may_still_change() -> None:
    online = OnlineFbank()
    early = online.push(NOISE[:16000])
    assert len(early) >= mel_frames(16000) - 2
    assert np.array_equal(early, fbank(NOISE)[: len(early)])


@pytest.mark.parametrize("samples", [0, 1, 79, 80, 81, 160, 239, 240, 399, 400, 800, 16000])
def test_lengths_are_defined_down_to_nothing(samples: int) -> None:
    mels = fbank(NOISE[:samples])
    assert mels.shape == (mel_frames(samples), MELS)
    assert mels.dtype == np.float32
    assert np.isfinite(mels).all()
    assert Framing(40).frames(len(mels)) == max(0, (len(mels) - 7) // 4 + 1)
    assert Framing(80).frames(len(mels)) == max(0, (len(mels) - 15) // 8 + 1)


def test_a_twentieth_of_a_second_has_no_encoder_frame() -> None:
    assert Framing(40).frames(mel_frames(800)) == 0
    assert Framing(80).frames(mel_frames(1600)) == 0


@pytest.mark.parametrize("frame_ms", [40, 80])
@given(frames=st.integers(1, 500))
def test_frames_read_no_more_than_they_need(frame_ms: int, frames: int) -> None:
    framing = Framing(frame_ms)
    read = framing.mels_read(frames)
    assert framing.frames(read) == frames
    assert framing.frames(read - 1) == frames - 1
    counts = torch.tensor([read, read - 1, 0, 3])
    assert framing.frame_counts(counts).tolist() == [framing.frames(n) for n in counts.tolist()]
    assert framing.stride_samples * 1000 == frame_ms * 16000


def test_other_frame_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="40 or 80 ms, not 60"):
        Framing(60)


def test_silence_has_the_floor_of_the_logarithm() -> None:
    assert np.allclose(fbank(np.zeros(1600, np.float32)), np.log(np.finfo(np.float32).eps))


def test_loudness_shifts_and_pitch_moves_the_peak() -> None:
    time_s = np.arange(16000) / 16000
    peaks = []
    for hertz in (200, 1000, 4000):
        tone = (0.1 * np.sin(2 * np.pi * hertz * time_s)).astype(np.float32)
        mels, louder = fbank(tone), fbank(2 * tone)
        peaks.append(int(mels[50].argmax()))
        assert louder[50].max() - mels[50].max() == pytest.approx(2 * np.log(2), abs=1e-3)
    edges = 1127 * np.log1p(np.array([20, 7600]) / 700)
    expected = (1127 * np.log1p(np.array([200, 1000, 4000]) / 700) - edges[0]) / np.ptp(edges) * 81
    assert np.abs(np.array(peaks) - (expected - 1)).max() < 1.5


def test_a_finished_stream_takes_no_more() -> None:
    online = OnlineFbank()
    online.push(NOISE[:1000])
    online.finish()
    assert online.finish().shape == (0, MELS)
    with pytest.raises(ValueError, match="finished"):
        online.push(NOISE[:10])


def test_channels_are_not_taken_for_samples() -> None:
    with pytest.raises(ValueError, match="one channel"):
        OnlineFbank().push(np.zeros((2, 100), np.float32))
