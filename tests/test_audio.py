"""Sound files come back whole and right, or as an error that names the file and the reason."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dualmode.audio import SAMPLE_RATE_HZ, read_audio, stream_audio, to_mono_16khz
from dualmode.errors import AudioError

FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "flac": {"format": "FLAC"},
    "mp3": {"format": "MP3"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}


def tone(seconds: float, sample_rate_hz: int, hertz: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(
        2 * np.pi * hertz * np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    )


def encoded(samples: np.ndarray, kind: str, sample_rate_hz: int = 16000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, **FORMATS[kind])
    return buffer.getvalue()


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE_HZ / len(samples))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate_hz", [8000, 16000, 48000])
def test_every_format_becomes_mono_at_16_khz(
    tmp_path: Path, kind: str, channels: int, sample_rate_hz: int
) -> None:
    samples = np.stack([tone(1.5, sample_rate_hz)] * channels, axis=1)
    path = tmp_path / f"tone.{kind}"
    path.write_bytes(encoded(samples, kind, sample_rate_hz))
    read = read_audio(path)
    assert read.dtype == np.float32
    assert read.shape == pytest.approx((24000,), abs=20)
    assert loudest_hertz(read) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(read**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("sample_rate_hz", [11025, 22050, 44100, 96000, 16001])
def test_odd_rates_keep_pitch_and_length(tmp_path: Path, sample_rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, sample_rate_hz), sample_rate_hz)
    read = read_audio(tmp_path / "a.wav")
    assert len(read) == pytest.approx(16000, abs=1)
    assert loudest_hertz(read) == pytest.approx(440, abs=1)


def test_channels_are_averaged_and_aliases_removed() -> None:
    left, right = tone(1, 48000, 440), tone(1, 48000, 12000)
    mono = to_mono_16khz(np.stack([left, right], axis=1), 48000)
    expected = tone(1, 16000, 440) / 2
    assert np.abs(mono[800:-800] - expected[800:-800]).max() < 2e-3


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused(tmp_path: Path, kind: str) -> None:
    whole = encoded(np.random.default_rng(0).normal(0, 0.1, 64000), kind)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole)
    assert len(read_audio(path)) == 64000
    for share in np.linspace(0.02, 0.95, 20):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(AudioError, match=r"cut\.\w+: "):
            read_audio(path)
        with pytest.raises(AudioError, match=r"cut\.\w+: "):
            list(stream_audio(path, 0.5))


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36])
def test_wav_written_to_a_pipe_is_whole(tmp_path: Path, length: int) -> None:
    data = bytearray(encoded(tone(1, 16000), "wav"))
    assert data[36:40] == b"data"
    data[40:44] = struct.pack("<I", length)
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read_audio(tmp_path / "a.wav")) == 16000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.wav", b"", "empty"),
        ("text.wav", b"I am not a sound. " * 100, "not audio"),
        ("zeros.mp3", bytes(4096), "not audio"),
        ("noise.opus", np.random.default_rng(1).bytes(5000), "not audio"),
        ("headless.raw", bytes(3200), "not audio"),
        ("bare.wav", encoded(np.zeros(0), "wav"), "no samples"),
    ],
)
def test_what_is_not_audio_is_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=rf"{name}: .*{reason}"):
        read_audio(tmp_path / name)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioError, match="no such file"):
            read_audio(path)
        with pytest.raises(AudioError, match="no such file"):
            next(stream_audio(path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    samples = tone(1, 16000)
    samples[[5, 9000]] = bad
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="2 samples are NaN"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="NaN"):
        list(stream_audio(tmp_path / "a.wav", 0.1))


def test_silence_is_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    assert np.array_equal(read_audio(tmp_path / "a.wav"), np.zeros(1600))


@pytest.mark.parametrize("sample_rate_hz", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.007, 0.25, 1.0, 60.0])
def test_streamed_pieces_join_to_the_whole(
    tmp_path: Path, sample_rate_hz: int, seconds: float
) -> None:
    samples = np.random.default_rng(2).normal(0, 0.1, (int(2.3 * sample_rate_hz), 2))
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, sample_rate_hz, subtype="FLOAT")
    whole, pieces = read_audio(path), list(stream_audio(path, seconds))
    assert np.concatenate(pieces).shape == whole.shape
    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-5
    # A piece holds no more than was asked for and the filter's reach: memory stays bounded.
    assert max(map(len, pieces)) <= seconds * SAMPLE_RATE_HZ + 1000


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(AudioError, match="-1 Hz"):
        to_mono_16khz(np.zeros(10), -1)
    with pytest.raises(AudioError, match="channels"):
        to_mono_16khz(np.zeros((2, 3, 4)), 16000)
