"""Start a training run in one or several processes, and report errors of any of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pydantic import TypeAdapter
from rich.console import Console
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from dualmode import errors
from dualmode.config import Recipe
from dualmode.errors import DualmodeError
from dualmode.training.checkpoint import FILE, Progress
from dualmode.training.loop import FOLDER, train_here
from dualmode.training.setup import cpu_processes, make_fabric
from dualmode.training.stopping import graceful_stop

_ERROR_MARK = "dualmode error: "
# oneDNN prepares a kernel for each shape of each operation. Batches have few shapes, but a step has
# more operations than its cache of 1024 entries. oneDNN reads this with its first kernel.
KERNELS_KEPT = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")
# Messages of the other processes, which may come first, after a process of a group has died.
_PEER_IS_GONE = ("Connection closed by peer", "Connection reset by peer")


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a run: ``finished``, or interrupted and ready to be resumed."""

    out: Path
    progress: Progress
    finished: bool


def train(
    recipe: Recipe, out: str | Path, *, fresh: bool = False, console: Console | None = None
) -> TrainingResult:
    """Train the supernet of ``recipe`` in the model directory ``out``, resuming an earlier run.

    Args:
        recipe: the recipe, for example from ``dualmode.load_recipe``.
        out: model directory to write.
        fresh: discard an earlier run of this directory instead of resuming it.
        console: where messages are printed; None is the standard output.

    Raises:
        CheckpointError: the directory contains a corrupt run, or a run of another recipe.
        DataError: the CutSets cannot be used.
    """
    out, console = Path(out), console or Console()
    os.environ.setdefault(*KERNELS_KEPT)
    processes = cpu_processes(recipe)
    fabric = make_fabric(recipe.training, processes)
    if processes == 1:
        fabric.launch()
        progress, finished = train_here(fabric, recipe, out, 1, fresh, console)
    else:
        progress, finished = _on_every_core(fabric, recipe, out, processes, fresh, console)
    if not finished and fabric.is_global_zero:
        console.print(
            f"stopped and saved after step {progress.step}; run the same command again to resume"
        )
    return TrainingResult(out, progress, finished)


def _on_every_core(
    fabric: Fabric, recipe: Recipe, out: Path, processes: int, fresh: bool, console: Console
) -> tuple[Progress, bool]:
    on_one_core: Callable[..., Any] = _on_one_core
    with graceful_stop() as asked:  # the signal is forwarded to the processes, which act on it
        try:
            values, finished = fabric.launch(
                on_one_core, recipe, out, processes, fresh, console.width
            )
        except ProcessException as error:
            if asked:  # the signal came before the processes had started
                raise KeyboardInterrupt from None
            raise (_carried_error(str(error)) or _killed(error, out) or error) from None
    return TypeAdapter(Progress).validate_python(values), finished


def _on_one_core(
    fabric: Fabric, recipe: Recipe, out: Path, processes: int, fresh: bool, width: int
) -> tuple[dict[str, Any], bool]:
    """Train in one of several processes; results and errors are returned as plain values."""
    torch.set_num_threads(1)
    try:
        progress, finished = train_here(fabric, recipe, out, processes, fresh, Console(width=width))
    except DualmodeError as error:
        carried = json.dumps([type(error).__name__, str(error)])
        raise RuntimeError(f"{_ERROR_MARK}{carried}") from None
    return asdict(progress), finished


def _carried_error(message: str) -> DualmodeError | None:
    """The error that a process raised, parsed from the text of its traceback."""
    for line in message.splitlines():
        _, mark, carried = line.partition(_ERROR_MARK)
        if mark:
            name, text = json.loads(carried)
            kind: type[DualmodeError] = getattr(errors, name)
            return kind(text)
    return None


def _killed(error: ProcessException, out: Path) -> DualmodeError | None:
    """The error for a process that was killed; None if it ended with an exception."""
    if isinstance(error, ProcessExitedException):
        how = error.signal_name or f"exit code {error.exit_code}"
    elif any(sign in str(error) for sign in _PEER_IS_GONE):
        how = "its connections closed"
    else:
        return None
    saved = (out / FOLDER / FILE).is_file()
    again = "resumes from the last checkpoint" if saved else "starts over: no checkpoint exists"
    return DualmodeError(
        f"a training process was killed ({how}), most often because memory ran out. The same "
        f"command {again}. --set training.processes=1 and --set data.workers=0 need less memory "
        "and may be added to a run that resumes; a smaller data.batch_seconds needs a new run "
        "(--fresh)"
    )
