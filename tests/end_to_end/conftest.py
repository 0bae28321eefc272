"""Training runs in processes of their own, as people start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from dualmode.model.directory import WEIGHTS
from dualmode.training.checkpoint import FILE
from dualmode.training.loop import FOLDER

LONG_ENOUGH_S = 240.0  # for one tiny run on a busy machine


class TrainingProcess:
    """``dualmode train``, or pretrain, in a process group of its own, with its output in a file."""

    def __init__(
        self,
        recipe: Path,
        out: Path,
        log: Path,
        *options: str,
        processes: int = 1,
        command: str = "train",
    ):
        self.checkpoint = out / FOLDER / FILE
        self._log = log
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
        program = [sys.executable, *(launcher if processes > 1 else []), "-m", "dualmode"]
        arguments = [command, str(recipe), "--out", str(out), *options]
        with log.open("w") as file:
            self._process = subprocess.Popen(
                program + arguments,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        """Its exit code; minus the number of the signal that ended it."""
        return self._process.wait(LONG_ENOUGH_S)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for something, or for the end of the process if that comes first."""
        give_up = time.monotonic() + LONG_ENOUGH_S
        while self.running and not happened():
            assert time.monotonic() < give_up, self.output
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL for the training process; its data workers notice by themselves."""
        self._process.kill()

    def press_ctrl_c(self) -> None:
        """SIGINT for every process of the group, as a terminal sends it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> None:
        """Leave no process behind: a killed run's data workers live on for a moment."""
        if self.running or self._process.returncode < 0:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


Start = Callable[..., TrainingProcess]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start training processes that are gone when the tests of a file are."""
    started: list[TrainingProcess] = []

    def begin(recipe: Path, out: Path, *options: str, **how: Any) -> TrainingProcess:
        log = tmp_path_factory.mktemp("log") / "output.txt"
        started.append(TrainingProcess(recipe, out, log, *options, **how))
        return started[-1]

    yield begin
    for process in started:
        process.end()


@pytest.fixture(scope="session")
def weights_of() -> Callable[[Path], dict[str, Tensor]]:
    """Every tensor that a run left: its checkpoint's, the optimiser's moments too, and its model's.

    The time that a run took differs from run to run; it is not among the tensors.
    """

    def read(out: Path) -> dict[str, Tensor]:
        kept = load_file(out / WEIGHTS)
        return load_file(out / FOLDER / FILE) | {f"kept/{k}": v for k, v in kept.items()}

    return read
