"""Two processes, by torchrun or of our own, learn what one with twice the batch learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dualmode.training.journal import LOG, read_log
from dualmode.training.loop import FOLDER

STEPS = 6  # all in the first epoch, at whose end several processes drop what they cannot share

# Whatever draws random numbers a process is off: its numbers depend on how many there are.
STILL = (
    "model.dropout=0",
    "data.speeds=[1.0]",
    "data.buckets=1",
    "data.workers=0",
    "data.join_probability=0",
    "data.time_masks=0",
    "data.frequency_masks=0",
    f"training.steps={STEPS}",
    "training.log_every_steps=1",
    "training.distillation=ctc",
    "pruning.score=taylor",  # from gradients, which each process has only a part of
    "training.step_sharing=all",  # utterances are assigned to recognisers within each process
)
CURVES = [
    f"{name}/{loss}"
    for name in ("server", "device")
    for loss in ("transducer", "simple", "ctc", "distillation")
]


@dataclass(frozen=True)
class Way:
    """A way to start a training that sees 16 s of audio a step."""

    name: str
    launched: int  # processes that torchrun starts
    settings: tuple[str, ...]


ONE = Way("one", 1, ("training.processes=1", "data.batch_seconds=16"))
TORCHRUN = Way("torchrun", 2, ("data.batch_seconds=8",))
SPAWNED = Way("spawned", 1, ("training.processes=2", "data.batch_seconds=16"))


def test_two_processes_follow_the_curve_of_one(
    tiny_recipe: Path, start: Any, tmp_path: Path
) -> None:
    curves = {}
    for way in (ONE, TORCHRUN, SPAWNED):
        out = tmp_path / way.name
        options = [word for setting in (*STILL, *way.settings) for word in ("--set", setting)]
        process = start(tiny_recipe, out, *options, processes=way.launched)
        assert process.wait() == 0, process.output
        curves[way] = [r for r in read_log(out / FOLDER / LOG) if "server/transducer" in r]
    assert len(curves[ONE]) == STEPS
    for way in (TORCHRUN, SPAWNED):
        for expected, found in zip(curves[ONE], curves[way], strict=True):
            for name in CURVES:
                same = pytest.approx(expected[name], rel=1e-4, abs=1e-6)
                assert found[name] == same, f"{way.name}, step {found['step']}, {name}"
            assert found["audio_hours"] == pytest.approx(expected["audio_hours"])
    assert curves[ONE][-1]["server/transducer"] < curves[ONE][0]["server/transducer"]
