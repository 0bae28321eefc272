"""A training process that is killed ends in one line that says what to do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from dualmode.config import Recipe
from dualmode.data.left_out import Problem
from dualmode.training.checkpoint import FILE, Progress, same_training
from dualmode.training.launch import _carried_error, _killed
from dualmode.training.loop import FOLDER


def test_what_killed_it_and_how_to_go_on_are_one_line(tmp_path: Path) -> None:
    killed = ProcessExitedException("process 1 terminated", 1, 7, -9, "SIGKILL")
    error = _killed(killed, tmp_path)
    assert error
    for part in ("SIGKILL", "memory", "starts over", "training.processes=1", "--fresh"):
        assert part in str(error)
    assert "\n" not in str(error)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / FILE).touch()
    assert "resumes from the last checkpoint" in str(_killed(killed, tmp_path))


def test_so_it_is_where_another_process_notices_first(tmp_path: Path) -> None:
    text = "Traceback\nRuntimeError: [gloo/tcp/pair.cc] Connection closed by peer [127.0.0.1]:1"
    assert _killed(ProcessRaisedException(text, 0, 7), tmp_path)


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    fault = ProcessRaisedException("Traceback\nKeyError: 'x'", 0, 7)
    assert _killed(fault, tmp_path) is None
    assert _carried_error(str(fault)) is None


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("data.workers", 0, True),
        ("training.processes", 1, True),
        ("data.batch_seconds", 60, False),
        ("training.seed", 2, False),
    ],
)
def test_what_takes_less_memory_may_change_on_resuming(key: str, value: int, same: bool) -> None:
    section, leaf = key.split(".")
    changed = Recipe.model_validate({"name": "r", section: {leaf: value}})
    assert same_training(Recipe(name="r"), changed) == same


def test_progress_travels_between_processes_and_through_checkpoints() -> None:
    progress = Progress(step=3, best=0.5, unreadable=(Problem("a", "b", "c", "d"),))
    adapter = TypeAdapter(Progress)
    assert adapter.validate_python(asdict(progress)) == progress
    assert adapter.validate_json(adapter.dump_json(progress)) == progress
    with pytest.raises(ValueError, match="step"):
        adapter.validate_json('{"step": "three"}')
