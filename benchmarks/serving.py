"""The service under load: rates of the runtimes, delays, word error rates, soak.

    python -m benchmarks.serving rates MODEL EXPORT CUTS     streams that a runtime keeps up with
    python -m benchmarks.serving delays MODEL CUTS           real-time clients of one service
    python -m benchmarks.serving words MODEL CUTS            WER through the socket
    python -m benchmarks.serving soak MODEL CUTS --minutes 30

MODEL is a model directory, EXPORT its export by `dualmode export sherpa-onnx`, CUTS a CutSet.
Clients and service run on the same machine. Each computation uses one thread, and runtimes are
measured in turns, so that other load affects all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jiwer
import numpy as np

from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts
from dualmode.recognizer import Recognizer

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


# ---- how many streams a runtime keeps up with ----


def rates(options: argparse.Namespace) -> None:
    """Audio seconds per second of one thread, by runtime and number of streams in a batch."""
    import sherpa_onnx

    said = utterances(options.cuts, 64)
    whole = np.concatenate([samples for samples, _ in said])
    seconds = options.seconds
    ours = {"torch": Recognizer.load(options.model), "onnx": Recognizer.load(options.export)}
    if options.engine:
        ours["engine"] = Recognizer.load(options.engine)
    folder = options.export / "device"

    def peer(suffix: str) -> Any:
        return sherpa_onnx.OnlineRecognizer.from_transducer(
            encoder=str(folder / f"encoder{suffix}.onnx"),
            decoder=str(folder / "decoder.onnx"),
            joiner=str(folder / f"joiner{suffix}.onnx"),
            tokens=str(folder / "tokens.txt"),
            num_threads=1,
        )

    peers = {"sherpa-onnx": peer("")}
    if (folder / "encoder.int8.onnx").is_file():
        peers["sherpa-onnx int8"] = peer(".int8")
    print(f"| streams | {' | '.join([*ours, *peers])} |")
    print("|---|" + "---|" * (len(ours) + len(peers)))
    for count in options.streams:
        audios = [shifted(whole, row, seconds) for row in range(count)]
        best: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, one in ours.items():
                best[name] = max(best.get(name, 0), count * seconds / by_group(one, audios))
            for name, one in peers.items():
                best[name] = max(best.get(name, 0), count * seconds / by_sherpa(one, audios))
        print(
            f"| {count} | " + " | ".join(f"{rate:.1f}" for rate in best.values()) + " |", flush=True
        )


def shifted(whole: np.ndarray, row: int, seconds: float) -> np.ndarray:
    """A different part of the recordings for each stream."""
    size = round(seconds * SECOND)
    start = (row * 7 * SECOND) % max(1, len(whole) - size)
    return whole[start : start + size]


def by_group(recognizer: Recognizer, audios: list[np.ndarray]) -> float:
    """Processing time of a group of live streams, in seconds."""
    group = recognizer.stream_group("device")
    streams = [group.open() for _ in audios]
    began = time.perf_counter()
    for start in range(0, len(audios[0]), round(BLOCK_S * SECOND)):
        for stream, samples in zip(streams, audios, strict=True):
            stream.push(samples[start : start + round(BLOCK_S * SECOND)])
        for stream in group.advance():
            stream.partial()
    return time.perf_counter() - began


def by_sherpa(recognizer: Any, audios: list[np.ndarray]) -> float:
    """Processing time of sherpa-onnx with its streams in one batch, in seconds."""
    streams = [recognizer.create_stream() for _ in audios]
    began = time.perf_counter()
    for start in range(0, len(audios[0]), round(BLOCK_S * SECOND)):
        for stream, samples in zip(streams, audios, strict=True):
            stream.accept_waveform(SECOND, samples[start : start + round(BLOCK_S * SECOND)])
        while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
            for stream in ready:
                recognizer.get_result(stream)
    return time.perf_counter() - began


# ---- through the socket ----


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


async def client(
    address: str, samples: np.ndarray, *, real_time: bool = True, pause_s: float = 0.0
) -> list[tuple[float, dict[str, Any]]]:
    """Send samples and return the events, each with its time since the first sample."""
    from websockets.asyncio.client import connect

    events: list[tuple[float, dict[str, Any]]] = []
    url = f"ws://{address}/v1/listen"
    async with connect(url, compression=None, proxy=None, max_size=None) as socket:
        await socket.send(json.dumps({"type": "start"}))
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


def delays(options: argparse.Namespace) -> None:
    """Delays of captions and of server's text, by the number of real-time clients."""
    said = utterances(options.cuts, 64)
    pause = np.zeros(2 * SECOND, np.float32)
    whole = np.concatenate([part for samples, _ in said for part in (samples, pause)])
    context: Any = Recognizer.load(options.model).subnet("device").context
    print("| clients | caption 50 % | 95 % | 99 % | word 50 % | server's text 50 % | 95 % |")
    print("|---|---|---|---|---|---|---|")
    with service(options.model) as (address, _):
        for count in options.streams:

            async def load(count: int = count) -> list[list[tuple[float, dict[str, Any]]]]:
                rng = random.Random(0)
                return await asyncio.gather(
                    *(
                        client(
                            address,
                            shifted(whole, row, options.seconds),
                            pause_s=rng.uniform(0, 1),
                        )
                        for row in range(count)
                    )
                )

            runs = asyncio.run(load())
            caption, word, server = [], [], []
            for events in runs:
                segments: dict[int, float] = {}
                for at, event in events:
                    if event["type"] == "partial" and event["words"]:
                        end_s = event["words"][-1]["end"]
                        chunks = int(np.ceil(round(end_s / 0.04) / context.chunk))
                        computable = (chunks * context.chunk + context.lookahead) * 0.04 + 0.03
                        caption.append(at - np.ceil(computable / BLOCK_S) * BLOCK_S)
                        word.append(at - end_s)
                    elif event["type"] == "segment":
                        segments[event["segment"]] = at
                    elif event["type"] == "revised":
                        server.append(at - segments[event["segment"]])
            quantiles = [ms(caption, q) for q in (50, 95, 99)]
            cells = [*quantiles, ms(word, 50), ms(server, 50), ms(server, 95)]
            print(f"| {count} | " + " | ".join(cells) + " |", flush=True)


def ms(values: list[float], percentile: float) -> str:
    """A percentile in milliseconds."""
    return f"{1000 * np.percentile(values, percentile):.0f} ms" if values else "none"


def words(options: argparse.Namespace) -> None:
    """WER of texts from the socket, and of both recognisers on whole files."""
    said = utterances(options.cuts, options.most)
    recognizer = Recognizer.load(options.model)
    texts = [text for _, text in said]
    found: dict[str, list[str]] = {"captions (device)": [], "final (server)": []}
    same = revised = 0
    with service(options.model) as (address, _):
        for samples, _ in said:
            events = [event for _, event in asyncio.run(client(address, samples, real_time=False))]
            for name, kind in (("captions (device)", "segment"), ("final (server)", "revised")):
                found[name].append(" ".join(e["text"] for e in events if e["type"] == kind).strip())
            for event in events:
                if event["type"] == "revised":
                    span = slice(*(round(event[end] * SECOND) for end in ("start", "end")))
                    quantized = np.clip(samples[span] * 32768, -32768, 32767).astype("<i2") / 32768
                    text = recognizer.transcribe(quantized.astype(np.float32), "server").text
                    same += text == event["text"]
                    revised += 1
    for name in ("device", "server"):
        results = recognizer.transcribe_batch([samples for samples, _ in said], name)
        found[f"{name}, whole files"] = [getattr(result, "text", "") for result in results]
    print("| text | WER |\n|---|---|")
    for name, hypotheses in found.items():
        print(f"| {name} | {jiwer.wer([t.lower() for t in texts], hypotheses):.2%} |")
    print(f"\nserver's text of a segment equals Recognizer.transcribe of it: {same} of {revised}")


# ---- soak ----


async def misbehave(address: str, samples: np.ndarray, kind: str) -> None:
    """A client that violates the protocol."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    url = f"ws://{address}/v1/listen"
    data = (samples * 32767).astype("<i2").tobytes()
    try:
        async with connect(url, compression=None, proxy=None, open_timeout=30) as socket:
            rate = 8000 if kind == "lying" else 16000
            await socket.send(json.dumps({"type": "start", "sample_rate_hz": rate}))
            if kind == "silent":
                await asyncio.sleep(5)
            elif kind == "oversized":
                await socket.send(bytes(2 << 20))
            elif kind == "garbage":
                await socket.send(random.randbytes(1001))
            else:
                for start in range(0, len(data), 3200):
                    await socket.send(data[start : start + 3200])
                    if kind == "dropping" and start > len(data) // 2:
                        socket.transport.abort()
                        return
                    if kind == "slow":
                        await asyncio.sleep(0.3)
            await asyncio.sleep(1)
    except (WebSocketException, OSError, TimeoutError):
        pass


def soak(options: argparse.Namespace) -> None:
    """Good and bad clients for minutes: check the good ones' texts and the service's memory."""
    said = utterances(options.cuts, 40)
    kinds = ("slow", "dropping", "lying", "oversized", "silent", "garbage")
    good = options.clients - options.clients // 3
    lost = asked = 0
    until = 0.0
    sizes: list[float] = []

    async def well(address: str, number: int, wanted: dict[int, str]) -> None:
        nonlocal lost, asked
        rng = random.Random(number)
        while time.monotonic() < until:
            index = rng.randrange(len(said))
            events = await client(address, said[index][0], pause_s=rng.uniform(0, 2))
            text = " ".join(e["text"] for _, e in events if e["type"] == "segment")
            asked += 1
            lost += text != wanted.setdefault(index, text)

    async def badly(address: str, number: int) -> None:
        rng = random.Random(-number)
        while time.monotonic() < until:
            await misbehave(address, rng.choice(said)[0], kinds[number % len(kinds)])
            await asyncio.sleep(rng.uniform(0, 1))

    async def watch(pid: int) -> None:
        while time.monotonic() < until:
            pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
            sizes.append(pages * resource.getpagesize() / 1e6)
            await asyncio.sleep(5)

    async def everything(address: str, pid: int) -> None:
        nonlocal until
        wanted: dict[int, str] = {}
        for index, (samples, _) in enumerate(said):  # the text of a single client
            events = await client(address, samples, real_time=False)
            wanted[index] = " ".join(e["text"] for _, e in events if e["type"] == "segment")
        until = time.monotonic() + 60 * options.minutes
        await asyncio.gather(
            *(well(address, number, wanted) for number in range(good)),
            *(badly(address, number) for number in range(options.clients // 3)),
            watch(pid),
        )

    with service(options.model, "--idle-s", "3") as (address, pid):
        asyncio.run(everything(address, pid))
        with urllib.request.urlopen(f"http://{address}/metrics") as page:
            left = re.findall(r"^dualmode_(?:streams|connections) \S+", page.read().decode(), re.M)
    third = max(1, len(sizes) // 3)
    print(f"streams of good clients: {asked}; with a different text than alone: {lost}")
    first, last = np.median(sizes[:third]), np.median(sizes[-third:])
    print(f"memory: {first:.0f} MB at the start, {last:.0f} MB at the end")
    print("left:", ", ".join(left))


def main() -> None:
    """Run one of the benchmarks."""
    layout = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    commands = parser.add_subparsers(required=True)
    for run in (rates, delays, words, soak):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("model", type=Path)
        if run is rates:
            command.add_argument("export", type=Path)
            command.add_argument("--engine", type=Path, help="artifact of dualmode export engine")
        command.add_argument("cuts", type=Path)
        command.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
        command.add_argument("--seconds", type=float, default=20.0)
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--most", type=int, default=300)
        command.add_argument("--minutes", type=float, default=30.0)
        command.add_argument("--clients", type=int, default=50)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
