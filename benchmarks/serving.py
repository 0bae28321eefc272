"""The service under load: rates of the runtimes, delays, word error rates, soak.

    python -m benchmarks.serving rates MODEL EXPORT CUTS     streams that a runtime keeps up with
    python -m benchmarks.serving delays MODEL CUTS           real-time clients of one service
    python -m benchmarks.serving words MODEL CUTS            WER through the socket
    python -m benchmarks.serving capacity FOLDER CUTS        streams, against sherpa-onnx's server
    python -m benchmarks.serving soak MODEL CUTS --minutes 30

MODEL is a model directory, EXPORT its export by `dualmode export sherpa-onnx`, CUTS a CutSet.
FOLDER is where capacity keeps a network of random weights; --sherpa names sherpa-onnx's own folder
python-api-examples. Clients and service run on the same machine. Each computation uses one thread,
and runtimes are measured in turns, so that other load affects all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jiwer
import numpy as np

from benchmarks.serving_clients import BLOCK_S, SECOND, client, service, shifted, utterances
from benchmarks.serving_delays import capacity, delays
from benchmarks.serving_soak import soak
from dualmode.recognizer import Recognizer

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


def words(options: argparse.Namespace) -> None:
    """WER of texts from the socket, and of both recognisers on whole files."""
    said = utterances(options.cuts, options.most)
    recognizer = Recognizer.load(options.model)
    texts = [text for _, text in said]
    found: dict[str, list[str]] = {"captions (device)": [], "final (server)": []}
    same = revised = 0
    live = ["--live", str(options.live)] if options.live else []
    with service(options.model, *live) as (address, _):
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


def main() -> None:
    """Run one of the benchmarks."""
    layout = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    commands = parser.add_subparsers(required=True)
    for run in (rates, delays, words, soak, capacity):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.set_defaults(run=run)
        if run is capacity:
            command.add_argument("folder", type=Path)
            command.add_argument("--sherpa", type=Path, help="sherpa-onnx's python-api-examples")
            command.add_argument("--recipe", default="conformer-10m")
            command.add_argument("--only", nargs="+", help="services, by name; default: all")
        else:
            command.add_argument("model", type=Path)
        if run is rates:
            command.add_argument("export", type=Path)
            command.add_argument("--engine", type=Path, help="artifact of dualmode export engine")
        command.add_argument("cuts", type=Path)
        if run in (delays, words, soak):
            command.add_argument("--live", type=Path, help="as of dualmode serve")
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
