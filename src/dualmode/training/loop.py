"""The training loop: one for every objective, resumable to the bit."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor

from dualmode.config import Recipe
from dualmode.data.batches import Batch, Position
from dualmode.errors import DualmodeError
from dualmode.model.directory import CONFIG, replace_text, save_model
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.training.card import write_card
from dualmode.training.checkpoint import FILE, Progress, load_checkpoint, save_checkpoint
from dualmode.training.finetune import Losses, Scale, finetune_step
from dualmode.training.journal import Journal
from dualmode.training.picture import draw_training
from dualmode.training.schedule import learning_rate, run_share, sparsity_reached
from dualmode.training.setup import Run, cpu_processes, make_fabric, set_up
from dualmode.training.validation import validate

FOLDER = "training"  # inside the model directory: checkpoint, logs, picture
_MOST_SKIPPED = 20  # steps in a row without a finite gradient


@dataclass
class _Window:
    """Sums since the last log line."""

    losses: dict[str, float]
    steps: int = 0
    audio_seconds: float = 0.0
    waiting_s: float = 0.0
    began: float = 0.0


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
    with _graceful_stop():  # the processes get the signal too, and it is they who act on it
        progress, finished = fabric.launch(
            _train_on_one_core, recipe, out, processes, fresh, console.width
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
    run: Run, progress: Progress, journal: Journal, stop: list[bool]
) -> tuple[Progress, bool]:
    config = run.recipe.training
    window = _Window({}, began=time.perf_counter())
    began = time.perf_counter() - progress.seconds
    batches = run.source.batches(Position(progress.epoch, progress.batch, progress.step))
    share = _agreed(run, run_share(progress.step, progress.seconds, config))
    skipped_in_a_row = 0
    while share < 1:
        waited = time.perf_counter()
        batch, position = next(batches)
        waited = time.perf_counter() - waited
        progress = _update_masks(run, progress, share)
        losses, norm, seconds, halt = _step(run, batch, progress.step, share, bool(stop))
        skipped_in_a_row = 0 if norm.isfinite() else skipped_in_a_row + 1
        if skipped_in_a_row == _MOST_SKIPPED:
            raise DualmodeError(
                f"{_MOST_SKIPPED} steps in a row had no finite gradient; the last good state is "
                "saved: lower training.learning_rate, or raise training.warmup_steps"
            )
        progress = replace(
            progress,
            step=position.step,
            epoch=position.epoch,
            batch=position.batch,
            seconds=time.perf_counter() - began,
            audio_seconds=progress.audio_seconds + seconds,
            skipped=progress.skipped + (skipped_in_a_row > 0),
        )
        share = _agreed(run, run_share(progress.step, progress.seconds, config))
        _gather(window, losses, norm, seconds, waited)
        journal.advance(share)
        ended = share >= 1
        if progress.step % config.log_every_steps == 0 or ended:
            _log(run, progress, share, window, journal)
            window = _Window({}, began=time.perf_counter())
        if progress.step % config.validate_every_steps == 0 or ended:
            progress = _validate(run, _update_masks(run, progress, share), journal)
        if progress.step % config.checkpoint_every_steps == 0 or ended or halt:
            _save(run, progress)
        if halt and not ended:
            return progress, False
    return progress, True


def _step(
    run: Run, batch: Batch, step: int, share: float, stopping: bool
) -> tuple[Losses, Tensor, float, bool]:
    """One optimiser step; returns its losses, gradient norm, audio seconds of all processes, and
    whether any process was asked to stop."""
    config, fabric, model = run.recipe.training, run.fabric, run.model
    batch = batch.to(fabric.device)
    frames = (batch.feature_lengths // 4).sum()
    sums = torch.tensor(
        [float(batch.token_lengths.sum()), float(frames), batch.seconds, float(stopping)],
        dtype=torch.float64,
    )
    if fabric.world_size > 1:
        sums = fabric.all_reduce(sums.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
    tokens, all_frames, seconds, stops = sums.tolist()
    world = fabric.world_size
    scale = Scale(max(tokens, 1.0) / world, max(all_frames, 1.0) / world)
    # Random numbers of a step follow from its number alone, so a resumed run draws the same.
    torch.manual_seed(_step_seed(config.seed, step, fabric.global_rank))
    model.train()
    with fabric.autocast():
        losses = finetune_step(
            model, batch, _subnets(run, step), config, scale, lambda loss: loss.backward()
        )
    parameters = [p for p in model.parameters() if p.grad is not None]
    _average_gradients(run, parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    if norm.isfinite():
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(step, share, config)
        run.optimizer.step()
        decay = min(config.average_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(run.average.parameters()), [p.detach() for p in model.parameters()], 1 - decay
        )
    run.optimizer.zero_grad(set_to_none=True)
    return losses, norm, seconds, stops > 0


def _agreed(run: Run, share: float) -> float:
    """The first process's share of the run: clocks differ, but all must stop at the same step."""
    if run.fabric.world_size == 1 or run.recipe.training.minutes is None:
        return share
    told = run.fabric.broadcast(torch.tensor(share, dtype=torch.float64))
    return float(told)


def _average_gradients(run: Run, parameters: list[torch.nn.Parameter]) -> None:
    """One all-reduce a step over all gradients, however many recognisers added to them."""
    if run.fabric.world_size == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    mean = run.fabric.all_reduce(flat, reduce_op="mean")
    at = 0
    for parameter in parameters:
        parameter.grad = mean[at : at + parameter.numel()].view_as(parameter).clone()  # type: ignore[index]
        at += parameter.numel()


def _subnets(run: Run, step: int) -> tuple[Subnet, ...]:
    """Device, and if the recipe says so one more subnet, drawn afresh each step."""
    if not run.recipe.training.sampled_subnet:
        return (run.device,)
    rng = random.Random(_step_seed(run.recipe.training.seed, step, -1))
    context = ChunkedContext(
        chunk=rng.choice((4, 8, 16, 32)),
        left=run.recipe.training.device.left_frames,
        lookahead=rng.choice((0, 2, 4, 8)),
    )
    return run.device, Subnet(context, rng.choice((0.0, *run.recipe.pruning.sparsities)))


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 4096 + rank + 1


def _update_masks(run: Run, progress: Progress, share: float) -> Progress:
    """Redraw the masks when it is time, from the current weights, until they are fixed."""
    pruning = run.recipe.pruning
    ended = share >= pruning.end
    due = share > pruning.start and progress.step % pruning.every_steps == 0
    if progress.masks_fixed or not (due or ended):
        return progress
    reached = sparsity_reached(share, pruning)
    draw_masks(
        run.model.prunable(),
        [target * reached for target in pruning.sparsities],
        allocation=pruning.allocation,
        layer_cap=pruning.layer_cap,
    )
    for ours, averaged in zip(run.model.prunable(), run.average.prunable(), strict=True):
        averaged.blocks.copy_(ours.blocks)
    return replace(progress, masks_fixed=ended)


def _gather(
    window: _Window, losses: Losses, norm: Tensor, seconds: float, waited: float
) -> None:
    for name, value in _named(losses).items():
        window.losses[name] = window.losses.get(name, 0.0) + value
    window.losses["gradient_norm"] = window.losses.get("gradient_norm", 0.0) + float(norm)
    window.steps += 1
    window.audio_seconds += seconds
    window.waiting_s += waited


def _named(losses: Losses) -> dict[str, float]:
    named = {}
    for field in fields(losses):
        part = getattr(losses, field.name)
        if part is not None:
            for term in fields(part):
                named[f"{field.name}/{term.name}"] = float(getattr(part, term.name))
    return named


def _over_processes(run: Run, values: dict[str, float]) -> dict[str, float]:
    """The mean over all processes, of which each knows the losses of its share of a batch."""
    if run.fabric.world_size == 1:
        return values
    mine = torch.tensor(list(values.values()), device=run.fabric.device)
    mean = run.fabric.all_reduce(mine, reduce_op="mean")
    return dict(zip(values, mean.tolist(), strict=True))  # type: ignore[union-attr]


def _log(run: Run, progress: Progress, share: float, window: _Window, journal: Journal) -> None:
    elapsed = time.perf_counter() - window.began
    values = _over_processes(run, {n: total / window.steps for n, total in window.losses.items()})
    reached = sparsity_reached(share, run.recipe.pruning) * run.device.sparsity
    values |= {
        "sparsity": reached,
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "audio_hours_per_hour": window.audio_seconds / elapsed,
        "waiting_share": window.waiting_s / elapsed,
        "audio_hours": progress.audio_seconds / 3600,
        "minutes": progress.seconds / 60,
    }
    journal.record(progress.step, values)
    journal.say(
        f"step {progress.step:6d}  server {values['server/transducer']:.3f}  "
        f"device {values['device/transducer']:.3f}  sparsity {reached:.2f}  "
        f"{values['audio_hours_per_hour']:.0f} h/h  waiting {values['waiting_share']:.0%}"
    )


def _validate(run: Run, progress: Progress, journal: Journal) -> Progress:
    """Measure the averaged weights; keep them if they are the best yet.

    Before the masks are fixed a device WER is not yet that of the target sparsity, so until then
    the newest weights are kept.
    """
    counts = validate(run.average, run.dev, run.tokens, run.device).to(run.fabric.device)
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
        save_checkpoint(
            path, run.model, run.average, run.optimizer, progress, run.recipe.to_yaml()
        )
        replace_text(run.out / CONFIG, run.recipe.to_yaml())


@contextmanager
def _graceful_stop() -> Iterator[list[bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a stop after the step; a second one is immediate."""
    asked: list[bool] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
