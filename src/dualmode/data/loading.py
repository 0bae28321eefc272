"""Load samples of cuts with any channels, sample rate and offset in their recording.

Manifests may come from an untrusted source, so loading runs no command and opens no connection:
audio is read from local files and from memory only, and only by libsndfile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import numpy as np
from lhotse import AudioSource, CutSet
from lhotse.audio.backend import (
    LibsndfileBackend,
    get_current_audio_backend,
    set_current_audio_backend,
)
from lhotse.cut import Cut

from dualmode.audio import SAMPLE_RATE_HZ, Samples, to_mono_16khz
from dualmode.data.left_out import UNREADABLE, Report
from dualmode.data.usable import source_of
from dualmode.errors import AudioError, DataError

_NOISE_SECONDS = 3600.0  # limit of the noise held in memory: 230 MB
_LOCAL = {"file", "memory"}  # Lhotse also supports "command", run by a shell, and "url"
_NEVER_LOADED = {"supervisions", "features", "custom"}


def load_noise(cuts: CutSet, seed: int, report: Report) -> list[Samples]:
    """Read noises as 16 kHz samples: all of them, or a random hour. Those that cannot be read are
    added to ``report``.

    Raises:
        DataError: none can be read.
    """
    cuts = cuts.to_eager()
    noises, seconds = [], 0.0
    for index in np.random.default_rng(seed).permutation(len(cuts)):
        cut = cuts[int(index)]
        try:
            noise = load_samples(cut)
        except AudioError as error:
            report.leave_out(cut.id, source_of(cut), f"{UNREADABLE} noise", str(error))
            continue
        noises.append(noise)
        seconds += len(noise) / SAMPLE_RATE_HZ
        if seconds > _NOISE_SECONDS:
            break
    if not noises:
        first = f": {report.problems[-1].why}" if report.problems else ""
        raise DataError(f"no noise in the noise CutSet{first}; give another, or none")
    return noises


def load_samples(cut: Cut) -> Samples:
    """Load the audio of a cut: (S,) at 16 kHz, channels averaged.

    Raises:
        AudioError: it cannot be read, or is neither in a local file nor in memory; the message
            names the cut and the file.
    """
    _check_local(cut)
    try:
        with _libsndfile_alone():
            samples = cut.load_audio()
    # Lhotse does not wrap the exceptions of its backends.
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AudioError(
            f"{cut.id} ({source_of(cut)}) cannot be read: {first}; prepare the corpus again"
        ) from None
    mono = to_mono_16khz(np.asarray(samples).T, int(cut.sampling_rate))
    if not np.isfinite(mono).all():
        raise AudioError(
            f"{cut.id} ({source_of(cut)}): NaN or infinity among the samples; prepare the corpus "
            "again"
        )
    return mono


def _check_local(cut: Cut) -> None:
    for kind, source in _sources(cut):
        if kind not in _LOCAL:
            raise AudioError(
                f"{cut.id}: its audio is a {kind} ({str(source)[:80]!r}), and dualmode neither "
                "runs commands nor downloads from a manifest; if you trust it, store the audio in "
                "files first with Lhotse's CutSet.save_audios"
            )


def _sources(part: Any) -> Iterator[tuple[str, Any]]:
    """Kind and location of all audio that loading would read, including mixed tracks and room
    impulse responses in transforms."""
    if isinstance(part, AudioSource):
        yield part.type, part.source
    elif isinstance(part, dict):
        if "source" in part and "type" in part:
            yield str(part["type"]), part["source"]
        for name, inner in part.items():
            if name not in _NEVER_LOADED:
                yield from _sources(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _sources(inner)
    elif is_dataclass(part):
        yield from _sources(vars(part))


@contextmanager
def _libsndfile_alone() -> Iterator[None]:
    """Disable Lhotse's other backends: they start programs, and pass .sph paths to a shell."""
    before = get_current_audio_backend()
    set_current_audio_backend(LibsndfileBackend())
    try:
        yield
    finally:
        set_current_audio_backend(before)
