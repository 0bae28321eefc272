"""What the page needs in order to recognise by itself: the engine for browsers, and an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualmode.errors import DualmodeError
from dualmode.features import Framing
from dualmode.model.subnet import Subnet
from dualmode.serving.models import describe_device

# As ``make web`` builds them.
ENGINE_FILES = ("engine.js", "engine.wasm", "recognizer.js", "worker.js")


@dataclass(frozen=True)
class BrowserEngine:
    """The device engine for browsers, with the model that it runs there.

    Attributes:
        files: contents of the files in ``ENGINE_FILES``.
        artifact: an artifact of ``dualmode export engine`` with a streaming recogniser.
        subnet: that recogniser.
        framing: of its model.
    """

    files: dict[str, bytes]
    artifact: bytes
    subnet: Subnet
    framing: Framing

    def offer(self) -> dict[str, Any]:
        """What the page has to know before it loads any of it."""
        size = len(self.artifact) + sum(map(len, self.files.values()))
        return {**describe_device(self.subnet, self.framing), "bytes": size}


def read_engine_files(folder: Path) -> dict[str, bytes]:
    """Read the engine from a folder that ``make web`` has built.

    Raises:
        DualmodeError: a file is missing or cannot be read.
    """
    try:
        return {name: (folder / name).read_bytes() for name in ENGINE_FILES}
    except OSError as error:
        raise DualmodeError(
            f"{folder} does not contain the engine for browsers ({error}): `make web` builds it "
            "in build/web"
        ) from None
