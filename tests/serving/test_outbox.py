"""What waits for a slow reader."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra [serve]")

from dualmode.serving.connection import Outbox
from dualmode.serving.protocol import SLOW_READER


def event(kind: str, number: int, stream: str = "") -> dict[str, Any]:
    return {"type": kind, "stream": stream, "n": number}


async def taken(outbox: Outbox) -> list[tuple[str, int]]:
    outbox.end(1000)
    return [(e["type"], e["n"]) async for e in outbox]


def test_a_partial_replaces_the_one_before_it() -> None:
    async def scenario() -> None:
        outbox = Outbox(10)
        for waiting in (
            event("partial", 1),
            event("partial", 2, "other"),
            event("partial", 3),
            event("segment", 4),
            event("partial", 5),
            event("partial", 6),
        ):
            outbox.put(waiting)
        assert await taken(outbox) == [
            ("partial", 3),
            ("partial", 2),
            ("segment", 4),
            ("partial", 6),
        ]

    asyncio.run(scenario())


def test_too_many_events_end_it() -> None:
    async def scenario() -> None:
        outbox = Outbox(3)
        for number in range(5):
            outbox.put(event("segment", number))
        assert outbox.overflow.is_set()
        assert outbox.code == SLOW_READER
        assert await taken(outbox) == []

    asyncio.run(scenario())
