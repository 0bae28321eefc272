"""A folder belongs to the settings that it was begun with, so that a resumed run mixes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualmode.errors import DataError
from dualmode.whole_files import replace_text


def claim_folder(out: Path, summary: str, settings: Mapping[str, Any]) -> None:
    """Store ``settings`` in the file ``summary`` of a new folder, or check that they are the same.

    Raises:
        DataError: the folder has other settings, or contains other files.
    """
    path = out / summary
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != settings:
            raise DataError(f"{out} was made with {before}, not {settings}: use a new folder")
        return
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} contains other files: choose an empty or new folder")
    replace_text(path, json.dumps(settings, indent=1) + "\n")
