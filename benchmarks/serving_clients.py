"""What the benchmarks of the service share: recordings, a service in a process, and clients."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts

BLOCK_S = 0.1
SECOND = SAMPLE_RATE_HZ


def utterances(path: Path, most: int) -> list[tuple[np.ndarray, str]]:
    """Samples and normalised text of the first cuts of a CutSet."""
    found = []
    for cut in read_cuts(path):
        found.append((load_samples(cut), cut.supervisions[0].text))
        if len(found) == most:
            break
    return found


def shifted(whole: np.ndarray, row: int, seconds: float) -> np.ndarray:
    """A different part of the recordings for each stream."""
    size = round(seconds * SECOND)
    start = (row * 7 * SECOND) % max(1, len(whole) - size)
    return whole[start : start + size]


@contextmanager
def service(model: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """Run `dualmode serve` in another process; yields its address and process id."""
    command = [sys.executable, "-m", "dualmode", "serve", str(model), "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stderr is not None
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line, "the service ended"
            address = re.search(r"running on http://([0-9.:]+)", line)

        # Its log must not fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield address[1], process.pid
    finally:
        process.terminate()
        process.wait(60)


Events = list[tuple[float, dict[str, Any]]]


async def client(
    address: str,
    samples: np.ndarray,
    *,
    real_time: bool = True,
    pause_s: float = 0.0,
    revise: bool = True,
) -> Events:
    """Send samples and return the events, each with its time since the first sample."""
    from websockets.asyncio.client import connect

    events: Events = []
    url = f"ws://{address}/v1/listen"
    async with connect(url, compression=None, proxy=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "start", "revise": revise}))
        await socket.recv()
        await asyncio.sleep(pause_s)
        began = time.perf_counter()

        async def send() -> None:
            size = round(BLOCK_S * SECOND)
            for number, start in enumerate(range(0, len(samples), size)):
                if real_time:
                    await asyncio.sleep(
                        max(0.0, began + (number + 1) * BLOCK_S - time.perf_counter())
                    )
                block = np.clip(samples[start : start + size] * 32768, -32768, 32767)
                await socket.send(block.astype("<i2").tobytes())
            await socket.send(json.dumps({"type": "finish"}))

        sending = asyncio.create_task(send())
        async for message in socket:
            event = json.loads(message)
            events.append((time.perf_counter() - began, event))
            if event["type"] == "done":
                break
        await sending
    return events
