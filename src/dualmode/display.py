"""Terminal output: growing captions of a stream, progress bars and tables of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dualmode.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dualmode.decoding.stream import Partial, StreamSession
    from dualmode.decoding.transcript import Transcript
    from dualmode.evaluation.frame_probe import Probe
    from dualmode.evaluation.latency import TailReport
    from dualmode.evaluation.results import Evaluation

_SKIPPED_SHOWN = 10
_FILE_WIDTH = 120  # characters in a line if the output is not a terminal


def make_console(*, stderr: bool = False) -> Console:
    """Make a console as wide as the terminal, or wide enough for tables in files and pipes."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


class GrowingText:
    """The partial text of a stream: a line that changes on a terminal, else one line per change.

    Words that may still change are dim. Finished segments remain above as lines of their own.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=20)

    def __enter__(self) -> GrowingText:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, seconds: float, partial: Partial) -> None:
        """Show the partial text after ``seconds`` of audio."""
        for segment in partial.finished:
            ended = Text(f"{segment.seconds:7.2f} s  {_shown(segment)}")
            self._console.print(ended, soft_wrap=True)
        stable = " ".join(word.text for word in partial.words[: partial.stable])
        rest = " ".join(word.text for word in partial.words[partial.stable :])
        line = Text(f"{seconds:7.2f} s  ", style="cyan")
        line.append(stable + " " * bool(stable and rest), style="default")
        line.append(rest, style="dim")
        if self._console.is_terminal:
            self._live.update(line)
        elif partial.words:
            self._console.print(line, soft_wrap=True)


def _shown(segment: Transcript) -> str:
    if segment.rejected:
        return "(none of the phrases)"
    return segment.written_text or segment.text


def show_stream(
    session: StreamSession,
    pieces: Iterable[npt.NDArray[np.float32]],
    growing: GrowingText,
    *,
    real_time: bool = False,
) -> Transcript:
    """Push pieces of samples (S,) into a stream, show its partial text, and finish it.

    Args:
        real_time: push samples at the speed of the audio, so that a reader can follow.
    """
    for piece in pieces:
        began, before_s = time.perf_counter(), session.seconds
        partial = session.push(piece)
        if partial is not None:
            growing.show(session.seconds, partial)
        if real_time:
            spent_s = time.perf_counter() - began
            time.sleep(max(0.0, session.seconds - before_s - spent_s))
    return session.finish()


def scoring_bar(
    console: Console, units: str = "s of audio"
) -> AbstractContextManager[Callable[[float, float], None]]:
    """A progress bar for an evaluation; yields a function of the units done and their total."""
    return progress_bar("scoring", units, console)


def print_probe(result: Probe, console: Console) -> None:
    """Print the table of a probe: one row for each layer, in percent of held-out frames."""
    learnt, scored = result.frames
    table = Table(title=f"tokens from single frames ({learnt} for training, {scored} scored)")
    table.add_column("layer", justify="right")
    for subnet, weights in result.layers:
        table.add_column(f"{subnet}, {weights}", justify="right")
    for number, rates in enumerate(zip(*result.layers.values(), strict=True), start=1):
        table.add_row(str(number), *(f"{rate:.1%}" for rate in rates))
    console.print(table)
    console.print(f"always the most frequent token: {result.most_frequent:.1%}")


def print_evaluation(result: Evaluation, console: Console) -> None:
    """Print the table of an evaluation, and the utterances that could not be scored."""
    console.print(result.table())
    for skipped in result.skipped[:_SKIPPED_SHOWN]:
        console.print(Text(f"left out: {skipped.id}: {skipped.why}", style="yellow"))
    hidden = len(result.skipped) - _SKIPPED_SHOWN
    if hidden > 0:
        console.print(Text(f"and {hidden} more left out", style="yellow"))


def print_tail(report: TailReport, console: Console) -> None:
    """Print how many last words depend on the audio after them."""
    of = max(1, report.utterances)
    for name, ids in (
        ("last words that need more silence than a stream appends", report.lost),
        ("last words that appear only where the audio ends", report.end_bound),
        ("texts that change with 2 s of silence at the end", report.changed),
    ):
        shown = f": {', '.join(ids[:_SKIPPED_SHOWN])}" if ids else ""
        console.print(
            Text(f"{name}: {len(ids)} of {report.utterances} ({len(ids) / of:.2%}){shown}")
        )
