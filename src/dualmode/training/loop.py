"""The training loop of all objectives; resumed runs are bit-identical to uninterrupted ones.

It runs in every process that :mod:`dualmode.training.launch` starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.markup import escape

from dualmode.config import Recipe
from dualmode.data.batches import Batch, Position
from dualmode.data.left_out import Problem
from dualmode.data.manifests import cuts_file
from dualmode.errors import CheckpointError, DataError, DualmodeError, ModelError
from dualmode.model.directory import CONFIG, WEIGHTS, save_model
from dualmode.text import TOKENS_MODEL, TOKENS_TXT
from dualmode.training.best_rq import BestRqPretraining
from dualmode.training.checkpoint import FILE, Progress, load_checkpoint, save_checkpoint
from dualmode.training.finetuning import Finetuning
from dualmode.training.journal import LOG, Journal
from dualmode.training.meter import Meter
from dualmode.training.objective import Model
from dualmode.training.original import read_original
from dualmode.training.phones import PhonePretraining
from dualmode.training.pretraining import Pretraining
from dualmode.training.schedule import run_share, sparsity_reached
from dualmode.training.setup import Run, read_corpora, set_up
from dualmode.training.step import take_step, update_masks
from dualmode.training.stopping import graceful_stop
from dualmode.whole_files import remove_unfinished, replace_text

FOLDER = "training"  # folder of checkpoint, logs and plot inside the model directory
_UNREADABLE_SHOWN = 5  # unreadable utterances printed; a file lists all
_MOST_SKIPPED = 20  # consecutive steps without a finite gradient


def train_here(
    fabric: Fabric, recipe: Recipe, out: Path, shares: int, fresh: bool, console: Console
) -> tuple[Progress, bool]:
    """Train as one of the processes of ``fabric``; ``shares`` processes share the recipe's batch.

    Returns:
        the progress, and whether the run is finished rather than interrupted.
    """
    checkpoint = out / FOLDER / FILE
    original = read_original(recipe, fabric.device)
    with graceful_stop() as stop:
        if fabric.is_global_zero:
            _check_output(out, recipe, fresh)
            _clean(out, keep=checkpoint.is_file() and not fresh)
        fabric.barrier()
        resuming = checkpoint.is_file()
        corpora = read_corpora(fabric, recipe, out, shares)
        if corpora.tokens is None and recipe.pretraining.objective == "phones":
            phones = PhonePretraining(recipe)
            classifier = set_up(fabric, recipe, out, phones, corpora, resuming=resuming)
            return _go_on(classifier, resuming, console, stop)
        if corpora.tokens is None and recipe.pretraining.objective == "best_rq":
            best_rq = BestRqPretraining(recipe)
            predictor = set_up(fabric, recipe, out, best_rq, corpora, resuming=resuming)
            return _go_on(predictor, resuming, console, stop)
        if corpora.tokens is None:
            pretraining = Pretraining(recipe)
            encoder = set_up(fabric, recipe, out, pretraining, corpora, resuming=resuming)
            return _go_on(encoder, resuming, console, stop)
        finetuning = Finetuning(recipe, corpora.tokens, original)
        recogniser = set_up(
            fabric, recipe, out, finetuning, corpora, resuming=resuming, original=original
        )
        return _go_on(recogniser, resuming, console, stop)


def _go_on(
    run: Run[Model], resuming: bool, console: Console, stop: list[float]
) -> tuple[Progress, bool]:
    """Train from the beginning or from the checkpoint, then write the plot and the model card."""
    folder, progress, first = run.out / FOLDER, run.begin, run.fabric.is_global_zero
    if resuming:
        progress = load_checkpoint(
            folder / FILE, run.model, run.average, run.optimizer, run.score, run.recipe
        )
    run.source.report.leave_out_new(progress.unreadable)
    if first:
        for name, source in (("train", run.source), ("dev", run.dev)):
            source.report.write(folder / f"left_out_{name}.json")
            console.print(f"{name}: {source.report.summary()}", highlight=False)
        if run.note:
            console.print(f"[yellow]{escape(run.note)}[/yellow]", highlight=False, soft_wrap=True)
    with Journal(folder, progress.step, enabled=first, console=console) as journal:
        if progress.step:
            journal.say(f"resuming after step {progress.step}")
        progress, finished = _loop(run, progress, journal, stop)
    if first:
        run.objective.draw(folder)
    if first and finished:
        run.objective.write_card(run.out, run.model, run.recipe, progress, run.source.seconds)
    return progress, finished


def _check_output(out: Path, recipe: Recipe, fresh: bool) -> None:
    """Check paths before anything in ``out`` is changed, so that no model is destroyed.

    Raises:
        DataError: a CutSet is missing.
        ModelError: the model to start from is missing, or is ``out`` itself.
        CheckpointError: ``out`` contains a model that was not trained there.
    """
    noise = (recipe.data.noise,) if recipe.data.noise else ()
    for path in (*recipe.data.train, *recipe.data.dev, *noise):
        cuts_file(path)
    begun = any((out / FOLDER / name).exists() for name in (FILE, LOG))
    if recipe.init.model is not None and (fresh or not begun):
        start = Path(recipe.init.model)
        if start.resolve() == out.resolve():
            raise ModelError(f"{out} is the model to start from: choose another --out")
        if not (start / WEIGHTS).is_file():
            raise ModelError(f"{start} has no model to start from: {WEIGHTS} is missing")
    if (out / WEIGHTS).exists() and not begun and not fresh:
        raise CheckpointError(
            f"{out} contains a model that was not trained there and would be replaced; choose "
            "another --out, or add --fresh to replace it"
        )


def _clean(out: Path, *, keep: bool) -> None:
    """Remove unfinished files of a killed process and, unless ``keep``, all files of an earlier
    run, so that its tokens and scores are not used by this one."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for folder in (out, out / FOLDER):
        remove_unfinished(folder)
    if not keep:
        run_files = (f"{FOLDER}/{FILE}", f"{FOLDER}/{LOG}")
        for name in (TOKENS_MODEL, TOKENS_TXT, WEIGHTS, "evaluation.json", *run_files):
            (out / name).unlink(missing_ok=True)


def _loop(
    run: Run[Model], progress: Progress, journal: Journal, stop: list[float]
) -> tuple[Progress, bool]:
    began = time.perf_counter() - progress.seconds
    start = Position(progress.epoch, progress.batch, progress.step)
    # Closed on errors too: a traceback would keep the data workers and the process alive.
    with closing(run.source.batches(start)) as batches:
        return _steps(run, progress, batches, began, journal, stop)


def _steps(
    run: Run[Model],
    progress: Progress,
    batches: Iterator[tuple[Batch, Position]],
    began: float,
    journal: Journal,
    stop: list[float],
) -> tuple[Progress, bool]:
    config = run.recipe.training
    share = _agreed(run, run_share(progress.step, progress.seconds, config))
    meter, skipped_in_a_row = Meter(), 0
    while share < 1:
        waited = time.perf_counter()
        batch, position = next(batches)
        waited = time.perf_counter() - waited
        progress = update_masks(run, progress, share)
        result = take_step(run, batch, progress.step, share, bool(stop))
        skipped_in_a_row = 0 if result.finite else skipped_in_a_row + 1
        _check_skipped(run, skipped_in_a_row)
        progress = _note_unreadable(run, progress, result.unreadable, journal)
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


def _check_skipped(run: Run[Model], in_a_row: int) -> None:
    """Stop a run that has diverged. Its weights are not saved.

    Raises:
        DualmodeError: too many consecutive steps were skipped; says which model was kept.
    """
    if in_a_row < _MOST_SKIPPED:
        return
    model = run.out / WEIGHTS
    kept = f"{model} is that of the last validation" if model.is_file() else "no model was saved"
    raise DualmodeError(
        f"{_MOST_SKIPPED} steps in a row had no finite gradient, so the run has diverged; {kept}. "
        "Start again with --fresh and a lower training.learning_rate or more training.warmup_steps"
    )


def _note_unreadable(
    run: Run[Model], progress: Progress, problems: Sequence[Problem], journal: Journal
) -> Progress:
    """Report utterances that could not be read for the first time; the same in all processes.

    Raises:
        DataError: a larger share of the training set is unreadable than the recipe allows.
    """
    known = progress.unreadable
    new = run.source.report.leave_out_new(problems)
    if not new:
        return progress
    together = (*known, *new)
    path = run.out / FOLDER / "left_out_train.json"
    if run.fabric.is_global_zero:
        run.source.report.write(path)
    for problem in new[: max(0, _UNREADABLE_SHOWN - len(known))]:
        journal.say(f"[yellow]left out: {escape(problem.why)}[/yellow]")
    allowed = run.recipe.data.max_unreadable_share
    if len(together) > allowed * run.source.report.kept:
        raise DataError(
            f"{len(together)} of {run.source.report.kept} utterances cannot be read, more than "
            f"data.max_unreadable_share={allowed:g} allows; {path} lists them. The last one: "
            f"{together[-1].why}"
        )
    return replace(progress, unreadable=together)


def _agreed(run: Run[Model], share: float) -> float:
    """The first process's share of the run, since clocks differ and all must stop together."""
    if run.fabric.world_size == 1 or run.recipe.training.minutes is None:
        return share
    agreed = run.fabric.broadcast(torch.tensor(share, dtype=torch.float64))
    return float(agreed)


def _log(run: Run[Model], progress: Progress, share: float, meter: Meter, journal: Journal) -> None:
    reached = max(sparsity_reached(share, run.recipe.pruning), progress.sparsity_kept)
    values = meter.read(run.fabric) | {
        "sparsity": reached * max(subnet.sparsity for subnet in run.subnets.values()),
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "audio_hours": progress.audio_seconds / 3600,
        "minutes": progress.seconds / 60,
    }
    journal.record(progress.step, values)
    finite = meter.skipped < meter.steps
    losses = run.objective.describe(values) if finite else "no step had a finite gradient"
    journal.say(
        f"step {progress.step:6d}  {losses}  "
        f"sparsity {values['sparsity']:.2f}  {values['audio_hours_per_hour']:.0f} h/h  "
        f"waiting {values['waiting_share']:.0%}"
    )


def _validate(run: Run[Model], progress: Progress, share: float, journal: Journal) -> Progress:
    """Validate the averaged weights, and save them if they are the best so far.

    Until the masks are fixed and the objective has settled, scores are not those of the final
    recognisers, so the newest weights are saved.
    """
    objective = run.objective
    sums = objective.measure(run.average, run.dev, share).to(run.fabric.device)
    if run.fabric.world_size > 1:
        sums = torch.as_tensor(run.fabric.all_reduce(sums, reduce_op="sum"))
    if run.fabric.is_global_zero:
        run.dev.report.write(run.out / FOLDER / "left_out_dev.json")
    result = objective.judge(sums.cpu(), share)
    settled = progress.masks_fixed and objective.settled(share)
    journal.record(progress.step, {**result.values, "settled": float(settled)})
    journal.say(f"step {progress.step:6d}  [bold]{result.line}[/bold]")
    for warning in result.warnings:
        journal.say(f"[yellow]{warning}[/yellow]")
    best, score = progress.best, result.score
    # There is no best score until scores are comparable; until then save the newest weights.
    better = score is None or best is None or score < best
    if run.fabric.is_global_zero and better:
        save_model(run.out, run.average, run.recipe)
    if settled and better:
        progress = replace(progress, best=result.score)
    return progress


def _save(run: Run[Model], progress: Progress) -> None:
    if run.fabric.is_global_zero:
        path = run.out / FOLDER / FILE
        save_checkpoint(
            path, run.model, run.average, run.optimizer, run.score, progress, run.recipe
        )
        replace_text(run.out / CONFIG, run.recipe.to_yaml())
