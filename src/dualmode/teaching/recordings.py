"""Recordings for a teacher, divided into clips of at most 28 s."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lhotse.cut import Cut

from dualmode.audio import SOUND_SUFFIXES, Samples, stream_audio
from dualmode.data.loading import load_samples
from dualmode.data.manifests import CUTS, read_cuts
from dualmode.decoding.pieces import cut_pieces
from dualmode.errors import DataError
from dualmode.features import Framing

LONGEST_S = 28.0
_FRAMING = Framing(40)  # clips begin at multiples of this


@dataclass(frozen=True)
class Source:
    """A recording: a file, or a cut of a CutSet."""

    id: str
    where: Path | Cut
    speaker: str

    def clips(self) -> Iterator[tuple[str, Samples]]:
        """Ids and samples (S,) at 16 kHz of its clips, cut at quiet places.

        Raises:
            AudioError: the recording cannot be read.
        """
        blocks: Iterable[Samples]
        if isinstance(self.where, Path):
            blocks = stream_audio(self.where, LONGEST_S)
        else:
            blocks = [load_samples(self.where)]
        pieces = cut_pieces(blocks, LONGEST_S, _FRAMING)
        for piece in pieces:
            start_s = piece.start * _FRAMING.frame_s
            yield f"{self.id}@{start_s:.2f}" if start_s else self.id, piece.samples


def find_recordings(audio: Path) -> list[Source]:
    """Find the recordings of a folder, a table with ``id`` and ``path``, a CutSet, or a file.

    Raises:
        DataError: the path does not exist or contains no recording.
    """
    if audio.is_dir() and (audio / CUTS).is_file():
        return _of_cuts(audio)
    if audio.is_dir():
        files = sorted(path for path in audio.rglob("*") if path.suffix.lower() in SOUND_SUFFIXES)
        names = (path.relative_to(audio).with_suffix("").as_posix() for path in files)
        sources = [Source(name, path, "") for name, path in zip(names, files, strict=True)]
    elif audio.suffix == ".tsv" and audio.is_file():
        sources = _of_table(audio)
    elif audio.name.endswith((".jsonl", ".jsonl.gz")) and audio.is_file():
        return _of_cuts(audio)
    elif audio.is_file():
        sources = [Source(audio.stem, audio.resolve(), "")]
    else:
        raise DataError(f"{audio}: no such folder, table, CutSet or sound file")
    if not sources:
        raise DataError(f"{audio}: no sound file in it ({', '.join(sorted(SOUND_SUFFIXES))})")
    return _with_unique_ids(sources)


def _of_cuts(path: Path) -> list[Source]:
    return [
        Source(cut.id, cut, (cut.supervisions[0].speaker or "") if cut.supervisions else "")
        for cut in read_cuts(path)
    ]


def _of_table(table: Path) -> list[Source]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows and not {"id", "path"} <= set(rows[0]):
        raise DataError(f"{table}: the header must name, tab-separated, id and path")
    return [
        Source(row["id"], (table.parent / row["path"]).resolve(), row.get("speaker") or "")
        for row in rows
        if row.get("id") and row.get("path")
    ]


def _with_unique_ids(sources: list[Source]) -> list[Source]:
    """Make ids unique, as ``a.wav`` and ``a.mp3`` may be in one folder."""
    seen: dict[str, int] = {}
    unique = []
    for source in sources:
        count = seen[source.id] = seen.get(source.id, 0) + 1
        name = source.id if count == 1 else f"{source.id}-{count}"
        unique.append(Source(name, source.where, source.speaker))
    return unique
