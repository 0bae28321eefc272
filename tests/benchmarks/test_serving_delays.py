"""What the benchmarks of the service take for a delay."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.serving_delays import Delays, sent_s
from benchmarks.serving_soak import slope
from dualmode.model.subnet import ChunkedContext

CONTEXT = ChunkedContext(16, 64, 4)


def event(kind: str, words: list[tuple[str, float]], segment: int = 0) -> dict[str, Any]:
    listed = [{"text": text, "start": end - 0.04, "end": end} for text, end in words]
    return {"type": kind, "segment": segment, "words": listed}


def test_what_a_step_needs_is_sent_in_blocks() -> None:
    assert sent_s(0, CONTEXT) == pytest.approx(0.9)  # 0.8 s of frames and 0.03 s for features
    assert sent_s(1, CONTEXT) == pytest.approx(1.5)


def test_delays_of_a_stream() -> None:
    delays = Delays()
    delays.add(
        [
            (1.0, event("partial", [("op", 0.6)])),
            (1.7, event("partial", [("open", 0.68), ("the", 1.2)])),
            (2.3, event("partial", [("open", 0.68), ("the", 1.2)])),  # only more stable
            (3.0, event("segment", [("open", 0.68), ("the", 1.2), ("door", 1.6)])),
            (3.5, event("revised", [("open", 0.7)])),
            (4.0, event("segment", [("again", 3.5)], 1)),
        ],
        CONTEXT,
    )
    assert delays.caption == pytest.approx([0.1, 0.2])
    # "op" is not the word yet; "door" appears with the segment only.
    assert delays.word == pytest.approx([1.02, 0.5, 1.4, 0.5])
    assert delays.server == pytest.approx([0.5])


def test_growth_of_memory() -> None:
    rows = [(minute / 2, 100.0 + (0 if minute < 10 else 0.25 * minute)) for minute in range(60)]
    assert slope(rows, warm_up=5.0) == pytest.approx(30.0)
