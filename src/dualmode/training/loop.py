"""The training loop: one for every objective, resumable to the bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from dualmode.config import Recipe
from dualmode.data.batches import Position
from dualmode.errors import DualmodeError
from dualmode.model.directory import CONFIG, replace_text, save_model
from dualmode.training.card import write_card
from dualmode.training.checkpoint import FILE, Progress, load_checkpoint, save_checkpoint
from dualmode.training.journal import Journal
from dualmode.training.meter import Meter, describe
from dualmode.training.picture import draw_training
from dualmode.training.schedule import loss_weights, run_share, sparsity_reached
from dualmode.training.setup import Run, cpu_processes, make_fabric, set_up
from dualmode.training.step import take_step, update_masks
from dualmode.training.validation import validate

FOLDER = "training"  # inside the model directory: checkpoint, logs, picture
_ONE_SIGNAL_S = 1.0
_MOST_SKIPPED = 20  # steps in a row without a finite gradient


@dataclass(frozen=True)
class TrainingResult:
    """Where a run stopped: ``finished``, or interrupted and ready to be resumed."""

    out: Path
    progress: Progress
    finished: bool


def train(
    recipe: Recipe, out: str | Path, *, fresh: bool = False, console: Console | None = None
) -> TrainingResult:
    """Train the supernet of ``recipe`` into the model directory ``out``; go on where it stopped.

    Args:
        fresh: forget an earlier run of this directory instead of resuming it.

    Raises:
        CheckpointError: the directory holds a run of another recipe, or a corrupt one.
        DataError: the CutSets cannot be used.
    """
    out, console = Path(out), console or Console()
    processes = cpu_processes(recipe)
    fabric = make_fabric(recipe.training, processes)
    if processes == 1:
        fabric.launch()
        return _train(fabric, recipe, out, 1, fresh, console)
    on_one_core: Callable[..., Any] = _train_on_one_core
    with _graceful_stop():  # the processes get the signal too, and it is they who act on it
        progress, finished = fabric.launch(
            on_one_core, recipe, out, processes, fresh, console.width
        )
    return TrainingResult(out, Progress(**progress), finished)


def _train_on_one_core(
    fabric: Fabric, recipe: Recipe, out: Path, processes: int, fresh: bool, width: int
) -> tuple[dict[str, Any], bool]:
    """Progress and whether the run is finished, as plain values: Fabric hands back no others."""
    torch.set_num_threads(1)
    result = _train(fabric, recipe, out, processes, fresh, Console(width=width))
    return asdict(result.progress), result.finished


def _train(
    fabric: Fabric, recipe: Recipe, out: Path, shares: int, fresh: bool, console: Console
) -> TrainingResult:
    run = set_up(fabric, recipe, out, shares)
    checkpoint = out / FOLDER / FILE
    if fabric.is_global_zero:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        run.source.report.write(out / FOLDER / "left_out.json")
        console.print(run.source.report.summary(), highlight=False)
    fabric.barrier()
    progress = Progress()
    if checkpoint.is_file():
        progress = load_checkpoint(
            checkpoint, run.model, run.average, run.optimizer, recipe.to_yaml()
        )
    journal = Journal(out / FOLDER, progress.step, enabled=fabric.is_global_zero, console=console)
    if progress.step:
        journal.say(f"resuming after step {progress.step}")
    with journal, _graceful_stop() as stop:
        progress, finished = _loop(run, progress, journal, stop)
    if fabric.is_global_zero:
        draw_training(out / FOLDER)
        if finished:
            write_card(out, run.model, recipe, progress, run.source.seconds)
        else:
            console.print(f"stopped and saved after step {progress.step}; run it again to go on")
    return TrainingResult(out, progress, finished)


def _loop(
    run: Run, progress: Progress, journal: Journal, stop: list[float]
) -> tuple[Progress, bool]:
    config = run.recipe.training
    began = time.perf_counter() - progress.seconds
    batches = run.source.batches(Position(progress.epoch, progress.batch, progress.step))
    share = _agreed(run, run_share(progress.step, progress.seconds, config))
    meter, skipped_in_a_row = Meter(), 0
    while share < 1:
        waited = time.perf_counter()
        batch, position = next(batches)
        waited = time.perf_counter() - waited
        progress = update_masks(run, progress, share)
        result = take_step(run, batch, progress.step, share, bool(stop))
        skipped_in_a_row = 0 if result.gradient_norm.isfinite() else skipped_in_a_row + 1
        _check_skipped(skipped_in_a_row)
        progress = replace(
            progress,
            step=position.step,
            epoch=position.epoch,
            batch=position.batch,
            seconds=time.perf_counter() - began,
            audio_seconds=progress.audio_seconds + result.seconds,
            skipped=progress.skipped + (skipped_in_a_row > 0),
        )
        share = _agreed(run, run_share(progress.step, progress.seconds, config))
        meter.add(result, waited)
        journal.advance(share)
        ended = share >= 1
        if progress.step % config.log_every_steps == 0 or ended:
            _log(run, progress, share, meter, journal)
            meter = Meter()
        if progress.step % config.validate_every_steps == 0 or ended:
            progress = _validate(run, update_masks(run, progress, share), share, journal)
        if progress.step % config.checkpoint_every_steps == 0 or ended or result.halt:
            _save(run, progress)
        if result.halt and not ended:
            return progress, False
    return progress, True


def _check_skipped(in_a_row: int) -> None:
    if in_a_row == _MOST_SKIPPED:
        raise DualmodeError(
            f"{_MOST_SKIPPED} steps in a row had no finite gradient; the last good state is "
            "saved: lower training.learning_rate, or raise training.warmup_steps"
        )


def _agreed(run: Run, share: float) -> float:
    """The first process's share of the run: clocks differ, but all must stop at the same step."""
    if run.fabric.world_size == 1 or run.recipe.training.minutes is None:
        return share
    told = run.fabric.broadcast(torch.tensor(share, dtype=torch.float64))
    return float(told)


def _log(run: Run, progress: Progress, share: float, meter: Meter, journal: Journal) -> None:
    reached = sparsity_reached(share, run.recipe.pruning) * run.device.sparsity
    values = meter.read(run.fabric) | {
        "sparsity": reached,
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "audio_hours": progress.audio_seconds / 3600,
        "minutes": progress.seconds / 60,
    }
    journal.record(progress.step, values)
    journal.say(describe(progress.step, values))


def _validate(run: Run, progress: Progress, share: float, journal: Journal) -> Progress:
    """Measure the averaged weights; keep them if they are the best yet.

    Before the masks are fixed a device WER is not yet that of the target sparsity, so until then
    the newest weights are kept.
    """
    counts = validate(
        run.average,
        run.dev,
        run.tokens,
        run.device,
        blank_penalty=run.recipe.decoding.blank_penalty,
        by_ctc=loss_weights(share, run.recipe.training).transducer < 1,
    )
    counts = counts.to(run.fabric.device)
    if run.fabric.world_size > 1:
        counts = run.fabric.all_reduce(counts, reduce_op="sum")  # type: ignore[assignment]
    server, device, words = counts.tolist()
    rates = {"server": server / words, "device": device / words}
    record = {f"wer/{name}": rate for name, rate in rates.items()}
    journal.record(progress.step, {**record, "masks_fixed": float(progress.masks_fixed)})
    mean = sum(rates.values()) / len(rates)
    better = progress.best is None or mean < progress.best
    journal.say(
        f"step {progress.step:6d}  [bold]WER  server {rates['server']:.2%}  "
        f"device {rates['device']:.2%}[/bold]"
    )
    if run.fabric.is_global_zero and (better or not progress.masks_fixed):
        save_model(run.out, run.average, run.recipe)
    if progress.masks_fixed and better:
        progress = replace(progress, best=mean)
    return progress


def _save(run: Run, progress: Progress) -> None:
    if run.fabric.is_global_zero:
        path = run.out / FOLDER / FILE
        save_checkpoint(path, run.model, run.average, run.optimizer, progress, run.recipe.to_yaml())
        replace_text(run.out / CONFIG, run.recipe.to_yaml())


@contextmanager
def _graceful_stop() -> Iterator[list[float]]:
    """Turn the first Ctrl-C (or SIGTERM) into a stop after the step; a later one is immediate.

    A process that only waits for others passes the signal on; those may have had it from the
    terminal already, so what arrives within a second counts as one.
    """
    asked: list[float] = []

    def ask(number: int, frame: object) -> None:
        if asked and time.monotonic() - asked[0] > _ONE_SIGNAL_S:
            raise KeyboardInterrupt
        asked.append(time.monotonic())
        for child in multiprocessing.active_children():
            if child.pid is not None and not child.daemon:
                os.kill(child.pid, number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
