"""Speed of training with real batches, the data loader and all processes.

    python -m benchmarks.supernet_step --corpus runs/quickstart/corpus [--processes 2]

The values of ``training.step_sharing`` take turns of a few steps, each on batches from the loader
and on a single batch in memory. The latter is the upper limit, without the cost of loading and of
varying shapes.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.table import Table

from dualmode.config import Recipe
from dualmode.data.batches import Batch
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_recipe
from dualmode.training.checkpoint import Progress
from dualmode.training.finetuning import Finetuning
from dualmode.training.launch import KERNELS_KEPT
from dualmode.training.setup import Run, make_fabric, read_corpora, set_up
from dualmode.training.step import take_step, update_masks

WAYS = ("all", "split", "split_taught")
_TURN = 4  # steps
_WARM_UP = 2  # turns
_LATE = 0.9  # share of the run at which the transducer has its full weight and masks are fixed


def measure_real_steps(name: str, corpus: Path, processes: int, rounds: int) -> dict[str, Any]:
    """Hours of audio per hour of wall clock and of one core, by step sharing and kind of batch."""
    os.environ.setdefault(*KERNELS_KEPT)
    folders = [f"data.{split}=[{corpus / split}]" for split in ("train", "dev")]
    # Without curriculum and calm steps, so that batches are typical from the first step on.
    recipe = load_recipe(name, [*folders, "data.curriculum_steps=0", "data.calm_steps=0"])
    fabric = make_fabric(recipe.training, processes)
    if processes > 1:
        rates: Callable[..., Any] = _rates  # Fabric gives itself as the first argument
        found: dict[str, Any] = fabric.launch(rates, recipe, processes, rounds)
        return found
    fabric.launch()
    return _rates(fabric, recipe, processes, rounds)


def _rates(fabric: Fabric, recipe: Recipe, processes: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    with ExitStack() as stack:
        contenders: dict[tuple[str, str], tuple[Run[Supernet], Iterator[Batch]]] = {}
        for way in WAYS:
            training = recipe.training.model_copy(update={"step_sharing": way})
            out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = recipe.model_copy(update={"training": training})
            corpora = read_corpora(fabric, ours, out, processes)
            assert corpora.tokens is not None
            objective = Finetuning(ours, corpora.tokens)
            run = set_up(fabric, ours, out, objective, corpora, resuming=False)
            update_masks(run, Progress(), recipe.pruning.end)
            batches = stack.enter_context(closing(run.source.batches()))
            real = (batch for batch, _ in batches)
            contenders[way, "real"] = run, real
            contenders[way, "one batch"] = run, itertools.repeat(next(real))
        rates: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in contenders}
        for turn in range(_WARM_UP + rounds):
            for key, (run, source) in contenders.items():
                rate = _turn(run, source, turn)
                if turn >= _WARM_UP:
                    rates[key].append(rate)
    return {
        f"{way}, {kind}": {
            "hours_per_hour": statistics.median(wall for wall, _ in found),
            "hours_per_core_hour": statistics.median(core for _, core in found),
        }
        for (way, kind), found in rates.items()
    }


def _turn(run: Run[Supernet], batches: Iterator[Batch], turn: int) -> tuple[float, float]:
    """Seconds of audio per second of wall clock, and per second of this process's CPU time."""
    began, computed, audio_s = time.perf_counter(), time.process_time(), 0.0
    for number in range(_TURN):
        audio_s += take_step(run, next(batches), turn * _TURN + number, _LATE, False).seconds
    computed = time.process_time() - computed
    return audio_s / (time.perf_counter() - began), audio_s / run.fabric.world_size / computed


def table(results: dict[str, dict[str, Any]]) -> Table:
    """The results of :func:`measure_real_steps` by recipe."""
    shown = Table("recipe", "step", "batches", "hours per hour", "hours per core hour")
    for recipe, found in results.items():
        for key, values in found.items():
            way, kind = key.split(", ")
            speeds = (values["hours_per_hour"], values["hours_per_core_hour"])
            shown.add_row(recipe, way, kind, *(f"{speed:.0f}" for speed in speeds))
    return shown
