"""Memory and start of the device engine and of sherpa-onnx, each in processes of its own.

    python -m benchmarks.engine_memory [--recipe conformer-10m] [--runs 3] [--json FILE]

All have the same network with random weights. A process opens it, streams 20 s of audio in blocks
of 10 ms on one thread and prints the peak of its resident memory before opening and at the end
(VmHWM of Linux), and the processor time of opening and of everything up to the first result of the
encoder. Python's own memory is part of both peaks; the last row is the command, without Python.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SAMPLE_RATE_HZ = 16000
BLOCK = SAMPLE_RATE_HZ // 100
SECONDS = 20


def peak_mb() -> float:
    """Peak of the resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def open_engine(path: Path) -> Callable[[], Callable[[np.ndarray], bool]]:
    """Open an artifact; the result opens a stream, a function that returns whether it advanced."""
    import dualmode_engine

    def start() -> Callable[[np.ndarray], bool]:
        stream = dualmode_engine.Model(path).stream()

        def push(samples: np.ndarray) -> bool:
            stream.push(samples)
            return bool(stream.handle.partial()["seconds"] > 0)

        return push

    return start


def open_sherpa(path: Path, suffix: str) -> Callable[[], Callable[[np.ndarray], bool]]:
    """Open an export in sherpa-onnx, in the same way."""
    import sherpa_onnx

    def start() -> Callable[[np.ndarray], bool]:
        recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
            encoder=str(path / f"encoder{suffix}.onnx"),
            decoder=str(path / "decoder.onnx"),
            joiner=str(path / f"joiner{suffix}.onnx"),
            tokens=str(path / "tokens.txt"),
            num_threads=1,
        )
        stream = recognizer.create_stream()

        def push(samples: np.ndarray) -> bool:
            stream.accept_waveform(SAMPLE_RATE_HZ, samples)
            advanced = False
            while recognizer.is_ready(stream):
                recognizer.decode_stream(stream)
                recognizer.get_result(stream)
                advanced = True
            return advanced

        return push

    return start


def child(kind: str, path: Path) -> dict[str, float]:
    """Measure one runtime in this process."""
    start = open_engine(path) if kind == "engine" else open_sherpa(path, kind)
    samples = np.random.default_rng(0).normal(0, 0.1, SECONDS * SAMPLE_RATE_HZ)
    blocks = samples.astype(np.float32).reshape(-1, BLOCK)
    before_mb = peak_mb()
    began = time.process_time()
    push = start()
    opened = time.process_time()
    first: tuple[float, float] | None = None
    for number, block in enumerate(blocks):
        if push(block) and first is None:
            first = (time.process_time() - opened, 10.0 * (number + 1))
    assert first is not None
    return {
        "before_mb": before_mb,
        "peak_mb": peak_mb(),
        "open_ms": 1e3 * (opened - began),
        "first_step_ms": 1e3 * first[0],
        "first_step_audio_ms": first[1],
    }


def run(command: list[str]) -> dict[str, Any]:
    """Run a command that prints JSON."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_child(kind: str, path: Path) -> dict[str, Any]:
    """Measure a runtime in a process of its own."""
    return run([sys.executable, "-m", "benchmarks.engine_memory", "--child", kind, str(path)])


def run_bench(command: str, path: Path) -> dict[str, Any]:
    """Measure the engine's command."""
    found = run([command, "bench", str(path), "--seconds", str(SECONDS)])
    found["before_mb"] = found.pop("peak_before_open_mb")
    return found


def measure(recipe: str, command: str, runs: int, folder: Path) -> list[dict[str, Any]]:
    """All rows: a name, the bytes of the files, and medians of the runs."""
    from benchmarks.engine import LEFT, LOOKAHEAD, random_model, recipe_of
    from dualmode.export.engine import export_engine
    from dualmode.export.sherpa_onnx import export_sherpa_onnx
    from dualmode.model.subnet import ChunkedContext, Subnet

    loaded = random_model(recipe_of(recipe, (8, 1)), folder)
    context = ChunkedContext(16, LEFT, LOOKAHEAD)
    sparse, dense = folder / "sparse.dual", folder / "dense.dual"
    export_engine(loaded, Subnet(context, 0.7), sparse)
    export_engine(loaded, Subnet(context), dense)
    export_sherpa_onnx(loaded, folder, {"device": Subnet(context)}, int8=True)
    export = folder / "device"
    cases: list[tuple[str, list[Path], Callable[[], dict[str, Any]]]] = [
        ("engine, int8, 70 % sparse", [sparse], lambda: run_child("engine", sparse)),
        ("engine, int8, dense", [dense], lambda: run_child("engine", dense)),
        (
            "sherpa-onnx, int8, dense",
            [export / name for name in ("encoder.int8.onnx", "decoder.onnx", "joiner.int8.onnx")],
            lambda: run_child(".int8", export),
        ),
        (
            "sherpa-onnx, fp32, dense",
            [export / name for name in ("encoder.onnx", "decoder.onnx", "joiner.onnx")],
            lambda: run_child("", export),
        ),
        ("dualmode-engine, int8, 70 % sparse", [sparse], lambda: run_bench(command, sparse)),
    ]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in cases}
    for _ in range(runs):
        for name, _, measured in cases:
            found[name].append(measured())
    rows = []
    for name, files, _ in cases:
        row: dict[str, Any] = {"name": name, "bytes": sum(p.stat().st_size for p in files)}
        keys = ("before_mb", "peak_mb", "open_ms", "first_step_ms")
        row |= {key: median(one[key] for one in found[name]) for key in keys}
        row |= {k: found[name][0].get(k) for k in ("first_step_audio_ms", "state_bytes")}
        rows.append(row)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="conformer-10m")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--command", default=str(Path(sys.executable).parent / "dualmode-engine"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, path = options.child
        print(json.dumps(child(kind, Path(path))))
        return
    with tempfile.TemporaryDirectory() as name:
        rows = measure(options.recipe, options.command, options.runs, Path(name))
    print("| process | bytes of files | peak before opening | peak | open | first step |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['bytes']:,} | {row['before_mb']:.1f} MB "
            f"| {row['peak_mb']:.1f} MB | {row['open_ms']:.1f} ms | {row['first_step_ms']:.1f} ms |"
        )
    heard = {row["name"]: row["first_step_audio_ms"] for row in rows if row["first_step_audio_ms"]}
    print("audio before the first step:", ", ".join(f"{n}: {ms:g} ms" for n, ms in heard.items()))
    print(f"state of a stream of the engine: {rows[-1]['state_bytes']:,} bytes")
    if options.json:
        from dualmode.whole_files import replace_text

        replace_text(options.json, json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
