"""Output of a run: a progress bar, log lines, TensorBoard, and log.jsonl."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dualmode.whole_files import replace_text

LOG = "log.jsonl"


class Journal:
    """Writes the output of the first process; disabled in other processes."""

    def __init__(self, folder: Path, step: int, *, enabled: bool, console: Console) -> None:
        self._enabled = enabled
        self._console = console
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG
        kept = [r for r in read_log(self._path) if r["step"] <= step]
        replace_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:5.1f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("training", total=1.0)

    def __enter__(self) -> Journal:
        if self._enabled:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._enabled:
            self._bar.stop()
            self._board.close()

    def advance(self, share: float) -> None:
        """Set the progress bar to a share of the run, 0 to 1."""
        if self._enabled:
            self._bar.update(self._task, completed=share)

    def record(self, step: int, values: dict[str, float]) -> None:
        """Write values of a step to log.jsonl and TensorBoard, except those that are not finite,
        which JSON cannot represent."""
        if not self._enabled:
            return
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in finite.items():
            self._board.add_scalar(name, value, step)

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        if self._enabled:
            self._console.print(line, highlight=False)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the records of a log.jsonl; a truncated last line of a killed process is dropped."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line, parse_constant=lambda _: None)  # older logs contain NaN
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append({name: value for name, value in record.items() if value is not None})
    return records
