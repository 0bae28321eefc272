"""Cost of frames of 40 and of 80 ms: a training step, and a step of device in the engine.

    python -m benchmarks.frame_length [--recipes quickstart conformer-10m] [--rounds 7]

Each recipe is taken as it is, and with ``model.frame_ms=80`` and half as many frames of chunk, left
context and look-ahead, so that their times stay the same. Both run in turns in one process of one
thread, on random audio with random weights; the figures are 80 ms over 40 ms:

- floating-point operations of training for a second of audio, by torch's counter, of the whole run
  and of the encoder alone (its FLOPs in a forward pass of server);
- time of a training step (forward and backward of server and device, optimiser);
- processor time of a step of device (int8, sparse) in the engine, which advances by the same audio,
  and the bytes of its artifact.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.claim.cost import flop_counter, flops_per_audio_second
from benchmarks.engine import engine_row, random_model
from benchmarks.engine import measure as take_turns
from benchmarks.supernet_step import in_turns, make_batch, stepper
from dualmode.config import Recipe
from dualmode.model.backbone import Backbone
from dualmode.model.subnet import SERVER, device_subnet
from dualmode.recipe_files import load_recipe
from dualmode.whole_files import replace_text

_LENGTHS = (40, 80)
_BATCH_SECONDS = 40.0


def recipe_of(name: str, frame_ms: int) -> Recipe:
    """A recipe with frames of this length and contexts of the same times."""
    own = load_recipe(name)
    parts = frame_ms // own.model.frame_ms
    device = own.training.device_subnet
    frames = {
        key: getattr(device, key) // parts
        for key in ("chunk_frames", "left_frames", "lookahead_frames")
    }
    return load_recipe(
        name,
        [
            f"model.frame_ms={frame_ms}",
            *(f"training.device_subnet.{key}={count}" for key, count in frames.items()),
        ],
    )


def encoder_flops(recipe: Recipe) -> float:
    """FLOPs of server's encoder for a second of audio, forward only."""
    batch = make_batch(_BATCH_SECONDS, recipe.text.vocabulary_size, torch.device("cpu"))
    encoder = Backbone(recipe.model, recipe.pruning).eval()
    with torch.no_grad(), flop_counter() as counter:
        encoder(batch.features, batch.feature_lengths, SERVER)
    return float(counter.get_total_flops()) / batch.seconds


def training_ms(recipes: dict[int, Recipe], rounds: int) -> dict[int, float]:
    """Median time of a training step, in turns."""
    place = torch.device("cpu")
    steps = {}
    for frame_ms, recipe in recipes.items():
        batch = make_batch(_BATCH_SECONDS, recipe.text.vocabulary_size, place)
        subnets = {"server": SERVER, "device": device_subnet(recipe)}
        steps[str(frame_ms)] = stepper(recipe, batch, subnets, place)
    return {int(name): 1e3 * seconds for name, seconds in in_turns(steps, rounds).items()}


def engine_steps(recipes: dict[int, Recipe], rounds: int) -> dict[int, tuple[float, int]]:
    """Median processor time in ms of a step of device, in turns, and the bytes of the artifact."""
    with tempfile.TemporaryDirectory() as name:
        rows = {}
        for frame_ms, recipe in recipes.items():
            folder = Path(name) / str(frame_ms)
            folder.mkdir()
            loaded = random_model(recipe, folder)
            rows[frame_ms] = engine_row(loaded, folder, device_subnet(recipe), str(frame_ms))
        take_turns(list(rows.values()), rounds)
    return {key: (float(np.median(row.ms)), row.total_bytes) for key, row in rows.items()}


def measure(name: str, rounds: int, engine_rounds: int) -> dict[str, dict[str, float]]:
    """All figures of a recipe: for each quantity, those of both lengths and their ratio."""
    recipes = {frame_ms: recipe_of(name, frame_ms) for frame_ms in _LENGTHS}
    engine = engine_steps(recipes, engine_rounds)
    found = {
        "GFLOP, training, a second of audio": {
            k: flops_per_audio_second(recipe) / 1e9 for k, recipe in recipes.items()
        },
        "GFLOP, server's encoder, a second of audio": {
            k: encoder_flops(recipe) / 1e9 for k, recipe in recipes.items()
        },
        "ms, training step": training_ms(recipes, rounds),
        "ms, engine step of device": {k: ms for k, (ms, _) in engine.items()},
        "bytes, artifact": {k: float(size) for k, (_, size) in engine.items()},
    }
    return {
        what: {"40": values[40], "80": values[80], "ratio": values[80] / values[40]}
        for what, values in found.items()
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["quickstart", "conformer-10m"])
    parser.add_argument("--rounds", type=int, default=7, help="training steps of each")
    parser.add_argument("--engine-rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = {name: measure(name, given.rounds, given.engine_rounds) for name in given.recipes}
    table = Table("recipe", "what", "40 ms", "80 ms", "ratio")
    for name, found in results.items():
        for what, values in found.items():
            table.add_row(name, what, *(f"{values[key]:.4g}" for key in ("40", "80", "ratio")))
    Console().print(table)
    if given.json:
        replace_text(given.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
