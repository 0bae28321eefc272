"""Files that cannot be read and processes that are killed cost a run little, and are reported."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from dualmode.data.manifests import read_cuts, write_cuts
from dualmode.errors import DataError
from dualmode.recipe_files import load_recipe
from dualmode.training import loop
from dualmode.training.launch import train

ALONE = (
    "training.processes=1",
    "training.steps=8",
    "training.sampled_subnet=false",
    "pruning.sparsities=[0.7]",
)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def spoilt(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The training set of the tiny corpus with one file gone, and the id of its utterance."""
    out = tmp_path_factory.mktemp("spoilt")
    cuts = list(read_cuts(tiny_corpus / "train"))
    gone = cuts[len(cuts) // 2]
    gone.recording.sources[0].source = str(out / "gone.flac")
    write_cuts(cuts, out / "cuts.jsonl.gz")
    return out, gone.id


def test_one_unreadable_file_is_left_out_also_by_a_run_that_resumes(
    tiny_recipe: Path,
    spoilt: tuple[Path, str],
    weights_of: Callable[[Path], dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
) -> None:
    folder, name = spoilt
    share = "data.max_unreadable_share=0.2"
    recipe = load_recipe(tiny_recipe, [*ALONE, share, f"data.train=['{folder}']"])
    whole = train(recipe, tmp_path / "whole", console=QUIET)
    assert whole.finished
    assert [problem.what for problem in whole.progress.unreadable] == [name]
    report = tmp_path / "whole" / loop.FOLDER / "left_out_train.json"
    (problem,) = json.loads(report.read_text(encoding="utf-8"))["problems"]
    assert (problem["what"], problem["kind"]) == (name, "unreadable")
    assert "gone.flac" in problem["why"]

    real = loop._save

    def save_and_stop(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "stopped", console=QUIET)
    resumed = train(recipe, tmp_path / "stopped", console=QUIET)
    assert [problem.what for problem in resumed.progress.unreadable] == [name]
    ours, theirs = weights_of(tmp_path / "stopped"), weights_of(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert not [key for key, value in ours.items() if not torch.equal(value, theirs[key])]


def test_more_than_a_share_of_them_ends_a_run(
    tiny_recipe: Path, spoilt: tuple[Path, str], tmp_path: Path, one_thread: None
) -> None:
    changes = (*ALONE, "data.max_unreadable_share=0", f"data.train=['{spoilt[0]}']")
    with pytest.raises(DataError, match="max_unreadable_share=0 allows"):
        train(load_recipe(tiny_recipe, changes), tmp_path, console=QUIET)


def test_a_killed_process_ends_in_one_line_and_the_run_resumes(
    tiny_recipe: Path, start: Any, tmp_path: Path
) -> None:
    common = ("data.workers=0", "training.checkpoint_every_steps=1", "training.steps=8")
    common = (*common, "training.validate_every_steps=8")
    options = [word for setting in common for word in ("--set", setting)]
    process = start(tiny_recipe, tmp_path, *options, "--set", "training.processes=2")
    process.wait_until(process.checkpoint.is_file)
    pid = process._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    trainers = [
        int(child)
        for child in children
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8")
    ]
    assert len(trainers) == 2
    os.kill(trainers[1], signal.SIGKILL)
    assert process.wait() == 1, process.output
    assert "a training process was killed" in process.output
    assert "resumes from the last checkpoint" in " ".join(process.output.split())
    assert "Traceback" not in process.output
    again = start(tiny_recipe, tmp_path, *options, "--set", "training.processes=1")
    assert again.wait() == 0, again.output
    assert "resuming after step" in again.output
