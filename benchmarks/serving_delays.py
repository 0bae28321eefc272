"""Delays of a service under clients that send in real time, and how many of them it serves."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_clients import (
    BLOCK_S,
    SECOND,
    Events,
    client,
    service,
    shifted,
    utterances,
)
from dualmode.features import Framing
from dualmode.model.subnet import ChunkedContext
from dualmode.recognizer import Recognizer

FRAMING = Framing(40)  # of the models that are served
FRONT_S = 0.03  # audio that the features of a frame need beyond it
PAUSE_S = 2.0  # between utterances, so that segments end


@dataclass
class Delays:
    """Delays in seconds.

    Attributes:
        caption: from the moment when a client has sent the last audio that a step needs to the
            step's words.
        word: from the end of a word to the first event that has it as it stays.
        server: from a segment's end by device to its text by server.
    """

    caption: list[float] = field(default_factory=list)
    word: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)

    def add(self, events: Events, context: ChunkedContext) -> None:
        """Add the delays of a stream."""
        newest = 0.0
        segments: dict[int, float] = {}
        shown: dict[tuple[int, int], tuple[str, float]] = {}
        for at, event in events:
            if event["type"] in ("partial", "segment"):
                for index, word in enumerate(event["words"]):
                    place = event["segment"], index
                    if place not in shown or shown[place][0] != word["text"]:
                        shown[place] = word["text"], at
            if event["type"] == "partial" and event["words"]:
                end_s = event["words"][-1]["end"]
                if end_s > newest:  # otherwise the step has changed nothing but what is stable
                    newest = end_s
                    step = ceil(round(end_s / FRAMING.frame_s) / context.chunk) - 1
                    self.caption.append(at - sent_s(step, context))
            elif event["type"] == "segment":
                segments[event["segment"]] = at
                for index, word in enumerate(event["words"]):
                    self.word.append(shown[event["segment"], index][1] - word["end"])
            elif event["type"] == "revised":
                self.server.append(at - segments[event["segment"]])


def sent_s(step: int, context: ChunkedContext) -> float:
    """When a client in real time has sent all that a step needs, since its first sample."""
    needed_s = ((step + 1) * context.chunk + context.lookahead) * FRAMING.frame_s + FRONT_S
    return ceil(needed_s / BLOCK_S) * BLOCK_S


def ms(values: Iterable[float], percentile: float) -> str:
    """A percentile in milliseconds."""
    found = list(values)
    return f"{1000 * np.percentile(found, percentile):.0f} ms" if found else "none"


def long_recording(cuts: Path, most: int = 64) -> np.ndarray:
    """Utterances with pauses, as one recording."""
    pause = np.zeros(round(PAUSE_S * SECOND), np.float32)
    return np.concatenate([part for said, _ in utterances(cuts, most) for part in (said, pause)])


def delays(options: argparse.Namespace) -> None:
    """Delays of words, captions and server's text, by the number of real-time clients."""
    whole = long_recording(options.cuts)
    context: Any = Recognizer.load(options.live or options.model).subnet("device").context
    kinds = ("word", "caption", "server")
    header = " | ".join(f"{kind} {q} %" for kind in kinds for q in (50, 95, 99))
    print(f"| clients | words | {header} |\n|---|---|" + "---|" * 9)
    live = ["--live", str(options.live)] if options.live else []
    with service(options.model, *live) as (address, _):
        for count in options.streams:
            found = Delays()
            for events in asyncio.run(together(address, whole, count, options.seconds)):
                found.add(events, context)
            cells = [ms(getattr(found, kind), q) for kind in kinds for q in (50, 95, 99)]
            print(f"| {count} | {len(found.word)} | " + " | ".join(cells) + " |", flush=True)


async def together(
    address: str, whole: np.ndarray, count: int, seconds: float, revise: bool = True
) -> list[Events]:
    """Events of clients that send different parts of a recording at the same time."""
    rng = random.Random(0)
    return await asyncio.gather(
        *(
            client(address, shifted(whole, row, seconds), pause_s=rng.uniform(0, 1), revise=revise)
            for row in range(count)
        )
    )


# ---- how many streams ----


def capacity(options: argparse.Namespace) -> None:
    """Caption delay and processor time by the number of streams, against sherpa-onnx's server."""
    from benchmarks.serving_peers import peers, prepare

    whole = long_recording(options.cuts)
    prepare(options.recipe, options.folder, whole[: 30 * SECOND])
    context: Any = Recognizer.load(options.folder / "device.dual").subnet("device").context
    chunk_ms, lookahead_ms = (n * FRAMING.frame_ms for n in (context.chunk, context.lookahead))
    print(f"chunk {chunk_ms} ms, look-ahead {lookahead_ms} ms")
    print("| round | service | streams | caption 50 % | 95 % | processor s per stream and s |")
    print("|---|---|---|---|---|---|", flush=True)
    contenders = peers(options.folder, options.sherpa)
    with ExitStack() as stack:
        # All run, so that they take turns quickly; only one has clients.
        running = {
            name: stack.enter_context(contenders[name]()) for name in options.only or contenders
        }
        for number in range(options.rounds):
            for count in options.streams:
                for name, serving in running.items():
                    delay, load = measure(name, serving, whole, count, options.seconds, context)
                    cells = [number + 1, name, count, ms(delay, 50), ms(delay, 95), f"{load:.4f}"]
                    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def measure(
    name: str,
    serving: tuple[str, int],
    whole: np.ndarray,
    count: int,
    seconds: float,
    context: ChunkedContext,
) -> tuple[list[float], float]:
    """Caption delays of ``count`` streams, and processor seconds per stream and second."""
    from benchmarks.serving_peers import sherpa_together

    address, pid = serving
    before = processor_s(pid)
    if name.startswith("sherpa"):
        times = asyncio.run(sherpa_together(address, whole, count, seconds))
        found = [at - sent_s(step, context) for one in times for step, at in enumerate(one)]
    else:
        delays = Delays()
        for events in asyncio.run(together(address, whole, count, seconds, revise=False)):
            delays.add(events, context)
        found = delays.caption
    return found, (processor_s(pid) - before) / (count * seconds)


def processor_s(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
