"""Good and bad clients of a service for minutes: what the good ones lose, and its memory."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import time
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.serving_clients import BLOCK_S, SECOND, Events, client, service, utterances

KINDS = ("slow reader", "dropping", "wrong rate", "oversized", "silent", "garbage")
IDLE_S = 10.0
SAMPLED_S = 5.0  # memory is read this often
WARM_UP_MINUTES = 5


async def misbehave(address: str, samples: np.ndarray, kind: str) -> None:
    """A client that violates the protocol, or makes the service wait."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    url = f"ws://{address}/v1/listen"
    data = (samples * 32767).astype("<i2").tobytes()
    try:
        async with connect(
            url, compression=None, proxy=None, open_timeout=30, max_queue=1, close_timeout=1
        ) as socket:
            rate = 8000 if kind == "wrong rate" else 16000
            await socket.send(json.dumps({"type": "start", "sample_rate_hz": rate}))
            if kind == "silent":
                await asyncio.sleep(2 * IDLE_S)
            elif kind == "oversized":
                await socket.send(bytes(2 << 20))
            elif kind == "garbage":
                await socket.send(random.randbytes(1001))
            else:
                block = 2 * round(BLOCK_S * SECOND)
                for start in range(0, len(data), block):
                    await socket.send(data[start : start + block])
                    if kind == "dropping" and start > len(data) // 2:
                        socket.transport.abort()
                        return
                    await asyncio.sleep(BLOCK_S)
                if kind == "slow reader":  # nothing was read, and nothing will be
                    await asyncio.sleep(2 * IDLE_S)
            await asyncio.sleep(1)
    except (WebSocketException, OSError, TimeoutError):
        pass


def texts(events: Events, kind: str) -> list[str]:
    """Texts of the events of a kind, in order."""
    return [event["text"] for _, event in events if event["type"] == kind]


class Soak:
    """The clients, and what they and the process's memory say.

    Args:
        said: recordings; every client sends one after another.
        clients: all of them; a third misbehaves.
    """

    def __init__(self, said: list[np.ndarray], clients: int, minutes: float) -> None:
        self._said = said
        self._bad = clients // 3
        self._good = clients - self._bad
        self._seconds = 60 * minutes
        self._wanted: dict[int, Events] = {}
        self._until = 0.0
        self.count: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.late: list[float] = []
        self.megabytes: list[tuple[float, float]] = []  # minutes, size

    async def run(self, address: str, pid: int) -> None:
        """Ask for every recording alone, then let all clients loose."""
        for index, samples in enumerate(self._said):
            self._wanted[index] = await client(address, samples, real_time=False)
        print("every recording has been recognised alone", flush=True)
        began = time.monotonic()
        self._until = began + self._seconds
        await asyncio.gather(
            *(self._well(address, number) for number in range(self._good)),
            *(self._badly(address, number) for number in range(self._bad)),
            self._watch(pid, began),
        )

    async def _well(self, address: str, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < self._until:
            index = rng.randrange(len(self._said))
            self.count["streams"] += 1
            try:
                events = await client(address, self._said[index], pause_s=rng.uniform(0, 2))
            except Exception as error:  # whatever it is, this client has lost its stream
                self.failures[f"{type(error).__name__}: {error}"] += 1
                continue
            self._check(index, events)

    def _check(self, index: int, events: Events) -> None:
        segments = texts(events, "segment")
        done = [at for at, event in events if event["type"] == "done"]
        self.count["without done"] += not done
        self.count["other captions"] += segments != texts(self._wanted[index], "segment")
        self.count["segments"] += len(segments)
        self.count["without server's text"] += len(segments) != len(texts(events, "revised"))
        self.count["other text by server"] += texts(events, "revised") != texts(
            self._wanted[index], "revised"
        )
        self.late += [at - len(self._said[index]) / SECOND for at in done]

    async def _badly(self, address: str, number: int) -> None:
        rng = random.Random(-number)
        kind = KINDS[number % len(KINDS)]
        while time.monotonic() < self._until:
            await misbehave(address, rng.choice(self._said), kind)
            self.count[kind] += 1
            await asyncio.sleep(rng.uniform(0, 1))

    async def _watch(self, pid: int, began: float) -> None:
        while (now := time.monotonic()) < self._until:
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
            minute = (now - began) / 60
            self.megabytes.append((minute, pages * resource.getpagesize() / 1e6))
            if len(self.megabytes) % 12 == 0:
                print(f"minute {minute:4.1f}: {self.megabytes[-1][1]:.1f} MB", flush=True)
            await asyncio.sleep(SAMPLED_S)


def slope(megabytes: list[tuple[float, float]], warm_up: float) -> float:
    """Growth in MB an hour after the first minutes, by least squares."""
    minutes, sizes = np.array([row for row in megabytes if row[0] >= warm_up]).T
    return float(60 * np.polyfit(minutes, sizes, 1)[0])


def soak(options: argparse.Namespace) -> None:
    """Good and bad clients for minutes: check the good ones' texts and the service's memory."""
    said = [samples for samples, _ in utterances(options.cuts, 40)]
    run = Soak(said, options.clients, options.minutes)
    extra = ["--live", str(options.live)] if options.live else []
    with service(options.model, "--idle-s", str(IDLE_S), *extra) as (address, pid):
        asyncio.run(run.run(address, pid))
        time.sleep(2 * IDLE_S)  # what was dropped without a word is noticed by then
        with urllib.request.urlopen(f"http://{address}/metrics") as page:
            metrics = page.read().decode()
    print_report(run, metrics)


def print_report(run: Soak, metrics: str) -> None:
    """Print counts, delays, memory, and what the service says of itself."""
    print(f"\nstreams of good clients: {run.count['streams']}, segments {run.count['segments']}")
    print(f"failed: {run.failures.total()} {dict(run.failures)}")
    for name in ("without done", "other captions", "without server's text", "other text by server"):
        print(f"{name}: {run.count[name]}")
    late = [f"{np.percentile(run.late, q):.2f} s" for q in (50, 95, 99)]
    print(f"end of the audio to done, 50, 95 and 99 %: {', '.join(late)}")
    print("bad clients:", ", ".join(f"{kind} {run.count[kind]}" for kind in KINDS))
    pattern = r"^dualmode_(?:closed_total\S+|streams|connections|waiting_segments) \S+"
    print("the service:", ", ".join(re.findall(pattern, metrics, re.M)))
    sizes: dict[int, list[float]] = {}
    for minute, size in run.megabytes:
        sizes.setdefault(int(minute), []).append(size)
    print("MB by minute:", " ".join(f"{np.median(size):.0f}" for size in sizes.values()))
    warm_up = min(WARM_UP_MINUTES, len(sizes) / 3)
    for after in (warm_up, 0.75 * len(sizes)):
        print(f"growth after minute {after:g}: {slope(run.megabytes, after):+.1f} MB an hour")
