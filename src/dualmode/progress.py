"""A progress bar for work of known length."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[float, float], None]
"""Called with the units done and the units in total."""


@contextmanager
def progress_bar(
    label: str, units: str = "s of audio", console: Console | None = None
) -> Iterator[Progress]:
    """Show a bar while the block runs, by default on stderr; yields a function that moves it.

    The bar is removed at the end, and is not shown without a terminal.
    """
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn(f"[bold]{label}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:.0f} of {task.total:.0f} " + units),
        progress.TimeElapsedColumn(),
        console=console or Console(file=sys.stderr),
        transient=True,
        redirect_stdout=False,  # results are printed by the caller
    ) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda done, total: bar.update(task, completed=done, total=max(done, total))
