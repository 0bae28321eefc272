"""Align transcribed utterances with their phones, for training an encoder to classify them.

Results are stored in ``alignments.jsonl``, one line per utterance, so that an interrupted run
resumes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from dualmode.audio import Samples
from dualmode.config import TextConfig
from dualmode.data.left_out import UNREADABLE, Report
from dualmode.data.loading import load_samples
from dualmode.data.manifests import CUTS, REPORT, read_cuts, write_cuts
from dualmode.data.parallel import map_in_processes
from dualmode.data.phones import ALIGNMENT
from dualmode.data.usable import UnusableError, source_of
from dualmode.errors import AudioError, DataError, TextError
from dualmode.teaching.claims import claim_folder
from dualmode.teaching.pronunciations import Pronounce, by_espeak
from dualmode.text import normalize

ALIGNMENTS = "alignments.jsonl"

_SUMMARY = "align.json"
_MEL_FRAME_S = 0.01  # PocketSphinx counts frames of 10 ms
_TEXT = TextConfig(digits="spell")
_AT_ONCE = 256  # utterances between two writes of the results

Times = list[tuple[str, float, float]]
"""Symbol, start and duration in seconds of each phone of an utterance."""


class Aligner(Protocol):
    """Finds the phones of an utterance."""

    def __call__(self, samples: Samples, words: Sequence[str]) -> Times:
        """The phones of (S,) samples at 16 kHz in which ``words`` are spoken, in order.

        Raises:
            UnusableError: a word is unknown, or the words do not fit the samples.
        """


def align(
    source: str | Path,
    out: str | Path,
    *,
    aligner: Callable[[], Aligner] | None = None,
    jobs: int | None = None,
) -> Report:
    """Write the CutSet of ``source`` with phones to ``out/cuts.jsonl.gz``, and a report.

    Every supervision gets ``alignment["phone"]``: Lhotse's items, with times from the start of the
    cut. Audio is not copied. Utterances without text, with a word that the aligner does not know,
    or that do not fit their text are left out.

    Args:
        source: a CutSet, or its folder; one supervision per cut.
        out: folder to write.
        aligner: makes an aligner in each process; importable by name. PocketSphinx by default,
            which knows other words than those of its dictionary if eSpeak NG is installed.
        jobs: number of processes (default: one per core).

    Raises:
        DataError: there is no such CutSet, no utterance can be aligned, PocketSphinx is missing,
            or ``out`` was made from another CutSet.
    """
    out = Path(out).resolve()
    cuts = list(read_cuts(source))
    if aligner is None:
        _open_pocketsphinx()  # fails here if it is not installed, and not in every process
    claim_folder(out, _SUMMARY, {"source": str(Path(source).resolve())})
    known = _read(out / ALIGNMENTS)
    missing = [cut for cut in cuts if cut.id not in known]
    found = map_in_processes(
        partial(_aligned, aligner or _pocketsphinx), missing, title="Aligning", jobs=jobs
    )
    known |= _store(out / ALIGNMENTS, missing, found)
    report, kept = Report(str(source)), []
    for cut in cuts:
        result = known[cut.id]
        if isinstance(result, str):
            report.leave_out(cut.id, source_of(cut), *result.split(": ", 1))
            continue
        kept.append(_with_phones(cut, result))
        report.keep(cut.duration)
    report.write(out / REPORT)
    if not kept:
        why = report.problems[0].why if report.problems else "the CutSet is empty"
        raise DataError(f"{source}: no utterance could be aligned; the first: {why}")
    write_cuts(kept, out / CUTS)
    return report


def _aligned(aligner: Callable[[], Aligner], cut: Cut) -> Times | str:
    """The phones of a cut; or the kind of problem and, after a colon, why there are none."""
    try:
        if not cut.supervisions or not (cut.supervisions[0].text or "").strip():
            raise UnusableError("no transcript", "no text: transcribe it, or leave it out")
        words = re.findall(r"[a-z']+", normalize(cut.supervisions[0].text, _TEXT))
        return _opened(aligner)(load_samples(cut), words)
    except UnusableError as error:
        return f"{error.kind}: {error.why}"
    except TextError as error:
        return f"text: {error}"
    except AudioError as error:
        return f"{UNREADABLE}: {error}"


@lru_cache(maxsize=1)
def _opened(aligner: Callable[[], Aligner]) -> Aligner:
    """One aligner in each process, since a dictionary takes time to load."""
    return aligner()


class _PocketSphinx:
    """PocketSphinx with the US English model and the CMU dictionary of its wheel. Other words are
    pronounced by ``pronounce``, if there is one."""

    def __init__(self, pronounce: Pronounce | None) -> None:
        self._decoder = _open_pocketsphinx()
        self._pronounce = pronounce

    def __call__(self, samples: Samples, words: Sequence[str]) -> Times:
        decoder = self._decoder
        if not words:
            raise UnusableError("no words", "the text has no words")
        for word in words:
            if decoder.lookup_word(word) is None:
                self._learn(word)
        sound = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            # The first pass finds the words, the second their phones.
            decoder.set_align_text(" ".join(words))
            self._hear(sound)
            decoder.set_alignment()
            self._hear(sound)
            found = [phone for word in decoder.get_alignment() for phone in word]
        except RuntimeError:
            raise UnusableError("no alignment", "the text does not fit the audio") from None
        return [
            (phone.name, phone.start * _MEL_FRAME_S, phone.duration * _MEL_FRAME_S)
            for phone in found
        ]

    def _learn(self, word: str) -> None:
        phones = self._pronounce(word) if self._pronounce else None
        if phones is None:
            raise UnusableError("unknown word", f"{word} is not in the dictionary")
        self._decoder.add_word(word, " ".join(phones), False)

    def _hear(self, sound: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(sound, full_utt=True)
        self._decoder.end_utt()


def _pocketsphinx() -> Aligner:
    return _PocketSphinx(by_espeak())


def _open_pocketsphinx() -> Any:
    try:
        from pocketsphinx import Decoder
    except ImportError:
        raise DataError(
            "dualmode align needs the extra align: pip install 'dualmode[align]'"
        ) from None
    # With the passes that are switched off, PocketSphinx finds no phones for a third of the
    # utterances.
    passes = {"fwdflat": False, "bestpath": False, "backtrace": False}
    return Decoder(samprate=16000, lm=None, loglevel="FATAL", topn=2, **passes)


def _store(path: Path, cuts: Sequence[Cut], found: Iterator[Times | str]) -> dict[str, Times | str]:
    """Append the results of ``cuts`` to a file as they arrive, and return them by id.

    Lines begin with a line break, so one that follows an incomplete line is whole.
    """
    stored: dict[str, Times | str] = {}
    with path.open("a", encoding="utf-8") as file:
        for number, (cut, result) in enumerate(zip(cuts, found, strict=True), start=1):
            stored[cut.id] = result
            file.write("\n" + json.dumps({"id": cut.id, "result": result}))
            if number % _AT_ONCE == 0:
                file.flush()
    return stored


def _read(path: Path) -> dict[str, Times | str]:
    """Results of an interrupted run by id; an incomplete line is ignored."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[record["id"]] = record["result"]
    return found


def _with_phones(cut: Cut, times: Times) -> Cut:
    items = [
        AlignmentItem(symbol, round(start_s, 3), round(duration_s, 3))
        for symbol, start_s, duration_s in times
    ]
    return cut.map_supervisions(partial(fastcopy, alignment={ALIGNMENT: items}))
