"""One supernet, two speech recognisers: a dense server and a sparse device that streams."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualmode.decoding.transcript import Transcript
    from dualmode.recognizer import Recognizer, load

__version__ = "0.1.0"
__all__ = ["Recognizer", "Transcript", "__version__", "load"]

# Imported when first asked for: torch takes seconds, and `dualmode --help` must not wait for it.
_LAZY = {
    "Recognizer": "dualmode.recognizer",
    "Transcript": "dualmode.decoding.transcript",
    "load": "dualmode.recognizer",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dualmode' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
