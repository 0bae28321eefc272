"""Read CutSets from disk, and make them from tables of audio files after checking every file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from lhotse import AudioSource, CutSet, Recording, SupervisionSegment
from lhotse.cut import Cut

from dualmode.audio import SAMPLE_RATE_HZ, decode, to_mono_16khz
from dualmode.config import TextConfig
from dualmode.data.left_out import Report
from dualmode.data.parallel import map_in_processes
from dualmode.data.render import to_int16, write_flac
from dualmode.data.usable import UnusableError
from dualmode.errors import AudioError, DataError, TextError
from dualmode.features import Framing, mel_frames
from dualmode.text import normalize
from dualmode.whole_files import replacing

CUTS = "cuts.jsonl.gz"
REPORT = "report.json"
WEIGHT = "dualmode_weight"  # custom field of a cut: how often an epoch repeats it

_COLUMNS = ("id", "path", "text")
_SHORTEST_SECONDS = 0.1
_SILENT_PEAK = 1e-3  # -60 dB below full scale
_LONGEST_CELL = 1 << 20


def read_cuts(paths: str | Path | Iterable[str | Path], weights: Sequence[float] = ()) -> CutSet:
    """Read CutSets into memory and join them; a path is a jsonl.gz file or a folder that holds one.

    Args:
        weights: how often an epoch of training repeats the cuts of each path.

    Raises:
        DataError: a path is missing, damaged, empty, or not a CutSet.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    paths = list(paths)
    cuts = [
        cut if weight == 1 else cut.with_custom(WEIGHT, weight)
        for path, weight in zip(paths, weights or [1.0] * len(paths), strict=True)
        for cut in _read_one(Path(path))
    ]
    if not cuts:
        raise DataError("no CutSet given: name at least one")
    return CutSet.from_cuts(cuts)


def cuts_file(path: str | Path) -> Path:
    """The file of a CutSet, given by its own path or that of its folder.

    Raises:
        DataError: there is none.
    """
    path = Path(path)
    file = path / CUTS if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: no such CutSet; make it with 'dualmode prepare'")
    return file


def _read_one(path: Path) -> list[Cut]:
    file = cuts_file(path)
    try:
        # Absolute, because Lhotse runs a name that begins with "pipe:" as a command.
        cuts = list(CutSet.from_file(file.absolute()))
    # A damaged file raises many kinds of exceptions: of gzip, zlib, JSON, missing keys.
    except Exception as error:
        raise DataError(f"{file}: not a CutSet, or damaged ({error}); create it again") from None
    if not cuts:
        raise DataError(f"{file}: an empty CutSet; create it from a table that lists files")
    if not all(isinstance(cut, Cut) for cut in cuts):
        raise DataError(f"{file}: contains manifests other than cuts; a CutSet is needed")
    return cuts


def write_cuts(cuts: Iterable[Cut], path: Path) -> None:
    """Write a CutSet atomically."""
    with replacing(path) as part:
        CutSet.from_cuts(cuts).to_file(part)


@dataclass(frozen=True)
class _Row:
    """A line of the table; ``stored`` is the path for a copy of its audio, or None."""

    line: int
    id: str
    path: Path
    text: str
    speaker: str | None
    corpus: str | None
    stored: Path | None


@dataclass(frozen=True)
class _Sound:
    """Properties of a decoded file; ``path`` is the file that the cut will refer to."""

    path: Path
    sample_rate_hz: int
    samples: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate_hz


def prepare_tsv(
    table: str | Path,
    out: str | Path,
    *,
    text: TextConfig | None = None,
    allow_untranscribed: bool = False,
    noise: bool = False,
    to_flac: bool = False,
    max_seconds: float = 600.0,
    jobs: int | None = None,
) -> Report:
    """Decode every file of a table and write ``out/cuts.jsonl.gz`` and ``out/report.json``.

    The table is tab-separated with a header line. Columns ``id``, ``path`` (relative to the
    table's folder) and ``text`` are required, ``speaker`` and ``corpus`` are kept, and others are
    ignored. Utterances that cannot be used are left out and listed in the report.

    Args:
        allow_untranscribed: for pre-training: neither texts nor the text column are required,
            and an utterance with an unusable text is kept without it.
        noise: the text is a class of noise, stored unchanged.
        to_flac: store 16 kHz mono FLAC copies in ``out/audio``, which load faster than Opus
            or MP3.
        max_seconds: longer files are left out.

    Raises:
        DataError: the table is missing or malformed, or no utterance can be used.
    """
    out = Path(out).resolve()
    report = Report(str(table))
    optional = {"text"} if allow_untranscribed else set()
    rows = _read_table(Path(table), optional, out / "audio" if to_flac else None, report)
    if not noise:
        rows = _check_texts(rows, text or TextConfig(), allow_untranscribed, report)
    if to_flac:
        (out / "audio").mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    check = partial(_check_sound, max_seconds=max_seconds)
    cuts = []
    sounds = map_in_processes(check, rows, title="Checking audio", jobs=jobs)
    for row, sound in zip(rows, sounds, strict=True):
        try:
            if isinstance(sound, UnusableError):
                raise sound
            if not noise:
                row = _check_pace(row, sound.seconds, allow_untranscribed)
            cuts.append(_cut(row, sound))
            report.keep(sound.seconds)
        except UnusableError as problem:
            report.leave_out(row.id, str(row.path), problem.kind, problem.why)
    report.write(out / REPORT)
    if not cuts:
        raise DataError(f"{table}: no utterance can be used; {out / REPORT} says why")
    write_cuts(cuts, out / CUTS)
    return report


def _read_table(table: Path, optional: set[str], store: Path | None, report: Report) -> list[_Row]:
    if not table.is_file():
        raise DataError(f"{table}: no such table")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            csv.field_size_limit(_LONGEST_CELL)
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
            names = tuple(lines[0]) if lines else ()
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a table in UTF-8 ({error})") from None
    if not lines:
        raise DataError(f"{table}: an empty table; it needs a header and one line per file")
    missing = [name for name in _COLUMNS if name not in names and name not in optional]
    if missing:
        raise DataError(
            f"{table}: no column {', '.join(missing)}; the header must name, tab-separated, "
            f"{', '.join(_COLUMNS)}"
        )
    rows: dict[str, _Row] = {}
    for number, cells in enumerate(lines, start=2):
        where = f"{table}, line {number}"
        empty = {name for name, cell in cells.items() if cell is None} - optional
        if None in cells or empty or not cells["id"] or not cells["path"]:
            report.leave_out(
                cells["id"] or "?", where, "table", "a line with too few or too many cells"
            )
        elif cells["id"] in rows:
            report.leave_out(cells["id"], where, "duplicate id", "an earlier line has the same id")
        else:
            rows[cells["id"]] = _row(cells, number, table, store)
    return list(rows.values())


def _row(cells: dict[str, str], number: int, table: Path, store: Path | None) -> _Row:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", cells["id"])
    return _Row(
        line=number,
        id=cells["id"],
        path=(table.parent / cells["path"]).resolve(),
        text=(cells.get("text") or "").strip(),
        speaker=cells.get("speaker") or None,
        corpus=cells.get("corpus") or None,
        # The line number keeps ids apart that differ only in replaced characters.
        stored=store / f"{number:06d}-{name}.flac" if store else None,
    )


def _check_texts(
    rows: list[_Row], text: TextConfig, allow_untranscribed: bool, report: Report
) -> list[_Row]:
    checked = []
    for row in rows:
        try:
            if not row.text:
                raise TextError("no text: transcribe it, or prepare with --allow-untranscribed")
            checked.append(replace(row, text=normalize(row.text, text)))
        except TextError as error:
            if allow_untranscribed:
                checked.append(replace(row, text=""))
            else:
                report.leave_out(row.id, str(row.path), "text", str(error))
    return checked


def _check_sound(row: _Row, max_seconds: float) -> _Sound | UnusableError:
    """Decode a file, store a copy if wanted, and return its properties or what is wrong."""
    try:
        samples, sample_rate_hz = decode(row.path)
    except AudioError as error:
        return UnusableError("audio", str(error))
    seconds = len(samples) / sample_rate_hz
    if seconds < _SHORTEST_SECONDS:
        return UnusableError(
            "too short", f"{seconds:.3f} s; at least {_SHORTEST_SECONDS} s are needed"
        )
    if seconds > max_seconds:
        return UnusableError(
            "too long", f"{seconds:.0f} s; cut it into pieces of less than {max_seconds:g} s"
        )
    if np.abs(samples).max() < _SILENT_PEAK:
        return UnusableError("silence", "nothing louder than -60 dB: check the recording")
    if row.stored is None:
        return _Sound(row.path, sample_rate_hz, *samples.shape)
    mono = to_mono_16khz(samples, sample_rate_hz)
    write_flac(row.stored, to_int16(mono))
    return _Sound(row.stored, SAMPLE_RATE_HZ, len(mono), 1)


def _check_pace(row: _Row, seconds: float, allow_untranscribed: bool) -> _Row:
    """Check that the text has at most one letter per 40 ms, 25 per second.

    Fast speech has about 20 per second. The tokens are not known yet; training checks their number
    again. Returns the row, without its text if it is too long and may be missing.

    Raises:
        UnusableError: the text is too long and required.
    """
    letters = len(row.text.replace(" ", ""))
    most = Framing(40).frames(mel_frames(int(seconds * SAMPLE_RATE_HZ)))
    if letters <= max(most, 1):
        return row
    if allow_untranscribed:
        return replace(row, text="")
    raise UnusableError(
        "text too long", f"{letters} letters in {seconds:.2f} s: is the text another file's?"
    )


def _cut(row: _Row, sound: _Sound) -> Cut:
    channels = list(range(sound.channels))
    recording = Recording(
        id=row.id,
        sources=[AudioSource("file", channels, str(sound.path))],
        sampling_rate=sound.sample_rate_hz,
        num_samples=sound.samples,
        duration=sound.seconds,
    )
    cut = recording.to_cut()
    cut.id = row.id
    cut.supervisions = [
        SupervisionSegment(
            id=row.id,
            recording_id=row.id,
            start=0.0,
            duration=cut.duration,
            channel=cut.channel,
            text=row.text or None,
            speaker=row.speaker,
            custom={"corpus": row.corpus} if row.corpus else None,
        )
    ]
    return cut
