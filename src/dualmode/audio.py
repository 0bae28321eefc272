"""Reads sound files as mono float32 samples at 16 kHz, and detects truncated or damaged files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from math import ceil, gcd
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import firwin, resample_poly

from dualmode.errors import AudioError

SAMPLE_RATE_HZ = 16000
SOUND_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".sph")
)
"""Names of sound files in a folder end in one of these."""

Samples = npt.NDArray[np.float32]

_CONVERT = "convert it, for example with: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav"
_REPLACE = "copy or download it again, or leave it out"
# A writer that cannot seek back leaves a placeholder near one of these as the chunk's length.
_UNKNOWN_LENGTHS = (0x7FFF0000, 0xFFFF0000)
_MP3_SLACK = 1152  # encoders and decoders of MP3 disagree on padding by one MPEG frame
_OGG_LONGEST_PAGE = 27 + 255 + 255 * 255
_OGG_LAST_PAGE_FLAG = 0x04
_FILTER_ZEROS = 10  # half length of the resampling filter, in samples of the slower rate


def read_audio(path: str | Path) -> Samples:
    """Read a whole file as (S,) float32 samples at 16 kHz, nominally in [-1, 1].

    Channels are averaged.

    Raises:
        AudioError: the file is missing, empty, truncated, not audio, or contains NaN or infinity.
    """
    samples, sample_rate_hz = decode(path)
    return to_mono_16khz(samples, sample_rate_hz)


def decode(path: str | Path) -> tuple[Samples, int]:
    """Read a whole file without conversion.

    Returns:
        Samples (S, channels) in float32, and their sample rate in Hz.

    Raises:
        AudioError: as for ``read_audio``.
    """
    with _open(path) as file:
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _damaged(path, str(error)) from None
        _check(path, file, samples, len(samples))
        return samples, int(file.samplerate)


def stream_audio(path: str | Path, seconds: float = 30.0) -> Iterator[Samples]:
    """Read a file in pieces of about ``seconds``; their concatenation equals ``read_audio(path)``.

    Memory is bounded by the length of a piece, not of the file.

    Raises:
        AudioError: as for ``read_audio``. Damage at the end of a FLAC or MP3 file is detected only
            when the end is reached.
    """
    with _open(path) as file:
        resampler = StreamResampler(file.samplerate)
        for block in _blocks(path, file, seconds):
            if len(piece := resampler.push(block)):
                yield piece
        if len(piece := resampler.finish()):
            yield piece


def to_mono_16khz(samples: npt.NDArray[np.floating], sample_rate_hz: int) -> Samples:
    """Average the channels of (S,) or (S, channels) samples and resample them to 16 kHz.

    Raises:
        AudioError: the rate is not positive, or there are more than two dimensions.
    """
    if sample_rate_hz <= 0:
        raise AudioError(f"the sample rate must be positive, not {sample_rate_hz} Hz")
    if samples.ndim not in (1, 2):
        raise AudioError(f"samples must be (S,) or (S, channels), not {samples.shape}")
    mono = samples if samples.ndim == 1 else _mono(samples)
    common = gcd(SAMPLE_RATE_HZ, sample_rate_hz)
    return resample(mono, SAMPLE_RATE_HZ // common, sample_rate_hz // common)


class StreamResampler:
    """Resamples a stream to 16 kHz. The concatenated outputs of ``push`` and ``finish`` equal the
    resampled whole.

    Each piece is filtered together with its neighbours. Pieces and margins are whole multiples of
    the interval after which samples of both rates coincide, so that positions do not shift.

    Args:
        sample_rate_hz: sample rate of the input.

    Raises:
        AudioError: the rate is not positive.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        if sample_rate_hz <= 0:
            raise AudioError(f"the sample rate must be positive, not {sample_rate_hz} Hz")
        common = gcd(SAMPLE_RATE_HZ, sample_rate_hz)
        self._up, self._down = SAMPLE_RATE_HZ // common, sample_rate_hz // common
        reach = ceil(_FILTER_ZEROS * max(self._up, self._down) / self._up) + 1
        self._margin = self._down * ceil(reach / self._down)
        self._buffer: Samples = np.zeros(0, np.float32)
        self._left = 0  # samples of the buffer that have already been output

    def push(self, samples: npt.NDArray[np.floating]) -> Samples:
        """Push samples (S,), and return the samples at 16 kHz that are final."""
        if self._up == self._down:
            return np.ascontiguousarray(samples, dtype=np.float32)
        self._buffer = np.concatenate([self._buffer, samples.astype(np.float32, copy=False)])
        centre = (len(self._buffer) - self._left - self._margin) // self._down * self._down
        if centre <= 0:
            return np.zeros(0, np.float32)
        end = self._left + centre
        piece = resample(self._buffer[: end + self._margin], self._up, self._down)
        piece = piece[self._left * self._up // self._down : end * self._up // self._down]
        kept = min(self._margin, end)
        self._buffer, self._left = self._buffer[end - kept :], kept
        return piece

    def finish(self) -> Samples:
        """Return the last samples."""
        if self._up == self._down:
            return np.zeros(0, np.float32)
        rest = resample(self._buffer, self._up, self._down)
        return rest[self._left * self._up // self._down :]


def duration_s(path: str | Path) -> float:
    """Duration of a file in seconds, by its header; 0 if it cannot be read."""
    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError):
        return 0.0


def check_samples(samples: npt.ArrayLike) -> Samples:
    """Convert samples (S,) to float32 in [-1, 1]; int16 is divided by 32768.

    Raises:
        AudioError: the samples are not one-dimensional, have another type, or are not finite.
    """
    array = np.asarray(samples)
    if array.ndim != 1:
        raise AudioError(
            f"samples must be one row (S,), not {array.shape}: average the channels first"
        )
    if array.dtype == np.int16:
        return (array / np.float32(32768)).astype(np.float32, copy=False)
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"samples must be floats in [-1, 1] or int16, not {array.dtype}")
    if not np.isfinite(array).all():
        raise AudioError("samples contain NaN or infinity: check their source")
    return array.astype(np.float32, copy=False)


def resample(samples: npt.NDArray[np.floating], up: int, down: int) -> Samples:
    """Resample (S,) samples by the ratio up / down, to (ceil(S * up / down),) float32."""
    if up == down or not len(samples):
        return np.ascontiguousarray(samples, dtype=np.float32)
    window = _low_pass(up, down)
    resampled = resample_poly(samples.astype(np.float32, copy=False), up, down, window=window)
    return np.asarray(resampled, dtype=np.float32)


@lru_cache(maxsize=16)
def _low_pass(up: int, down: int) -> Samples:
    slower = max(up, down)
    taps = firwin(2 * _FILTER_ZEROS * slower + 1, 1.0 / slower, window=("kaiser", 5.0))
    return np.asarray(taps, dtype=np.float32)


def _mono(samples: npt.NDArray[np.floating]) -> Samples:
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0], dtype=np.float32)
    return np.asarray(samples.mean(axis=1, dtype=np.float32))


def _open(path: str | Path) -> soundfile.SoundFile:
    """Open a file; its header must state at least one sample, and its end must be present."""
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); {_REPLACE}")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".") or "not recognised"
        raise AudioError(
            f"{path}: not audio that can be read ({reason}). WAV, FLAC, MP3, Ogg and Opus are "
            f"supported; if it is another audio format, {_CONVERT}"
        ) from None
    try:
        _check_end_in_place(path, file)
    except AudioError:
        file.close()
        raise
    return file


def _check_end_in_place(path: Path, file: soundfile.SoundFile) -> None:
    """Detect truncated chunks and Ogg streams, which libsndfile ignores."""
    if file.format == "OGG" and not _ogg_ends(path):
        raise _damaged(path, "its Ogg stream has no end")
    pattern = r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)"
    if chunk := re.search(pattern, file.extra_info, re.MULTILINE):
        promised, present = int(chunk[1]), int(chunk[2])
        unknown = any(base <= promised <= base + 0xFFFF for base in _UNKNOWN_LENGTHS)
        if promised > present and not unknown:
            raise _damaged(
                path, f"its header states {promised} bytes of samples, but there are {present}"
            )


def _ogg_ends(path: Path) -> bool:
    """Whether the last Ogg page is complete and marked as the last (RFC 3533, section 6)."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _OGG_LONGEST_PAGE))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return False
    segments = page[26]
    length = 27 + segments + sum(page[27 : 27 + segments])
    return bool(page[5] & _OGG_LAST_PAGE_FLAG) and len(page) >= length


def _blocks(path: str | Path, file: soundfile.SoundFile, seconds: float) -> Iterator[Samples]:
    size = max(1, round(seconds * file.samplerate))
    total = 0
    while True:
        try:
            block = file.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _damaged(path, str(error)) from None
        total += len(block)
        if len(block) < size:
            _check(path, file, block, total)
            yield _mono(block)
            return
        _check_finite(path, block)
        yield _mono(block)


def _check(path: str | Path, file: soundfile.SoundFile, samples: Samples, total: int) -> None:
    """Raise unless ``total`` equals the header's number and ``samples`` are finite."""
    if not total:
        raise AudioError(f"{path}: the sound file has no samples; {_REPLACE}")
    slack = _MP3_SLACK if file.format == "MP3" else 0
    if total < file.frames - slack:
        raise _damaged(path, f"its header states {file.frames} samples, but {total} can be read")
    _check_finite(path, samples)


def _check_finite(path: str | Path, samples: Samples) -> None:
    if not np.isfinite(samples).all():
        count = int((~np.isfinite(samples)).sum())
        raise AudioError(
            f"{path}: {count} samples are NaN or infinite; write the file again with the program "
            "that made it"
        )


def _damaged(path: str | Path, reason: str) -> AudioError:
    return AudioError(
        f"{path}: truncated or damaged ({reason.rstrip('.')}); copy or download it again, or, if "
        f"it plays elsewhere, {_CONVERT}"
    )
