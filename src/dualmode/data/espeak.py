"""eSpeak NG, from the library that the PyPI wheel ``espeakng-loader`` ships, through ctypes.

eSpeak NG carries state from one utterance to the next (pitch flutter, breath noise), so its
output is reproducible only for the same sequence of utterances in a fresh process.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualmode.data.phones import SILENCE
from dualmode.errors import DataError

# Values of speak_lib.h, eSpeak NG 1.52.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 1, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_POSITION_IN_CHARACTERS = 1
_TEXT_IS_UTF8 = 1
_PHONEMES_AS_IPA = 2
_LIST_ENDS, _WORD, _PHONEME = 0, 1, 7
_MARKS = "',%=_:;|"  # stress, length and pauses in the name of a phone
_LONGEST_DATA_PATH = 120  # the library's path buffer has 160 bytes, file names included


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Speech:
    """Synthesised speech.

    Attributes:
        samples: (S,) int16.
        sample_rate_hz: 22050 for every voice of this release.
        word_starts: index of the first sample of each word.
        phones: name, without stress and length, and first sample of each phone; ``SIL`` in pauses.
    """

    samples: npt.NDArray[np.int16]
    sample_rate_hz: int
    word_starts: tuple[int, ...]
    phones: tuple[tuple[str, int], ...] = ()


class Espeak:
    """A synthesiser. The library's state is global: create only one per process."""

    def __init__(self) -> None:
        self._library, data = _load()
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._starts: dict[int, int] = {}
        self._phones: list[tuple[str, int]] = []
        # ctypes frees a callback that is not referenced.
        self._callback = _Callback(self._collect)
        if len(data.encode()) > _LONGEST_DATA_PATH:
            self._link = tempfile.TemporaryDirectory(prefix="espeak-")
            (Path(self._link.name) / "data").symlink_to(data, target_is_directory=True)
            data = str(Path(self._link.name) / "data")
        options = _PHONEME_EVENTS | _DO_NOT_EXIT
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), options)
        if rate <= 0:
            raise DataError(
                f"eSpeak NG does not start with its data in {data}: reinstall the wheel"
            )
        self.sample_rate_hz = int(rate)
        self._library.espeak_SetSynthCallback(self._callback)
        # The library has just seeded its noise generator from the clock.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))

    def set_voice(self, name: str) -> None:
        """Choose a voice such as ``en-us`` or ``en-gb-scotland+f2``.

        Raises:
            DataError: this eSpeak NG has no such voice.
        """
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise DataError(f"eSpeak NG has no voice {name!r}")

    def say(self, text: str, *, words_per_minute: int, pitch: int, pitch_range: int) -> Speech:
        """Synthesise words separated by single spaces; pitch and its range are 0 to 99."""
        self._pieces.clear()
        self._starts.clear()
        self._phones.clear()
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(
            encoded, len(encoded), 0, _POSITION_IN_CHARACTERS, 0, _TEXT_IS_UTF8, None, None
        )
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        starts = _starts_of(text.split(" "), self._starts)
        return Speech(samples, self.sample_rate_hz, starts, tuple(self._phones))

    def phonemes(self, text: str) -> str:
        """Transcribe a text to IPA with the current voice."""
        pointer = ctypes.c_char_p(text.encode())
        parts = []
        while pointer.value:
            part = self._library.espeak_TextToPhonemes(
                ctypes.byref(pointer), _TEXT_IS_UTF8, _PHONEMES_AS_IPA
            )
            parts.append(part.decode())
        return " ".join(parts)

    def _collect(self, samples: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:  # type: ignore[type-arg]
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _LIST_ENDS:
            event = events[index]
            if event.type == _WORD:
                self._starts.setdefault(event.text_position - 1, event.sample)
            elif event.type == _PHONEME:
                name = event.id.string.decode("ascii", "replace").strip(_MARKS)
                self._phones.append((name or SILENCE, event.sample))
            index += 1
        return 0


def _starts_of(words: Sequence[str], events: dict[int, int]) -> tuple[int, ...]:
    """Start of each word, from events that identify words by their position in the text.

    eSpeak NG may speak several words as one unit; they then share one start.
    """
    starts, position, latest = [], 0, 0
    for word in words:
        latest = max(latest, events.get(position, latest))
        starts.append(latest)
        position += len(word) + 1
    return tuple(starts)


def _load() -> tuple[ctypes.CDLL, str]:
    try:
        import espeakng_loader
    except ImportError:
        raise DataError(
            "the quickstart corpus needs eSpeak NG: pip install espeakng-loader"
        ) from None
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    return library, str(espeakng_loader.get_data_path())
