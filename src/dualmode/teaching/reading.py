"""Read text aloud by a synthesiser into a CutSet; reproducible and resumable.

The work is divided into parts of a few minutes of speech. Each part is read by a new process and
written atomically, so finished parts are not read again, and more hours only add parts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.config import TextConfig
from dualmode.data.everyday import draw_everyday
from dualmode.data.left_out import Report
from dualmode.data.manifests import CUTS, REPORT, write_cuts
from dualmode.data.parallel import map_in_processes
from dualmode.data.phrases import Random, draw_phrase, spoken, transcript
from dualmode.data.render import Utterance, in_a_room, write_flac
from dualmode.data.synth import cut_of
from dualmode.errors import DataError, TextError
from dualmode.teaching.claims import claim_folder
from dualmode.teaching.voices import Manner, Synthesiser, open_voices
from dualmode.text import normalize
from dualmode.whole_files import replace_text

LANGUAGES = {"quickstart": draw_phrase, "talk": draw_everyday}

_PART_SECONDS = 120.0
_SILENCE_S = (0.05, 0.4)  # range of the silence before and after the words
_FEWEST_WORDS = 4  # shorter phrases are joined to utterances of this length, most of the time
_SHORT_ALONE = 0.3
_LETTERS_A_SECOND = (1.5, 30.0)  # outside this range, synthesis has failed
_SUMMARY = "read.json"
_EDITION = 1  # increased when languages or voices change, since old and new parts must not mix


@dataclass(frozen=True)
class Sentence:
    """A text to read, and its transcript."""

    spoken: str
    text: str


@dataclass(frozen=True)
class _Part:
    number: int
    folder: Path
    source: str | tuple[Sentence, ...]  # a language's name, or sentences to draw from
    voices: str
    blend: bool
    seed: int
    seconds: float


def read(
    source: str | Path,
    out: str | Path,
    *,
    hours: float,
    voices: str,
    blend: bool = False,
    seed: int = 1,
    jobs: int | None = None,
) -> Report:
    """Read ``hours`` of speech into ``out/cuts.jsonl.gz`` and FLAC files of 16 kHz.

    Args:
        source: a file of sentences, one per line, that are drawn at random; or ``quickstart`` or
            ``talk``, languages that generate sentences.
        out: folder to write.
        hours: duration of the speech.
        voices: ``espeak`` or ``kokoro:DIR``; see :func:`open_voices`.
        blend: blend two of Kokoro's voices for each sentence.
        seed: random seed; the same seed gives the same corpus.
        jobs: number of processes (default: one per core).

    Raises:
        DataError: text or voices are missing, or ``out`` was read with other settings.
    """
    if not hours > 0:
        raise DataError(f"--hours must be positive, not {hours:g}")
    if blend and not voices.startswith("kokoro:"):
        raise DataError("only Kokoro's voices can be blended: --voices kokoro:DIR")
    open_voices(voices, blend=blend)
    out = Path(out).resolve()
    report = Report(str(source))
    sentences = _sentences(source, report)
    settings = {"source": str(source), "voices": voices.partition(":")[0], "blend": blend}
    claim_folder(out, _SUMMARY, {**settings, "seed": seed, "edition": _EDITION})
    parts = _parts(sentences, out, hours, voices, blend, seed)
    waiting = [part for part in parts if not _table(part).is_file()]
    for _ in map_in_processes(read_part, waiting, title="Reading aloud", jobs=jobs, fresh=True):
        pass
    cuts = []
    for part in parts:
        for line in _table(part).read_text(encoding="utf-8").splitlines():
            utterance = _from_json(json.loads(line), part.folder)
            cuts.append(cut_of(utterance, "read"))
            report.keep(utterance.samples / SAMPLE_RATE_HZ)
    report.write(out / REPORT)
    if not cuts:
        raise DataError(f"{source}: no sentence could be read aloud; {out / REPORT} says why")
    write_cuts(cuts, out / CUTS)
    return report


def read_part(part: _Part, synthesiser: Synthesiser | None = None) -> None:
    """Read a part in a new process, and write its table when it is complete."""
    voices = synthesiser or open_voices(part.voices, blend=part.blend)
    part.folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    seconds, tries = 0.0, 0
    while seconds < part.seconds:
        rng = np.random.default_rng((part.seed, part.number, tries))
        sentence, manner = draw_sentence(part.source, rng), voices.draw(rng)
        tries += 1
        utterance = _record(voices, sentence, manner, part, tries, rng)
        if utterance is None:
            if tries > 20 and not lines:
                raise DataError(f"{part.voices}: these voices fail on every text; try another one")
            continue
        seconds += utterance.samples / SAMPLE_RATE_HZ
        lines.append(json.dumps(_to_json(utterance)) + "\n")
    replace_text(_table(part), "".join(lines))


def draw_sentence(source: str | Sequence[Sentence], rng: Random) -> Sentence:
    """Draw one of the sentences, or generate one, which may join several short phrases."""
    if not isinstance(source, str):
        return source[int(rng.integers(len(source)))]
    phrases = [LANGUAGES[source](rng)]
    while len(" ".join(phrases).split()) < _FEWEST_WORDS and rng.random() > _SHORT_ALONE:
        phrases.append(LANGUAGES[source](rng))
    said = ". ".join(spoken(phrase) for phrase in phrases)
    text = normalize(" ".join(transcript(phrase) for phrase in phrases), TextConfig())
    return Sentence(said, text)


def _record(
    voices: Synthesiser, sentence: Sentence, manner: Manner, part: _Part, number: int, rng: Random
) -> Utterance | None:
    """Read and store an utterance; None if synthesis has failed."""
    clean = voices.say(sentence.spoken, manner, rng)
    letters = len(sentence.text.replace(" ", ""))
    slowest, fastest = _LETTERS_A_SECOND
    if not len(clean) or not np.isfinite(clean).all() or not np.abs(clean).max() > 0:
        return None
    if not slowest <= letters * SAMPLE_RATE_HZ / len(clean) <= fastest:
        return None
    lead_s, tail_s = rng.uniform(*_SILENCE_S, size=2).tolist()
    samples = in_a_room(clean, lead_s, tail_s, rng)
    name = f"read{part.seed}-{part.number:05d}-{number:03d}"
    path = part.folder / f"{name}.flac"
    write_flac(path, samples)
    return Utterance(name, path, manner.speaker, len(samples), sentence.text, ())


def _sentences(source: str | Path, report: Report) -> str | tuple[Sentence, ...]:
    if str(source) in LANGUAGES:
        return str(source)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path}: no such text; give a file, or {' or '.join(LANGUAGES)}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error})") from None
    sentences = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = normalize(line, TextConfig(digits="spell"))
        except TextError as error:
            report.leave_out(f"line {number}", str(path), "text", str(error))
            continue
        # Punctuation gives pauses, but digits must be spoken as they are spelled out.
        digits = any(character.isdecimal() for character in line)
        sentences.append(Sentence(text if digits else " ".join(line.split()), text))
    if not sentences:
        raise DataError(f"{path}: no sentence in it can be read; write one per line")
    return tuple(sentences)


def _parts(
    source: str | tuple[Sentence, ...], out: Path, hours: float, voices: str, blend: bool, seed: int
) -> list[_Part]:
    seconds = min(_PART_SECONDS, hours * 3600)
    return [
        _Part(number, out / "audio" / f"{number:05d}", source, voices, blend, seed, seconds)
        for number in range(ceil(hours * 3600 / _PART_SECONDS))
    ]


def _table(part: _Part) -> Path:
    return part.folder / "utterances.jsonl"


def _to_json(utterance: Utterance) -> dict[str, object]:
    return {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "samples": utterance.samples,
        "text": utterance.text,
    }


def _from_json(record: dict[str, object], folder: Path) -> Utterance:
    name = str(record["id"])
    samples = int(str(record["samples"]))
    speaker, text = str(record["speaker"]), str(record["text"])
    return Utterance(name, folder / f"{name}.flac", speaker, samples, text, ())
