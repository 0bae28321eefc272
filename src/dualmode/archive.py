"""Transcribe archives in many processes or on many machines with Ray; resumable.

A task recognises a batch of files and returns one record per file. Records are appended to a JSONL
file, or written as parts of a Parquet data set, when a task ends. A run that was interrupted
continues with the files that have no record yet.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from dualmode.audio import SOUND_SUFFIXES
from dualmode.decoding.formats import to_dict
from dualmode.errors import AudioError, DataError, DualmodeError
from dualmode.recognizer import Recognizer, load

Record = dict[str, Any]
WAITING = 2  # tasks per core that are submitted before the first of them ends


@dataclass(frozen=True)
class Counts:
    """Numbers of files that were recognised, could not be read, or were done by earlier runs."""

    recognised: int
    failed: int
    before: int


def sound_files(places: Sequence[Path]) -> list[Path]:
    """Sound files given directly, in folders, or in CutSets (``*.jsonl.gz``, ``*.jsonl``).

    Raises:
        DataError: there are no files, or a path does not exist.
    """
    files: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            inside = (p for p in sorted(place.rglob("*")) if p.suffix.lower() in SOUND_SUFFIXES)
            files.update(dict.fromkeys(inside))
        elif place.name.endswith((".jsonl", ".jsonl.gz")):
            files.update(dict.fromkeys(_of_cuts(place)))
        elif place.is_file():
            files[place] = None
        else:
            raise DataError(f"{place}: no such file or folder")
    if not files:
        raise DataError(f"no sound files in {', '.join(map(str, places))}")
    return list(files)


def _of_cuts(path: Path) -> Iterator[Path]:
    from dualmode.data.manifests import read_cuts

    for cut in read_cuts(path):
        for source in cut.recording.sources:
            if source.type == "file":
                yield Path(source.source)


def recognise_batch(model: str, subnet: str, files: Sequence[str]) -> list[Record]:
    """Run one task: a record per file, with its text and words, or with its error."""
    recognizer = _recognizer(model)
    records = []
    for file, result in zip(files, recognizer.transcribe_batch(files, subnet), strict=True):
        if isinstance(result, AudioError):
            records.append({"file": file, "error": str(result)})
        else:
            records.append({"file": file, **to_dict(result)})
    return records


@lru_cache(maxsize=1)
def _recognizer(model: str) -> Recognizer:
    """The recogniser, loaded once per process."""
    return load(model)


def transcribe_archive(
    model: Path,
    places: Sequence[Path],
    out: Path,
    *,
    address: str,
    subnet: str = "server",
    batch: int = 16,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Counts:
    """Recognise all files of ``places`` on a Ray cluster.

    Args:
        model: a model directory; like the files, at the same path on every machine.
        places: files, folders and CutSets.
        out: ``*.jsonl``, or ``*.parquet`` for a folder of parts.
        address: address of a running cluster, ``auto`` for one on this machine, or ``local`` to
            start one.
        subnet: ``server`` or ``device``.
        batch: files per task.
        report: called with the number of files done and in total.

    Raises:
        DualmodeError: the package ray is missing, or no cluster answers.
        DataError: there are no files, or ``out`` cannot be used.
    """
    results = _results(out)
    files = [str(path.resolve()) for path in sound_files(places)]
    done = results.files()
    left = [file for file in files if file not in done]
    tasks = [left[start : start + batch] for start in range(0, len(left), batch)]
    failed = recognised = 0
    with _cluster(address) as ray:
        task = ray.remote(num_cpus=1)(recognise_batch)
        most = WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: list[Any] = []
        while tasks or running:
            while tasks and len(running) < most:
                running.append(task.remote(str(model.resolve()), subnet, tasks.pop(0)))
            (ended, *_), running = ray.wait(running, num_returns=1)
            records = ray.get(ended)
            results.add(records)
            errors = sum("error" in record for record in records)
            failed, recognised = failed + errors, recognised + len(records) - errors
            report(len(files) - len(left) + failed + recognised, len(files))
    return Counts(recognised, failed, len(files) - len(left))


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connect to Ray, and disconnect at the end."""
    try:
        import ray
    except ImportError:
        raise DualmodeError("archives need ray: pip install 'dualmode[ray]'") from None
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # Ray also raises plain exceptions if a node does not start
        raise DualmodeError(f"no Ray cluster at {address}: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


class _Results(Protocol):
    """Storage of records."""

    def files(self) -> set[str]:
        """The files that have a record."""
        ...

    def add(self, records: Sequence[Record]) -> None:
        """Store the records of a task."""
        ...


def _results(out: Path) -> _Results:
    if out.suffix == ".jsonl":
        return _Lines(out)
    if out.suffix == ".parquet":
        return _Parts(out)
    raise DataError(f"{out}: the name must end in .jsonl, or in .parquet for a folder of parts")


class _Lines:
    """One JSON object per line. An incomplete last line of a killed run is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            data = path.read_bytes()
            if whole := len(data) - (data.rfind(b"\n") + 1):
                os.truncate(path, len(data) - whole)

    def files(self) -> set[str]:
        if not self._path.exists():
            return set()
        with self._path.open(encoding="utf-8") as lines:
            try:
                return {json.loads(line)["file"] for line in lines}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{self._path}: not results of a run: {error}") from None

    def add(self, records: Sequence[Record]) -> None:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


class _Parts:
    """A Parquet data set: one part per task, named by a hash of its paths, written atomically."""

    def __init__(self, folder: Path) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise DualmodeError("Parquet needs pyarrow: pip install 'dualmode[ray]'") from None
        self._arrow = pyarrow
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def files(self) -> set[str]:
        read = self._arrow.parquet.read_table
        files: set[str] = set()
        for part in self._folder.glob("part-*.parquet"):
            files.update(read(part, columns=["file"]).column("file").to_pylist())
        return files

    def add(self, records: Sequence[Record]) -> None:
        arrow = self._arrow
        word = [("text", arrow.string())]
        word += [(name, arrow.float64()) for name in ("start", "end", "confidence")]
        schema = arrow.schema(
            [
                ("file", arrow.string()),
                ("text", arrow.string()),
                ("seconds", arrow.float64()),
                ("words", arrow.list_(arrow.struct(word))),
                ("error", arrow.string()),
            ]
        )
        name = hashlib.sha256("\n".join(r["file"] for r in records).encode()).hexdigest()[:16]
        part = self._folder / f".part-{name}"
        arrow.parquet.write_table(arrow.Table.from_pylist(list(records), schema=schema), part)
        os.replace(part, self._folder / f"part-{name}.parquet")
