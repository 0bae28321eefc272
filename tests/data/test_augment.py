"""Disturbances do what they are named after, and no more."""

import numpy as np
import pytest

from dualmode.config import DataConfig
from dualmode.data.augment import (
    add_noise,
    append_silence,
    change_gain,
    draw_noise,
    draw_tails_s,
    join,
    mask_mels,
    perturb_speed,
    reverberate,
    telephone,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1, 0.95])
def test_speed_changes_length_and_pitch(speed: float) -> None:
    time_s = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 500 * time_s).astype(np.float32)
    fast = perturb_speed(tone, speed)
    assert fast.dtype == np.float32
    assert len(fast) == pytest.approx(16000 / speed, abs=1)
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast))))
    assert spectrum.argmax() * 16000 / len(fast) == pytest.approx(500 * speed, abs=2)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_is_added_at_its_level(snr_db: float) -> None:
    speech = rng(1).normal(0, 0.2, 16000).astype(np.float32)
    noise = rng(2).normal(0, 0.01, 16000).astype(np.float32)
    added = add_noise(speech, noise, snr_db) - speech
    measured = 10 * np.log10(np.mean(speech**2) / np.mean(added**2))
    assert measured == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("silent", ["speech", "noise", "nothing"])
def test_silence_stays_as_it_is(silent: str) -> None:
    loud = rng().normal(0, 0.1, 1000).astype(np.float32)
    nothing = np.zeros(1000, np.float32)
    if silent == "nothing":
        assert len(add_noise(nothing[:0], nothing[:0], 10)) == 0
    elif silent == "speech":
        assert np.array_equal(add_noise(nothing, loud, 10), nothing)
    else:
        assert np.array_equal(add_noise(loud, nothing, 10), loud)


def test_noise_is_cut_or_repeated_to_length() -> None:
    noise = np.arange(100, dtype=np.float32)
    starts = set()
    for seed in range(30):
        stretch = draw_noise([noise], 40, rng(seed))
        assert np.array_equal(np.diff(stretch), np.ones(39))
        starts.add(float(stretch[0]))
    assert len(starts) > 10
    assert np.array_equal(draw_noise([noise], 250, rng()), np.resize(noise, 250))


def test_masks_hold_the_mean_and_leave_the_rest() -> None:
    mels = rng(3).normal(0, 1, (200, 80)).astype(np.float32)
    before = mels.copy()
    masked = mask_mels(mels, DataConfig(), rng(4))
    changed = masked != mels
    assert np.array_equal(mels, before)
    assert changed.any()
    assert np.allclose(masked[changed], np.broadcast_to(mels.mean(axis=0), mels.shape)[changed])
    rows, columns = changed.all(axis=1), changed.all(axis=0)
    assert not changed[~rows][:, ~columns].any()


def test_masks_keep_to_their_widths() -> None:
    mels = rng(3).normal(0, 1, (50, 80)).astype(np.float32)
    data = DataConfig(time_masks=1, time_mask_frames=40, frequency_masks=0)
    widths = [int((mask_mels(mels, data, rng(s)) != mels).any(axis=1).sum()) for s in range(200)]
    # A fifth of 50 mel frames, although the recipe would allow 40.
    assert max(widths) == 10
    assert min(widths) == 0


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_next_to_nothing_can_be_masked(frames: int) -> None:
    mels = np.ones((frames, 80), np.float32)
    assert np.array_equal(mask_mels(mels, DataConfig(), rng()), mels)


def test_tails_are_silent_and_cost_no_sample() -> None:
    samples = np.ones(1600, np.float32)
    rng = np.random.default_rng(0)
    tails = [append_silence(samples, 0.25, rng) for _ in range(200)]
    assert all((heard[:1600] == 1).all() and len(heard) == 1600 + 4000 for heard in tails)
    assert all(np.abs(heard[1600:]).max() < 0.01 for heard in tails)
    assert 60 < sum(not heard[1600:].any() for heard in tails) < 140
    assert append_silence(samples, 0.0, rng) is samples


def test_half_of_the_utterances_have_a_tail_and_short_ones_are_frequent() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array(draw_tails_s(2.0, 1000, rng))
    assert 0.4 < np.mean(drawn == 0) < 0.6
    assert drawn.max() <= 2.0
    assert np.median(drawn[drawn > 0]) < 0.7
    assert not any(draw_tails_s(0.0, 10, rng))


def test_joined_samples_keep_their_order_and_a_pause() -> None:
    one, two = np.full(800, 0.5, np.float32), np.full(400, -0.5, np.float32)
    joined = join([one, two, one], 0.1, np.random.default_rng(0))
    assert len(joined) == 2000 + 2 * 1600
    assert joined.dtype == np.float32
    assert (joined[:800] == 0.5).all()
    assert (joined[2400:2800] == -0.5).all()
    assert np.abs(joined[800:2400]).max() < 0.01
    assert np.array_equal(join([one], 0.1, np.random.default_rng(0)), one)


def speechlike(seconds: float = 2.0) -> np.ndarray:
    """Bursts of noise between silences."""
    samples = rng(7).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    samples[8000:16000] = 0
    return samples


def test_rooms_fill_pauses_and_keep_level_and_length() -> None:
    dry = speechlike()
    wet = reverberate(dry, rng(2))
    assert wet.dtype == np.float32
    assert len(wet) == len(dry)
    assert np.mean(wet**2) == pytest.approx(np.mean(dry**2), rel=1e-3)
    assert 0 < np.mean(wet[8000:12000] ** 2) < np.mean(wet[:8000] ** 2)
    assert not np.array_equal(wet, reverberate(dry, rng(3)))
    nothing = np.zeros(0, np.float32)
    assert len(reverberate(nothing, rng())) == 0


@pytest.mark.parametrize("seed", range(4))
def test_telephones_pass_their_band_only(seed: int) -> None:
    heard = telephone(speechlike(), rng(seed))
    assert heard.dtype == np.float32
    power = np.abs(np.fft.rfft(heard)) ** 2
    hz = np.linspace(0, 8000, len(power))
    inside = power[(hz > 500) & (hz < 3000)].mean()
    assert power[hz > 4200].mean() < 0.01 * inside
    assert power[hz < 10].mean() < 0.1 * inside


def test_gain_is_in_decibels_and_clips() -> None:
    samples = np.array([0.1, -0.5], np.float32)
    assert change_gain(samples, 20.0).tolist() == [1.0, -1.0]
    assert change_gain(samples, -20.0) == pytest.approx([0.01, -0.05])
