"""Cost of a supernet step, relative to separate training and to the speed of the machine.

    python -m benchmarks.supernet_step [--json FILE] [--recipes NAME ...]
    python -m benchmarks.supernet_step --corpus runs/quickstart/corpus [--processes 2]

For each recipe, by default those of 1.5 and 10 million parameters, with random audio, in one
process of one thread (training runs one such process per core) or on one GPU:

- time of a supernet step divided by the time of a dense full-context step and a sparse streaming
  step;
- hours of audio per hour of one process;
- FLOP/s (torch's counter, forward and backward) divided by those of a large matrix product in the
  same run and precision.

With ``--corpus``, see :mod:`benchmarks.real_steps`: complete training steps with real batches, for
each value of ``training.step_sharing``.

The variants take turns, and medians are reported, because timings are noisy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.real_steps import measure_real_steps, table
from dualmode.config import Recipe
from dualmode.data.batches import Batch
from dualmode.features import MEL_FRAME_MS
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import SERVER, Subnet, device_subnet
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_recipe
from dualmode.training.finetuning import accumulate
from dualmode.training.objective import LossDenominators
from dualmode.training.schedule import Weights
from dualmode.training.setup import make_optimizer, wants_bf16
from dualmode.whole_files import replace_text

_UTTERANCE_S = 5.0
_TOKENS_PER_S = 4
_MATMUL_SIZE = 2048


def make_batch(seconds: float, vocabulary: int, device: torch.device) -> Batch:
    """Random utterances of 5 s with 4 tokens per second."""
    rows = max(1, round(seconds / _UTTERANCE_S))
    mels, tokens = int(100 * _UTTERANCE_S), int(_TOKENS_PER_S * _UTTERANCE_S)
    batch = Batch(
        features=torch.randn(rows, mels, 80),
        feature_lengths=torch.full((rows,), mels),
        tokens=torch.randint(2, vocabulary, (rows, tokens)),
        token_lengths=torch.full((rows,), tokens),
        texts=[""] * rows,
        ids=[str(row) for row in range(rows)],
        seconds=rows * _UTTERANCE_S,
    )
    return batch.to(device)


def stepper(
    recipe: Recipe, batch: Batch, subnets: dict[str, Subnet], device: torch.device
) -> Callable[[], None]:
    """A function that runs one complete optimiser step of ``subnets``."""
    torch.manual_seed(0)
    model = Supernet(recipe.text.vocabulary_size, recipe.model, recipe.pruning).to(device)
    draw_masks(model.prunable(), recipe.pruning.sparsities)
    optimizer = make_optimizer(model, recipe)
    denominators = LossDenominators(
        float(batch.token_lengths.sum()),
        float(batch.feature_lengths.sum()) * MEL_FRAME_MS / recipe.model.frame_ms,
    )
    weights = Weights(1.0, recipe.training.ctc_weight)
    bf16 = wants_bf16(recipe.training.precision)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            accumulate(
                model, batch, subnets, recipe.training, weights, denominators, Tensor.backward
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def in_turns(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median time of each contender in seconds; they run in turns, ``rounds`` times."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(name: str, rounds: int, device: torch.device) -> dict[str, float]:
    """All measurements of one recipe."""
    recipe = load_recipe(name)
    batch = make_batch(40.0, recipe.text.vocabulary_size, device)
    streaming = device_subnet(recipe)
    dtype = torch.bfloat16 if wants_bf16(recipe.training.precision) else torch.float32
    left = torch.randn(_MATMUL_SIZE, _MATMUL_SIZE, dtype=dtype, device=device)

    def matmul() -> None:
        torch.matmul(left, left)
        if device.type == "cuda":
            torch.cuda.synchronize()

    supernet = stepper(recipe, batch, {"server": SERVER, "device": streaming}, device)
    seconds = in_turns(
        {
            "supernet": supernet,
            "dense": stepper(recipe, batch, {"server": SERVER}, device),
            "streaming": stepper(recipe, batch, {"device": streaming}, device),
            "matmul": matmul,
        },
        rounds,
    )
    with FlopCounterMode(display=False) as counter:
        supernet()
    reached = counter.get_total_flops() / seconds["supernet"]
    peak = 2 * _MATMUL_SIZE**3 / seconds["matmul"]
    return {
        "supernet_over_apart": seconds["supernet"] / (seconds["dense"] + seconds["streaming"]),
        "audio_hours_per_hour": batch.seconds / seconds["supernet"],
        "share_of_matmul": reached / peak,
        "matmul_gflops": peak / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--recipes", nargs="+", default=["quickstart", "conformer-10m"], help="shipped, or files"
    )
    parser.add_argument("--corpus", type=Path, help="folder of train and dev: real batches")
    parser.add_argument("--processes", type=int, default=1, help="with --corpus")
    arguments = parser.parse_args()
    if arguments.corpus:
        real = {
            name: measure_real_steps(name, arguments.corpus, arguments.processes, arguments.rounds)
            for name in arguments.recipes
        }
        Console().print(table(real))
        _write(arguments.json, real)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    results = {name: measure(name, arguments.rounds, device) for name in arguments.recipes}
    shown = Table("recipe", "supernet / (dense + streaming)", "hours per hour", "share of matmul")
    for name, values in results.items():
        shown.add_row(
            name,
            f"{values['supernet_over_apart']:.2f}",
            f"{values['audio_hours_per_hour']:.0f}",
            f"{values['share_of_matmul']:.2f} of {values['matmul_gflops']:.0f} GFLOP/s",
        )
    Console().print(shown)
    _write(arguments.json, results)


def _write(path: Path | None, results: dict[str, Any]) -> None:
    if path:
        replace_text(path, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
