"""Handle Ctrl-C and SIGTERM as a request to stop after the current step."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

_ONE_SIGNAL_S = 1.0


@contextmanager
def graceful_stop() -> Iterator[list[float]]:
    """Stop after the current step on the first Ctrl-C or SIGTERM, and at once on a later one.

    A process that only waits for others forwards the signal. They may have received it from the
    terminal as well, so signals within one second count as one.
    """
    asked: list[float] = []

    def ask(number: int, frame: object) -> None:
        if asked and time.monotonic() - asked[0] > _ONE_SIGNAL_S:
            raise KeyboardInterrupt
        asked.append(time.monotonic())
        for child in multiprocessing.active_children():
            if child.pid is not None and not child.daemon:
                os.kill(child.pid, number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
