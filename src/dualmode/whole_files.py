"""Atomic replacement of files: a reader finds either the old or the new content.

A file is written next to its destination under another name, flushed to disk and renamed. A
process that is killed leaves the destination unchanged, and an unfinished file for
:func:`remove_unfinished`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualmode.errors import DualmodeError

_UNFINISHED = ".part-"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of a new file, and rename it to ``path`` if the block ends without an error.

    The new file has the suffixes of ``path`` and a unique name. Missing folders are created. Links,
    devices and pipes (``/dev/stdout``) are written to, not replaced.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def replace_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8 atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def replace_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as part:
        part.write_bytes(content)


def check_writable(*paths: Path | None) -> None:
    """Make the folders of files that a command writes at its end, and check that files can be
    written there, so that a long computation does not end in an error. None is skipped.

    Raises:
        DualmodeError: a folder cannot be made or written to, or a path is that of a folder.
    """
    for path in paths:
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DualmodeError(f"{path} cannot be written: {error}") from None
        if path.is_dir():
            raise DualmodeError(f"{path} cannot be written: it is a folder; name a file in it")
        special = path.exists() and not path.is_file()
        if not os.access(path if special else path.parent, os.W_OK):
            raise DualmodeError(f"{path} cannot be written: permission denied")


def remove_unfinished(folder: Path) -> None:
    """Remove unfinished files of killed processes in ``folder``."""
    for part in folder.glob(f"{_UNFINISHED}*"):
        part.unlink(missing_ok=True)
