"""Sound from WebM and MP4 files, which browsers and phones record, decoded by FFmpeg through PyAV.

Uploads are not trusted, so FFmpeg neither guesses formats, some of which open other files, nor
opens anything by name, and only the usual codecs of such recordings are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dualmode.audio import Samples, StreamResampler, stream_audio
from dualmode.errors import AudioError

DEMUXERS = {".webm": "matroska", ".mkv": "matroska", ".m4a": "mp4", ".mp4": "mp4"}
_CODECS = {"opus", "libopus", "vorbis", "libvorbis", "aac", "mp3", "mp3float", "flac", "alac"}
_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 8000, 192_000
_MOST_CHANNELS = 8


def stream_upload(path: Path, seconds: float = 30.0) -> Iterator[Samples]:
    """Read a sound file in pieces of about ``seconds``, at 16 kHz; memory does not grow with its
    length.

    Raises:
        AudioError: the file cannot be read, or the package av is missing. A WebM file that has been
            cut off is read to its last complete block.
    """
    if path.suffix not in DEMUXERS:
        return stream_audio(path, seconds)
    return _decoded(path, seconds)


def _decoded(path: Path, seconds: float) -> Iterator[Samples]:
    try:
        import av
    except ModuleNotFoundError:
        raise AudioError(
            f"{path}: WebM and MP4 need the package av: pip install 'dualmode[media]', or send "
            "WAV, FLAC, MP3, Ogg or Opus"
        ) from None
    found = False
    try:
        with path.open("rb") as file, av.open(file, format=DEMUXERS[path.suffix]) as container:
            for block in _blocks(path, container, seconds):
                found = True
                yield block
    # PyAV raises Python's own errors, besides those of FFmpeg, for damaged headers.
    except (av.FFmpegError, OSError, ValueError, LookupError, ArithmeticError) as error:
        raise AudioError(f"{path}: not audio that can be read ({error})") from None
    if not found:
        raise AudioError(f"{path}: the file has no samples")


def _blocks(path: Path, container: Any, seconds: float) -> Iterator[Samples]:
    from av.audio.resampler import AudioResampler

    if not container.streams.audio:
        raise AudioError(f"{path}: the file has no sound")
    stream = container.streams.audio[0]
    codec, rate_hz = stream.codec_context.name, stream.codec_context.sample_rate
    if codec not in _CODECS:
        raise AudioError(f"{path}: the codec {codec} is not supported")
    channels = stream.codec_context.channels
    if not (_LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ and 1 <= channels <= _MOST_CHANNELS):
        raise AudioError(f"{path}: {channels} channels at {rate_hz} Hz are not supported")
    mixed = AudioResampler(format="flt", layout="mono", rate=rate_hz)
    resampler = StreamResampler(rate_hz)
    held: list[Samples] = []
    for frame in container.decode(stream):
        for part in mixed.resample(frame):
            samples = part.to_ndarray()[0]
            if not np.isfinite(samples).all():
                raise AudioError(f"{path}: samples are not finite")
            held.append(samples)
        if sum(map(len, held)) >= seconds * rate_hz:
            yield resampler.push(np.concatenate(held))
            held.clear()
    held += [part.to_ndarray()[0] for part in mixed.resample(None)]
    if held:
        yield resampler.push(np.concatenate(held))
        yield resampler.finish()
