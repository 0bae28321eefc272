"""Phones of aligned utterances, as targets of an encoder's frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from lhotse.cut import Cut

from dualmode.features import MEL_FRAME_MS, Framing

ALIGNMENT = "phone"  # key of the phones in the alignment of a supervision
SILENCE = "SIL"
NO_PHONE = -1
TARGET_MS = 20  # time from one target to the next: short enough for a stop consonant

Targets = npt.NDArray[np.int64]


class Phone(NamedTuple):
    """A phone of an example, with its start and end in seconds."""

    symbol: str
    start_s: float
    end_s: float


def targets_per_frame(framing: Framing) -> int:
    """Number of targets of one frame of the encoder, G."""
    return framing.frame_ms // TARGET_MS


def phones_of(cut: Cut, speed: float = 1.0, offset_s: float = 0.0) -> list[Phone]:
    """The aligned phones of a cut that is played ``speed`` times as fast and begins at
    ``offset_s``. The stress of vowels (``AH0``) is dropped. Empty if there is no alignment."""
    return [
        Phone(
            item.symbol.rstrip("012"),
            offset_s + item.start / speed,
            offset_s + (item.start + item.duration) / speed,
        )
        for supervision in cut.supervisions
        for item in (supervision.alignment or {}).get(ALIGNMENT, ())
    ]


def phone_targets(
    phones: Sequence[Phone], frames: int, framing: Framing, inventory: Sequence[str]
) -> Targets:
    """Targets (T, G) of ``frames`` frames: for each frame, the indices in ``inventory`` of the
    phones at G times around its centre, :data:`TARGET_MS` apart.

    A target is :data:`NO_PHONE` where no phone of the inventory lies.
    """
    each = targets_per_frame(framing)
    stride = framing.stride_mels
    # A frame reads 2 S - 1 mel frames, and its targets lie in the S in their middle. The centre of
    # a mel frame is half of its hop after its beginning.
    first_ms = MEL_FRAME_MS * (stride / 2 - 0.5) + TARGET_MS / 2
    times_s = (first_ms + TARGET_MS * np.arange(frames * each)) / 1000
    found = np.full(frames * each, NO_PHONE, np.int64)
    index = {symbol: number for number, symbol in enumerate(inventory)}
    for phone in phones:
        inside = slice(*np.searchsorted(times_s, (phone.start_s, phone.end_s)))
        found[inside] = index.get(phone.symbol, NO_PHONE)
    return found.reshape(frames, each)
