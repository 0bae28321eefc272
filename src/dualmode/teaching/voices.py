"""Synthesisers behind one interface: eSpeak NG and Kokoro.

A synthesiser draws one of its voices and reads a text with it. To add one, implement
:class:`Synthesiser` and give it a name in :func:`open_voices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dualmode.audio import Samples, to_mono_16khz
from dualmode.data.espeak import Espeak
from dualmode.data.render import VOICES
from dualmode.errors import DataError

Random = np.random.Generator

_SPEEDS = (0.8, 1.25)  # range of factors on a voice's own speed
_MOST_BLENDED = 0.5  # largest weight of the second voice
_PAUSES_S = (0.1, 0.5)  # range of pauses between sentences
_KOKORO_FILES = ("model.onnx", "voices.bin")
# The first letter of a Kokoro voice is the speaker's language: these two are English.
_KOKORO_ENGLISH = {"a": "en-us", "b": "en-gb"}


@dataclass(frozen=True)
class Manner:
    """A voice and its speed.

    Attributes:
        speaker: name of the voice or the blend in the corpus.
        speed: factor on the voice's own speed.
    """

    speaker: str
    speed: float


class Synthesiser(Protocol):
    """Reads text aloud in many voices."""

    def draw(self, rng: Random) -> Manner:
        """Draw a voice and its speed."""

    def say(self, text: str, manner: Manner, rng: Random) -> Samples:
        """Read a text: (S,) float32 samples at 16 kHz, without silence before and after.

        A single capital is read as a letter; a comma is a pause, a full stop a longer one.
        """


class EspeakVoices:
    """The eSpeak NG voices of the quickstart's training set."""

    def __init__(self) -> None:
        self._espeak = Espeak()
        self._voices = {voice.name: voice for voice in VOICES["train"]}

    def draw(self, rng: Random) -> Manner:
        """Draw a voice and a speed."""
        names = list(self._voices)
        return Manner(names[int(rng.integers(len(names)))], _draw_speed(rng))

    def say(self, text: str, manner: Manner, rng: Random) -> Samples:
        """Read by eSpeak NG, whose output depends slightly on what it spoke before."""
        voice = self._voices[manner.speaker]
        self._espeak.set_voice(voice.espeak)
        speech = self._espeak.say(
            text,
            words_per_minute=round(voice.words_per_minute * manner.speed),
            pitch=int(np.clip(voice.pitch + rng.integers(-8, 9), 0, 99)),
            pitch_range=int(rng.integers(35, 66)),
        )
        samples = speech.samples.astype(np.float32) / 32768
        return without_silence(to_mono_16khz(samples, speech.sample_rate_hz))


class KokoroVoices:
    """Kokoro-82M with kokoro-onnx: 54 voices, and blends of two.

    A blend is an English voice with a weight of at least 0.5 and a second voice of any language,
    which gives an accent.

    Args:
        folder: contains ``model.onnx`` and ``voices.bin`` of kokoro-onnx's releases.
        blend: draw blends instead of single English voices.

    Raises:
        DataError: files or the package are missing.
    """

    def __init__(self, folder: Path, *, blend: bool = False) -> None:
        missing = [name for name in _KOKORO_FILES if not (folder / name).is_file()]
        if missing:
            raise DataError(f"{folder}: Kokoro's {' and '.join(missing)} missing")
        self._kokoro = _open_kokoro(folder)
        self._names = sorted(self._kokoro.get_voices())
        self._english = [name for name in self._names if name[0] in _KOKORO_ENGLISH]
        self._blend = blend

    def draw(self, rng: Random) -> Manner:
        """Draw an English voice, or a blend of it with another voice, and a speed."""
        first = self._english[int(rng.integers(len(self._english)))]
        if not self._blend:
            return Manner(first, _draw_speed(rng))
        second = self._names[int(rng.integers(len(self._names)))]
        share = round(100 * rng.uniform(0, _MOST_BLENDED))
        return Manner(f"{first}+{share}%{second}", _draw_speed(rng))

    def say(self, text: str, manner: Manner, rng: Random) -> Samples:
        """Read by Kokoro; the first voice of a blend decides between American and British."""
        samples, rate_hz = self._kokoro.create(
            text,
            self._style(manner.speaker),
            manner.speed,
            _KOKORO_ENGLISH[manner.speaker[0]],
            sentence_pause=float(rng.uniform(*_PAUSES_S)),
        )
        return without_silence(to_mono_16khz(samples.astype(np.float32), rate_hz))

    def _style(self, speaker: str) -> npt.NDArray[np.float32]:
        first, blended, rest = speaker.partition("+")
        style: npt.NDArray[np.float32] = self._kokoro.get_voice_style(first)
        if not blended:
            return style
        percent, _, second = rest.partition("%")
        share = np.float32(int(percent) / 100)
        other: npt.NDArray[np.float32] = self._kokoro.get_voice_style(second)
        return (1 - share) * style + share * other


def open_voices(name: str, *, blend: bool = False) -> Synthesiser:
    """Open the synthesiser ``espeak`` or ``kokoro:DIR``.

    Raises:
        DataError: the synthesiser is unknown, or its files or package are missing.
    """
    kind, _, where = name.partition(":")
    if kind == "espeak" and not where:
        if blend:
            raise DataError("eSpeak NG cannot blend voices: omit --blend, or use kokoro:DIR")
        return EspeakVoices()
    if kind == "kokoro" and where:
        return KokoroVoices(Path(where), blend=blend)
    raise DataError(f"no voices {name!r}: use espeak, or kokoro:DIR with the folder of its files")


def without_silence(samples: Samples, floor: float = 0.01) -> Samples:
    """Trim (S,) samples at both ends to those louder than ``floor`` times the peak."""
    level = np.abs(samples)
    loud = np.flatnonzero(level > floor * level.max()) if len(samples) else level
    return samples[int(loud[0]) : int(loud[-1]) + 1] if len(loud) else samples[:0]


def _draw_speed(rng: Random) -> float:
    return round(float(np.exp(rng.uniform(*np.log(_SPEEDS)))), 3)


def _open_kokoro(folder: Path) -> Any:
    """Kokoro with one thread: one process per core is faster than one process on all cores."""
    try:
        import onnxruntime
        from kokoro_onnx import Kokoro
    except ImportError:
        raise DataError("Kokoro needs kokoro-onnx: pip install 'dualmode[voices]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model, voices = (str(folder / name) for name in _KOKORO_FILES)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Kokoro.from_session(session, voices)
