"""Phones as targets of frames: which time each target stands for, whatever speed and order."""

from __future__ import annotations

import numpy as np
import pytest
from lhotse import MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem

from dualmode.data.phones import NO_PHONE, Phone, phone_targets, phones_of, targets_per_frame
from dualmode.features import Framing

INVENTORY = ("SIL", "AH", "B")


def cut(*items: tuple[str, float, float]) -> MonoCut:
    alignment = {"phone": [AlignmentItem(*item) for item in items]}
    return MonoCut(
        id="a",
        start=0.0,
        duration=2.0,
        channel=0,
        supervisions=[SupervisionSegment("a", "a", 0.0, 2.0, alignment=alignment)],
    )


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_a_target_is_the_phone_at_its_time(frame_ms: int) -> None:
    """Targets, laid end to end, are samples every 20 ms; the middle of a frame's targets is the
    middle of the mel frames that it reads."""
    framing, rng = Framing(frame_ms), np.random.default_rng(frame_ms)
    ends = np.cumsum(rng.uniform(0.03, 0.3, 12))
    phones = [
        Phone(INVENTORY[number % 3], start, end)
        for number, (start, end) in enumerate(zip([0.0, *ends[:-1]], ends, strict=True))
    ]
    frames = 100
    found = phone_targets(phones, frames, framing, INVENTORY)
    assert found.shape == (frames, targets_per_frame(framing)) == (100, frame_ms // 20)
    for frame in range(frames):
        first = frame * framing.stride_mels
        middle_ms = 10 * (first + (first + framing.reach_mels - 1)) / 2 + 5
        for place in range(found.shape[1]):
            time_s = (middle_ms + 20 * (place - (found.shape[1] - 1) / 2)) / 1000
            there = [p.symbol for p in phones if p.start_s <= time_s < p.end_s]
            expected = INVENTORY.index(there[0]) if there else NO_PHONE
            assert found[frame, place] == expected, (frame, place)


def test_what_is_not_in_the_inventory_has_no_target() -> None:
    found = phone_targets([Phone("+NOISE+", 0, 0.5), Phone("B", 0.5, 0.6)], 25, Framing(40), "AB")
    assert set(found.flat) == {NO_PHONE, 1}


def test_phones_follow_speed_and_place_and_lose_their_stress() -> None:
    plain = cut(("SIL", 0.0, 0.5), ("AH0", 0.5, 0.25))
    assert phones_of(plain) == [("SIL", 0.0, 0.5), ("AH", 0.5, 0.75)]
    assert phones_of(plain, speed=2.0, offset_s=3.0) == [("SIL", 3.0, 3.25), ("AH", 3.25, 3.375)]
    assert phones_of(plain.drop_supervisions()) == []


def test_no_frames_no_targets() -> None:
    assert phone_targets([], 0, Framing(80), INVENTORY).shape == (0, 4)
