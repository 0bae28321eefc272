"""One supernet, two speech recognisers: a dense server and a sparse device that streams."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dualmode.errors import DualmodeError

if TYPE_CHECKING:
    from dualmode.decoding.guidance import Guidance
    from dualmode.decoding.stream import Endpointing, Partial, StreamSession
    from dualmode.decoding.transcript import Transcript, Word
    from dualmode.evaluation.scoring import evaluate
    from dualmode.model.subnet import SERVER, ChunkedContext, FullContext, Subnet
    from dualmode.recognizer import Recognizer, load
    from dualmode.streams import StreamGroup
    from dualmode.training.launch import train

__version__ = "0.1.0"
__all__ = [
    "SERVER",
    "ChunkedContext",
    "DualmodeError",
    "Endpointing",
    "FullContext",
    "Guidance",
    "Partial",
    "Recognizer",
    "StreamGroup",
    "StreamSession",
    "Subnet",
    "Transcript",
    "Word",
    "__version__",
    "evaluate",
    "load",
    "train",
]

# Imported when first accessed: torch takes seconds, and `dualmode --help` must not wait for it.
_LAZY = {
    "SERVER": "dualmode.model.subnet",
    "ChunkedContext": "dualmode.model.subnet",
    "Endpointing": "dualmode.decoding.stream",
    "FullContext": "dualmode.model.subnet",
    "Guidance": "dualmode.decoding.guidance",
    "Partial": "dualmode.decoding.stream",
    "Recognizer": "dualmode.recognizer",
    "StreamGroup": "dualmode.streams",
    "StreamSession": "dualmode.decoding.stream",
    "Subnet": "dualmode.model.subnet",
    "Transcript": "dualmode.decoding.transcript",
    "Word": "dualmode.decoding.transcript",
    "evaluate": "dualmode.evaluation.scoring",
    "load": "dualmode.recognizer",
    "train": "dualmode.training.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dualmode' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
