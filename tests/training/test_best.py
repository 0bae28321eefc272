"""Which weights of a run are kept, and what a run that cannot go on says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dualmode.config import DataConfig, Recipe
from dualmode.data.left_out import Problem, Report
from dualmode.errors import DataError, DualmodeError
from dualmode.model.directory import WEIGHTS
from dualmode.training import loop
from dualmode.training.checkpoint import Progress
from dualmode.training.objective import ValidationResult


class Journal:
    """Keeps what is recorded and said."""

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []
        self.lines: list[str] = []

    def record(self, step: int, values: dict[str, float]) -> None:
        self.records.append(values)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every set of weights that was kept, in order."""
    names: list[str] = []
    monkeypatch.setattr(loop, "save_model", lambda out, model, recipe: names.append(model))
    return names


def make_run(out: Path, settled: bool = True, **data: Any) -> Any:
    scores: list[float | None] = []

    def judge(sums: torch.Tensor, share: float) -> ValidationResult:
        return ValidationResult({"wer/server": float(sums)}, scores.pop(0), "line")

    (out / loop.FOLDER).mkdir(exist_ok=True)
    source = SimpleNamespace(report=Report("train", kept=100))
    return SimpleNamespace(
        out=out,
        scores=scores,
        average="?",
        recipe=Recipe(name="r", data=DataConfig(**data)),
        source=source,
        dev=SimpleNamespace(report=Report("dev")),
        fabric=SimpleNamespace(world_size=1, is_global_zero=True, device=torch.device("cpu")),
        objective=SimpleNamespace(
            measure=lambda model, dev, share: torch.tensor(0.5),
            judge=judge,
            settled=lambda share: settled,
        ),
    )


def validate(run: Any, progress: Progress, name: str, score: float | None) -> Progress:
    run.average = name
    run.scores.append(score)
    return loop._validate(run, progress, 0.9, Journal())


def test_from_the_fixing_of_the_masks_on_the_best_weights_are_kept(
    tmp_path: Path, kept: list[str]
) -> None:
    run, progress = make_run(tmp_path), Progress(masks_fixed=True)
    for name, score in (("a", 0.5), ("b", 0.7), ("c", 0.4), ("d", 0.4), ("e", 0.41), ("f", 0.1)):
        progress = validate(run, progress, name, score)
    assert kept == ["a", "c", "f"]
    assert progress.best == 0.1


def test_until_then_the_newest_weights_are_kept_and_count_for_nothing(
    tmp_path: Path, kept: list[str]
) -> None:
    run, progress = make_run(tmp_path), Progress()
    for name, score in (("a", 0.1), ("b", 0.7)):
        progress = validate(run, progress, name, score)
    assert kept == ["a", "b"]
    assert progress.best is None
    progress = validate(run, Progress(masks_fixed=True), "c", 0.9)
    assert kept == ["a", "b", "c"]
    assert progress.best == 0.9


def test_figures_of_an_objective_that_has_not_settled_choose_nothing(
    tmp_path: Path, kept: list[str]
) -> None:
    run, progress = make_run(tmp_path, settled=False), Progress(masks_fixed=True)
    for name, score in (("a", 0.1), ("b", 0.7)):
        progress = validate(run, progress, name, score)
    assert kept == ["a", "b"]
    assert progress.best is None


def test_a_resumed_run_remembers_its_best(tmp_path: Path, kept: list[str]) -> None:
    progress = Progress(masks_fixed=True, best=0.3)
    validate(make_run(tmp_path), progress, "worse", 0.31)
    assert kept == []
    assert validate(make_run(tmp_path), progress, "better", 0.29).best == 0.29
    assert kept == ["better"]


def test_without_a_score_the_newest_are_kept(tmp_path: Path, kept: list[str]) -> None:
    run, progress = make_run(tmp_path), Progress(masks_fixed=True)
    for name in "ab":
        progress = validate(run, progress, name, None)
    assert kept == ["a", "b"]


def test_a_process_that_is_not_the_first_keeps_nothing(tmp_path: Path, kept: list[str]) -> None:
    run = make_run(tmp_path)
    run.fabric.is_global_zero = False
    assert validate(run, Progress(masks_fixed=True), "a", 0.2).best == 0.2
    assert kept == []


def test_a_diverged_run_says_what_there_is_to_go_back_to(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    loop._check_skipped(run, loop._MOST_SKIPPED - 1)
    with pytest.raises(DualmodeError, match=r"no model was saved.*--fresh"):
        loop._check_skipped(run, loop._MOST_SKIPPED)
    (tmp_path / WEIGHTS).touch()
    with pytest.raises(DualmodeError, match=r"model\.safetensors is that of the last validation"):
        loop._check_skipped(run, loop._MOST_SKIPPED)


def problem(number: int) -> Problem:
    return Problem(f"id-{number}", "/a.wav", "unreadable", f"id-{number} [/a.wav] is gone")


def test_unreadable_utterances_are_counted_once_and_stop_a_run_above_a_share(
    tmp_path: Path,
) -> None:
    run, journal, progress = make_run(tmp_path, max_unreadable_share=0.08), Journal(), Progress()
    for number in range(8):
        new = [problem(number), problem(number), problem(0)]
        progress = loop._note_unreadable(run, progress, new, journal)  # type: ignore[arg-type]
    assert [p.what for p in progress.unreadable] == [f"id-{n}" for n in range(8)]
    assert run.source.report.problems == list(progress.unreadable)
    assert len(journal.lines) == loop._UNREADABLE_SHOWN
    assert "\\[/a.wav]" in journal.lines[0], "a path is no markup"
    path = tmp_path / loop.FOLDER / "left_out_train.json"
    assert '"unreadable": 8' in path.read_text(encoding="utf-8")
    with pytest.raises(DataError, match=r"9 of 100 .*max_unreadable_share=0\.08.*id-8"):
        loop._note_unreadable(run, progress, [problem(8)], journal)  # type: ignore[arg-type]


def test_what_an_earlier_sitting_left_out_still_counts(tmp_path: Path) -> None:
    """A resumed run meets it again, and counts it once."""
    run, known = make_run(tmp_path), Progress(unreadable=(problem(1),))
    run.source.report.leave_out_new(known.unreadable)
    same = loop._note_unreadable(run, known, [problem(1)], Journal())  # type: ignore[arg-type]
    assert same is known
    with pytest.raises(DataError, match="2 of 100"):
        loop._note_unreadable(run, known, [problem(2)], Journal())  # type: ignore[arg-type]
