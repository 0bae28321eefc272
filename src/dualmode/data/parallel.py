"""Map a function over items in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

_FEW = 16  # fewer items are not worth starting a process
# Everything that callers need, because a fork server that runs ignores a new list.
_SLOW_IMPORTS = ["dualmode.data.render"]


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    jobs: int | None = None,
    fresh: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, from ``jobs`` processes.

    Args:
        function: importable by name; it and the items are pickled.
        jobs: number of processes; None is one per core.
        fresh: run every item in a new process.
    """
    jobs = jobs or os.cpu_count() or 1
    if not items:
        return
    if not fresh and (jobs == 1 or len(items) <= _FEW):
        yield from _with_bar(map(function, items), title, len(items))
        return
    # A fork server forks from a process without threads that has done the slow imports.
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(_SLOW_IMPORTS)
    with context.Pool(min(jobs, len(items)), maxtasksperchild=1 if fresh else None) as pool:
        results = pool.imap(function, items, chunksize=1 if fresh else 8)
        yield from _with_bar(results, title, len(items))


def _with_bar(results: Iterator[Result], title: str, total: int) -> Iterator[Result]:
    console = Console(stderr=True)
    return iter(track(results, title, total, console=console, disable=not console.is_terminal))
