"""What a run logs can be read again, whatever the numbers were."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from dualmode.training.journal import LOG, Journal, read_log
from dualmode.training.meter import Meter
from dualmode.training.passes import SubnetLosses
from dualmode.training.picture import draw_training
from dualmode.training.pretraining import CodeLosses
from dualmode.training.step import StepResult

ALONE: Any = SimpleNamespace(world_size=1, device=torch.device("cpu"))


def result(loss: float, norm: float = 1.0) -> StepResult:
    losses = SubnetLosses(*(torch.tensor(loss * factor) for factor in (1.0, 2.0, 3.0, 4.0, 5.0)))
    gradient_norm = torch.tensor(norm)
    return StepResult({"server": losses}, gradient_norm, bool(gradient_norm.isfinite()), 2.0, False)


def test_a_meter_averages_over_steps() -> None:
    meter = Meter()
    for loss, norm in ((1.0, 2.0), (3.0, 4.0)):
        meter.add(result(loss, norm), 0.0)
    read = meter.read(ALONE)
    assert read["server/transducer"] == 2.0
    assert read["server/distillation"] == 8.0
    assert read["gradient_norm"] == 3.0
    assert read["skipped_steps"] == 0
    assert meter.audio_seconds == 4.0


def test_a_step_with_nan_poisons_no_average() -> None:
    meter = Meter()
    meter.add(result(1.0), 0.0)
    meter.add(result(float("nan"), float("nan")), 0.0)
    meter.add(result(float("inf"), float("inf")), 0.0)
    read = meter.read(ALONE)
    assert (read["server/transducer"], read["gradient_norm"]) == (1.0, 1.0)
    assert read["skipped_steps"] == 2


def test_a_step_without_an_utterance_for_a_recogniser_does_not_lower_its_average() -> None:
    meter = Meter()
    meter.add(result(3.0), 0.0)
    meter.add(replace(result(0.0), unheard=frozenset({"server"})), 0.0)
    read = meter.read(ALONE)
    assert (read["server/transducer"], read["gradient_norm"]) == (3.0, 1.0)
    meter = Meter()
    meter.add(replace(result(0.0), unheard=frozenset({"server"})), 0.0)
    assert math.isnan(meter.read(ALONE)["server/transducer"])


def test_vectors_are_numbered_from_one() -> None:
    codes = CodeLosses(torch.tensor(0.5), torch.tensor(1.0), torch.tensor([7.0, 9.0]))
    meter = Meter()
    meter.add(StepResult({"codes": codes}, torch.tensor(1.0), True, 1.0, False), 0.0)
    read = meter.read(ALONE)
    assert (read["codes/perplexity_1"], read["codes/perplexity_2"]) == (7.0, 9.0)
    assert read["codes/diversity"] == 0.5


def test_only_skipped_steps_leave_no_averages() -> None:
    meter = Meter()
    meter.add(result(1.0, float("nan")), 0.0)
    assert "server/transducer" not in meter.read(ALONE)


def test_the_log_is_json_and_the_picture_is_drawn_from_it(tmp_path: Path) -> None:
    console = Console(quiet=True)
    with Journal(tmp_path, 0, enabled=True, console=console) as journal:
        for step in (1, 2, 3):
            bad = float("nan") if step == 2 else 1.0
            values = {"server/ctc": bad, "server/transducer": 1.0, "wer/server": 0.5}
            journal.record(step, {**values, "sparsity": 0.1})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / LOG).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [set(record) - {"step"} for record in records][1] == {
        "server/transducer",
        "wer/server",
        "sparsity",
    }
    assert draw_training(tmp_path) == tmp_path / "training.png"


@pytest.mark.parametrize("damage", ['{"step": 3, "a', "[1]", "5", '{"other": 1}', "\x00\xff"])
def test_what_a_killed_process_left_is_dropped(tmp_path: Path, damage: str) -> None:
    good = '{"step": 1, "a": NaN, "b": 2.0}\n{"step": 2, "b": 3.0}\n'
    (tmp_path / LOG).write_bytes(good.encode() + damage.encode("latin-1"))
    assert read_log(tmp_path / LOG) == [{"step": 1, "b": 2.0}, {"step": 2, "b": 3.0}]


def test_a_resumed_log_forgets_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n', encoding="utf-8")
    with Journal(tmp_path, 2, enabled=True, console=Console(quiet=True)) as journal:
        journal.record(3, {"again": 1.0})
    assert [record["step"] for record in read_log(tmp_path / LOG)] == [1, 2, 3]
    assert read_log(tmp_path / LOG)[-1]["again"] == 1.0
