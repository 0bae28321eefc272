"""The device engine compared with other runtimes: time of a step and size, on one thread.

    python -m benchmarks.engine [--recipe conformer-10m] [--rounds 40] [--json FILE]

All runtimes have the same random weights, which do not affect the time. Masks of every sparsity are
drawn from them. A step is one window of one stream through the encoder. Runtimes take turns step by
step, and times are processor time of the thread, so that other load affects all alike: compare the
ratios. ONNX Runtime runs the dense int8 export of `dualmode export sherpa-onnx --int8` (dynamic
quantisation), PyTorch the dense model in fp32 and with its own dynamic quantisation (int8 weights
with a scale per output).
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dualmode_engine
import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dualmode.config import Recipe
from dualmode.export.engine import export_engine
from dualmode.export.sherpa_onnx import export_sherpa_onnx
from dualmode.features import Framing
from dualmode.model.directory import LoadedModel
from dualmode.model.masks import PrunableLinear, draw_masks, prunable
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_recipe
from dualmode.text import train_tokens
from dualmode.whole_files import replace_text

SPARSITIES = (0.5, 0.7, 0.85, 0.9)
BLOCKS = ((8, 1), (8, 4), (16, 1))
CHUNKS = (16, 8, 4)
LEFT, LOOKAHEAD = 64, 4
FRAMING = Framing(40)
WARM_UP = 6  # steps until left context and caches are full


@dataclass
class Row:
    """A runtime, a function that runs one of its steps, and the times of its steps."""

    name: str
    chunk_ms: int
    step: Callable[[], Any]
    total_bytes: int = 0
    ms: list[float] = field(default_factory=list)


def random_model(recipe: Recipe, folder: Path) -> LoadedModel:
    """A supernet with random weights and masks, and tokens of artificial words."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(2000)]
    tokens = train_tokens(words, recipe.text, folder)
    torch.manual_seed(0)
    model = Supernet(tokens.size, recipe.model, recipe.pruning).eval()
    draw_masks(model.prunable(), recipe.pruning.sparsities)
    with torch.no_grad():
        bias = model.joiner.out.bias
        assert bias is not None
        bias[0] += 8
    return LoadedModel(model, recipe, tokens)


def recipe_of(name: str, block: tuple[int, int]) -> Recipe:
    """The recipe with the sparsities of this benchmark and blocks of outputs x inputs."""
    sparsities = ",".join(map(str, SPARSITIES))
    return load_recipe(
        name,
        [
            f"pruning.sparsities=[{sparsities}]",
            f"pruning.block_outputs={block[0]}",
            f"pruning.block_inputs={block[1]}",
        ],
    )


def engine_row(loaded: LoadedModel, folder: Path, subnet: Subnet, name: str) -> Row:
    """A stream of the engine's encoder."""
    context = subnet.context
    assert isinstance(context, ChunkedContext)
    path = folder / f"{name}-{context.chunk}.dual".replace(" ", "-")
    exported = export_engine(loaded, subnet, path)
    encoder = dualmode_engine.Encoder(dualmode_engine.Model(path).handle)
    framing = loaded.model.encoder.framing
    read = framing.mels_read(context.window)
    mels = np.random.default_rng(0).standard_normal((read, 80)).astype(np.float32)
    encoder.step(mels, context.window)
    later = np.ascontiguousarray(mels[framing.stride_mels * context.lookahead :])
    return Row(
        name,
        context.chunk * framing.frame_ms,
        lambda: encoder.step(later, context.window),
        exported.total_bytes,
    )


def onnx_row(folder: Path, context: ChunkedContext, graph: str) -> Row:
    """A stream of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = folder / "device" / graph
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    mels = np.random.default_rng(0).standard_normal((1, FRAMING.mels_read(context.window), 80))
    feed = {inputs[0].name: mels.astype(np.float32)}
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    for one in inputs[1:]:
        feed[one.name] = np.zeros((1, *one.shape[1:]), kinds[one.type])

    def step() -> None:
        outputs = session.run(None, feed)
        feed.update(zip((one.name for one in inputs[1:]), outputs[1:], strict=True))

    name = f"ONNX Runtime {'int8' if 'int8' in graph else 'fp32'} dense"
    return Row(name, context.chunk * FRAMING.frame_ms, step, path.stat().st_size)


class DenseLinear(nn.Module):
    """A linear map that ignores masks, in the form that PyTorch can quantise."""

    def __init__(self, layer: PrunableLinear) -> None:
        super().__init__()
        outputs, inputs = layer.weight.shape
        self.linear = nn.Linear(inputs, outputs, bias=layer.bias is not None)
        self.linear.load_state_dict(
            {name: value for name, value in layer.state_dict().items() if name != "blocks"}
        )

    def forward(self, x: Tensor, mask: int | None) -> Tensor:
        """Map (..., inputs) to (..., outputs), dense."""
        mapped: Tensor = self.linear(x)
        return mapped


def quantized(model: Supernet) -> Supernet:
    """The dense model with the weights of its linear maps in int8, quantised by PyTorch."""
    tools: Any = torch.ao.quantization
    copied = copy.deepcopy(model)
    for name, layer in prunable(copied).items():
        copied.set_submodule(name, DenseLinear(layer))
    with warnings.catch_warnings(action="ignore"):  # deprecated in favour of another package
        made: Supernet = tools.quantize_dynamic(
            copied, {nn.Linear: tools.per_channel_dynamic_qconfig}, dtype=torch.qint8
        )
    return made


def torch_row(model: Supernet, context: ChunkedContext, name: str) -> Row:
    """A stream of PyTorch, dense."""
    subnet = Subnet(context)
    mels = torch.randn(1, FRAMING.mels_read(context.window), 80)
    counts = torch.tensor([context.window])
    state = [model.initial_state(1, subnet)]

    def step() -> None:
        with torch.inference_mode():
            _, state[0] = model.stream(mels, counts, state[0], subnet)

    return Row(name, context.chunk * FRAMING.frame_ms, step)


def measure(rows: list[Row], rounds: int) -> None:
    """Run steps of all rows in turn."""
    for number in range(WARM_UP + rounds):
        for row in rows:
            before = time.thread_time()
            row.step()
            if number >= WARM_UP:
                row.ms.append(1e3 * (time.thread_time() - before))


def make_rows(recipe_name: str, folder: Path) -> list[Row]:
    """All rows of the benchmark."""
    rows = []
    for block in BLOCKS:
        loaded = random_model(recipe_of(recipe_name, block), folder)
        shape = f"{block[0]}x{block[1]}"
        for chunk in CHUNKS if block == (8, 1) else CHUNKS[:1]:
            context = ChunkedContext(chunk, LEFT, LOOKAHEAD)
            sparsities = SPARSITIES if (chunk, block) == (16, (8, 1)) else (0.7,)
            for sparsity in sparsities:
                name = f"engine int8 {sparsity:.0%} {shape}"
                rows.append(engine_row(loaded, folder, Subnet(context, sparsity), name))
            if block != (8, 1):
                continue
            rows.append(engine_row(loaded, folder, Subnet(context), "engine int8 dense"))
            exported = folder / f"onnx-{chunk}"
            export_sherpa_onnx(loaded, exported, {"device": Subnet(context)}, int8=True)
            rows.append(onnx_row(exported, context, "encoder.int8.onnx"))
            if chunk == CHUNKS[0]:
                rows.append(onnx_row(exported, context, "encoder.onnx"))
                rows.append(torch_row(loaded.model, context, "PyTorch fp32 dense"))
                rows.append(torch_row(quantized(loaded.model), context, "PyTorch int8 dense"))
    return rows


def report(rows: list[Row]) -> list[dict[str, Any]]:
    """Medians, and ratios to the engine at 70 % sparsity with the same chunk."""
    ours = {r.chunk_ms: r for r in rows if r.name == "engine int8 70% 8x1"}
    return [
        {
            "name": row.name,
            "chunk_ms": row.chunk_ms,
            "step_ms": float(np.median(row.ms)),
            "step_p99_ms": float(np.quantile(row.ms, 0.99)),
            # Rounds are paired, because load on the machine affects both in the same round.
            "ratio": float(np.median(np.divide(row.ms, ours[row.chunk_ms].ms))),
            "real_time_factor": float(np.median(row.ms)) / row.chunk_ms,
            "bytes": row.total_bytes,
        }
        for row in rows
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="conformer-10m")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = make_rows(arguments.recipe, Path(name))
        measure(rows, arguments.rounds)
    found = report(rows)
    table = Table(title=f"{platform.machine()}, kernels {dualmode_engine.kernel_names()[0]}")
    for header in ("what", "chunk ms", "step ms", "p99", "over engine 70 %", "RTF", "bytes"):
        table.add_column(header, justify="left" if header == "what" else "right")
    for row in found:
        table.add_row(
            row["name"],
            str(row["chunk_ms"]),
            f"{row['step_ms']:.2f}",
            f"{row['step_p99_ms']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['real_time_factor']:.4f}",
            f"{row['bytes']:,}" if row["bytes"] else "",
        )
    Console().print(table)
    if arguments.json:
        replace_text(arguments.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
