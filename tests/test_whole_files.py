"""Files are there whole or not at all, whatever interrupts the writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualmode.errors import DualmodeError
from dualmode.whole_files import (
    check_writable,
    remove_unfinished,
    replace_bytes,
    replace_text,
    replacing,
)


def test_content_replaces_content_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    replace_text(path, "älter\n")
    replace_bytes(path, "neuer: ß\n".encode())
    assert path.read_text(encoding="utf-8") == "neuer: ß\n"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl.gz"
    path.write_text("old", encoding="utf-8")

    def fail() -> None:
        with replacing(path) as part:
            assert part.suffixes == path.suffixes
            part.write_text("half", encoding="utf-8")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept", encoding="utf-8")
    with replacing(tmp_path / "file") as part:
        part.write_text("half", encoding="utf-8")
        orphan = part.with_name(part.name.replace("-file", "-other"))
        orphan.write_text("half", encoding="utf-8")
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "file"}


def test_links_and_devices_are_written_to(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    replace_text(link, "new")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    replace_text("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()


def test_what_can_be_written_is_known_beforehand(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    check_writable(None, path, Path("/dev/null"))
    assert path.parent.is_dir()
    assert not path.exists()
    replace_text(path, "kept")
    check_writable(path)
    assert path.read_text(encoding="utf-8") == "kept"
    for wrong in (path / "below", path / "far" / "below", path.parent):
        with pytest.raises(DualmodeError, match=f"{wrong.name} cannot be written"):
            check_writable(None, wrong)
