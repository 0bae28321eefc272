"""Services that are compared: ours with every runtime, and sherpa-onnx's Python streaming server.

All have the same network of random weights, calibrated to emit a token in about every eighth frame
of the recordings.
"""

from __future__ import annotations

import asyncio
import random
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engine import random_model, recipe_of
from benchmarks.serving_clients import BLOCK_S, SECOND, service, shifted
from dualmode.export.engine import export_engine
from dualmode.export.sherpa_onnx import export_sherpa_onnx
from dualmode.model.directory import LoadedModel, save_model
from dualmode.recognizer import Recognizer
from dualmode.runtime.pytorch import TorchModel

EMITTING = 0.12  # share of frames


def prepare(recipe_name: str, folder: Path, speech: np.ndarray) -> None:
    """Write ``model``, ``export`` and ``device.dual`` to ``folder``, unless they are there.

    Args:
        speech: (S,) samples on which the network emits tokens as often as others do on speech.
    """
    if (folder / "device.dual").is_file():
        return
    (folder / "model").mkdir(parents=True, exist_ok=True)
    loaded = random_model(recipe_of(recipe_name, (8, 1)), folder / "model")
    emit_some(loaded, speech)
    save_model(folder / "model", loaded.model, loaded.recipe)
    subnet = loaded.device_subnet
    export_sherpa_onnx(loaded, folder / "export", {"device": subnet}, int8=True)
    export_engine(loaded, subnet, folder / "device.dual")


def emit_some(loaded: LoadedModel, speech: np.ndarray) -> None:
    """Make the network emit a token in about every eighth frame of ``speech`` (S,)."""
    net, subnet = loaded.model, loaded.device_subnet
    recognizer = Recognizer(TorchModel(net, loaded.tokens, loaded.recipe))
    joiner = net.joiner
    with torch.no_grad():
        frames = torch.from_numpy(recognizer.frames([speech], subnet)[0][0])
        mean, deviation = frames.mean(dim=0), frames.std(dim=0)
        bias, blank = joiner.from_frames.bias, joiner.out.bias
        assert bias is not None
        assert blank is not None
        joiner.from_frames.weight.div_(deviation.unsqueeze(1))
        bias.sub_(mean).div_(deviation)
        # Each token changes the prediction, and so how likely the next one is: try and see.
        encoded, lengths = recognizer.frames([speech], subnet)
        low, high = float(blank[0]) - 20, float(blank[0]) + 20
        for _ in range(12):
            blank[0] = (low + high) / 2
            (outcome,) = recognizer.decode(encoded, lengths, subnet)
            rare = len(outcome.tokens) < EMITTING * int(lengths[0])
            low, high = (low, float(blank[0])) if rare else (float(blank[0]), high)


def peers(folder: Path, sherpa: Path | None) -> dict[str, Any]:
    """Context managers that run each service and yield its address and process id, by name."""
    ours = {"engine": "device.dual", "onnx": "export", "torch": "model"}
    found: dict[str, Any] = {
        f"dualmode, {name}": partial(service, folder / place, "--live", "model")
        for name, place in ours.items()
    }
    if sherpa is not None:
        for suffix in ("", ".int8"):
            name = f"sherpa-onnx{suffix.replace('.', ' ')}"
            found[name] = partial(sherpa_service, folder / "export" / "device", sherpa, suffix)
    return found


@contextmanager
def sherpa_service(export: Path, examples: Path, suffix: str) -> Iterator[tuple[str, int]]:
    """sherpa-onnx's ``streaming_server.py``, from a folder ``python-api-examples``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = {
        "encoder": f"encoder{suffix}.onnx",
        "decoder": "decoder.onnx",
        "joiner": f"joiner{suffix}.onnx",
        "tokens": "tokens.txt",
    }
    command = [sys.executable, "streaming_server.py", f"--port={port}", "--num-threads=1"]
    command += [f"--{name}={export.resolve() / file}" for name, file in files.items()]
    # Its default is batches of 3, which would not speed up more streams than 3.
    command += [
        "--doc-root=web",
        "--max-batch-size=64",
        "--max-queue-size=1000",
        "--max-active-connections=1000",
    ]
    process = subprocess.Popen(command, cwd=examples, stderr=subprocess.DEVNULL)
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"streaming_server.py ended: {shlex.join(command)}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(60)


async def sherpa_client(address: str, samples: np.ndarray, pause_s: float) -> list[float]:
    """Send samples in real time; the time of each message since the first sample."""
    from websockets.asyncio.client import connect

    times = []
    url = f"ws://{address}"
    async with connect(url, compression=None, proxy=None, max_size=None) as connection:
        await asyncio.sleep(pause_s)
        began = time.perf_counter()

        async def send() -> None:
            size = round(BLOCK_S * SECOND)
            for number, start in enumerate(range(0, len(samples), size)):
                due = began + (number + 1) * BLOCK_S
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await connection.send(samples[start : start + size].tobytes())
            await connection.send("Done")

        sending = asyncio.create_task(send())
        async for _ in connection:
            times.append(time.perf_counter() - began)
        await sending
    return times[:-1]  # the last one is the text of the whole


async def sherpa_together(
    address: str, whole: np.ndarray, count: int, seconds: float
) -> list[list[float]]:
    """What :func:`sherpa_client` returns for ``count`` clients at the same time."""
    rng = random.Random(0)
    return await asyncio.gather(
        *(
            sherpa_client(address, shifted(whole, row, seconds), rng.uniform(0, 1))
            for row in range(count)
        )
    )
