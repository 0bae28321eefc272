"""Voices of the quickstart corpus, and the synthesis of phrases to FLAC files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from dualmode.audio import SAMPLE_RATE_HZ, Samples, to_mono_16khz
from dualmode.data.espeak import Espeak, Speech
from dualmode.data.phones import SILENCE
from dualmode.data.phrases import Random, draw_phrase, spoken, transcript

_SILENCE_S = (0.1, 0.4)  # range of the silence before and after the words
_PEAK_DB = (-14.0, -1.0)
_NOISE_DB = (-75.0, -50.0)
_AUDIBLE = 0.01  # level relative to the peak at which the last word ends


@dataclass(frozen=True)
class Voice:
    """A speaker: an accent and a variant of eSpeak NG with a pitch (0 to 99) and a speed."""

    name: str
    espeak: str
    pitch: int
    words_per_minute: int


_ACCENTS = ("en-us", "en-gb-x-rp", "en", "en-gb-scotland", "en-029", "en-gb-x-gbclan")
# Variants tuned by users of eSpeak NG. There are many, because synthetic training data lacks
# diversity of voices rather than of sentences.
_VARIANTS = (
    "Alex Alicia Andrea Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Reed "
    "antonio aunty benjamin boris caleb david ed edward grandma grandpa gustave ian iven john "
    "marcelo max michel miguel norbert pablo paul pedro quincy rob robert sandro shelby travis zac"
)

# Variants of test and development voices, which no training voice uses.
VOICES: dict[str, tuple[Voice, ...]] = {
    "train": (
        Voice("anton", "en-us", 45, 165),
        Voice("bella", "en-us+f2", 55, 170),
        Voice("carl", "en-us+m3", 40, 155),
        Voice("dora", "en-us+f4", 50, 185),
        Voice("edgar", "en-us+m7", 50, 175),
        Voice("fiona", "en-gb-scotland+f1", 50, 165),
        Voice("gavin", "en-gb-scotland+m2", 45, 155),
        Voice("harry", "en+m4", 50, 170),
        Voice("irene", "en+f5", 45, 160),
        Voice("james", "en", 40, 180),
        Voice("kate", "en-gb-x-rp+f3", 55, 160),
        Voice("louis", "en-gb-x-rp+m1", 50, 170),
        Voice("marcus", "en-029+m6", 45, 165),
        Voice("nadia", "en-029+f2", 60, 175),
        Voice("oliver", "en-gb-x-gbclan+m5", 50, 165),
        Voice("pippa", "en-gb-x-gbcwmd+f3", 50, 170),
        Voice("quentin", "en-us+Andy", 50, 165),
        Voice("rosa", "en-us+Annie", 50, 165),
        *(
            Voice(
                variant.lower(), f"{_ACCENTS[at % len(_ACCENTS)]}+{variant}", 50, 155 + 5 * (at % 6)
            )
            for at, variant in enumerate(_VARIANTS.split())
        ),
    ),
    "dev": (
        Voice("steph", "en-us+steph", 50, 165),
        Voice("tom", "en-gb-x-rp+Denis", 50, 165),
    ),
    "test": (
        Voice("ursula", "en-us+linda", 50, 165),
        Voice("victor", "en+m8", 50, 170),
        Voice("wendy", "en-gb-x-rp+belinda", 50, 160),
        Voice("xavier", "en-us+adam", 50, 160),
    ),
}


@dataclass(frozen=True)
class Reading:
    """A task for one voice: read into ``folder`` until a number of utterances or seconds is done.

    Attributes:
        seed: seed of phrases, prosody and noise.
        avoid: transcripts that must not be read.
        phrases: phrases to read; None draws phrases without end.
    """

    voice: Voice
    folder: Path
    seed: tuple[int, ...]
    seconds: float
    avoid: frozenset[str] = frozenset()
    phrases: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Utterance:
    """A synthesised file; times are in seconds from its start."""

    id: str
    path: Path
    speaker: str
    samples: int
    text: str
    words: tuple[tuple[str, float, float], ...]  # word, start, duration
    phones: tuple[tuple[str, float, float], ...] = ()  # the same of phones


def read_aloud(reading: Reading) -> list[Utterance]:
    """Synthesise a reading. In a fresh process the samples depend on its seed only."""
    espeak = Espeak()
    espeak.set_voice(reading.voice.espeak)
    rng = np.random.default_rng(reading.seed)
    utterances: list[Utterance] = []
    seconds = 0.0
    for phrase in _phrases(reading, rng):
        name = f"{reading.voice.name}-{len(utterances):05d}"
        utterance = _record(espeak, reading, phrase, name, rng)
        utterances.append(utterance)
        seconds += utterance.samples / SAMPLE_RATE_HZ
        half_of_one = seconds / len(utterances) / 2  # so that the total of all voices is right
        if seconds + half_of_one >= reading.seconds:
            break
    return utterances


def _phrases(reading: Reading, rng: Random) -> Iterator[str]:
    if reading.phrases is not None:
        yield from reading.phrases
        return
    while True:
        phrase = draw_phrase(rng)
        if transcript(phrase) not in reading.avoid:
            yield phrase


def _record(espeak: Espeak, reading: Reading, phrase: str, name: str, rng: Random) -> Utterance:
    voice = reading.voice
    speech = espeak.say(
        spoken(phrase),
        words_per_minute=round(voice.words_per_minute * rng.uniform(0.85, 1.15)),
        pitch=int(np.clip(voice.pitch + rng.integers(-8, 9), 0, 99)),
        pitch_range=int(rng.integers(35, 66)),
    )
    words, end_s = _word_times(phrase, speech)
    lead_s, tail_s = rng.uniform(*_SILENCE_S, size=2).tolist()
    clean = to_mono_16khz(speech.samples.astype(np.float32), speech.sample_rate_hz)
    samples = in_a_room(clean[: round(end_s * SAMPLE_RATE_HZ)], lead_s, tail_s, rng)
    path = reading.folder / f"{name}.flac"
    write_flac(path, samples)
    shifted = tuple((word, start + lead_s, duration) for word, start, duration in words)
    phones = _phone_times(speech, end_s, lead_s, tail_s)
    return Utterance(name, path, voice.name, len(samples), transcript(phrase), shifted, phones)


def to_int16(samples: Samples) -> npt.NDArray[np.int16]:
    """Convert samples in [-1, 1] to 16-bit integers, with clipping."""
    return np.asarray(np.round(np.clip(samples, -1, 1) * 32767), dtype=np.int16)


def write_flac(path: Path, samples: npt.NDArray[np.int16]) -> None:
    """Write (S,) samples at 16 kHz, encoded in memory: soundfile waits for the disk per file."""
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    path.write_bytes(encoded.getvalue())


def _word_times(phrase: str, speech: Speech) -> tuple[list[tuple[str, float, float]], float]:
    """Start and duration of each word in seconds, and the end of the last."""
    level = np.abs(speech.samples.astype(np.int32))
    end = int(np.flatnonzero(level > _AUDIBLE * level.max())[-1]) + 1
    bounds = [min(start, end) for start in speech.word_starts] + [end]
    rate = speech.sample_rate_hz
    words = [
        (word, start / rate, (following - start) / rate)
        for word, start, following in zip(
            transcript(phrase).split(), bounds[:-1], bounds[1:], strict=True
        )
    ]
    return words, end / rate


def _phone_times(
    speech: Speech, end_s: float, lead_s: float, tail_s: float
) -> tuple[tuple[str, float, float], ...]:
    """Start and duration in seconds of each phone of speech that ends at ``end_s``, after
    ``lead_s`` and before ``tail_s`` of silence."""
    starts = [(name, start / speech.sample_rate_hz) for name, start in speech.phones]
    within = [(name, lead_s + start_s) for name, start_s in starts if start_s < end_s]
    everything = [(SILENCE, 0.0), *within, (SILENCE, lead_s + end_s)]
    ends = [start_s for _, start_s in everything[1:]] + [lead_s + end_s + tail_s]
    return tuple(
        (name, start_s, end - start_s)
        for (name, start_s), end in zip(everything, ends, strict=True)
        if end > start_s
    )


def in_a_room(clean: Samples, lead_s: float, tail_s: float, rng: Random) -> npt.NDArray[np.int16]:
    """Add silence before and after the words, set the level, and add faint white noise."""
    pads = (round(lead_s * SAMPLE_RATE_HZ), round(tail_s * SAMPLE_RATE_HZ))
    peak = 10 ** (rng.uniform(*_PEAK_DB) / 20)
    samples = np.pad(clean * (peak / np.abs(clean).max()), pads)
    noise = rng.standard_normal(len(samples), dtype=np.float32)
    samples += noise * 10 ** (rng.uniform(*_NOISE_DB) / 20)
    return to_int16(samples)
