"""Reports of utterances left out of a corpus and why, so that nothing is dropped silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dualmode.whole_files import replace_text

if TYPE_CHECKING:
    from rich.table import Table

_ROWS_SHOWN = 20
UNREADABLE = "unreadable"  # kind of problems that show only when a file is decoded


@dataclass(frozen=True)
class Problem:
    """An utterance that was left out.

    Attributes:
        what: id of the utterance.
        where: its file, or the line of the table.
        kind: short name of the kind of problem, such as ``truncated`` or ``digits``.
        why: what is wrong with it and what to do.
    """

    what: str
    where: str
    kind: str
    why: str


@dataclass
class Report:
    """Numbers of utterances kept, and the problems of those left out."""

    name: str
    kept: int = 0
    kept_seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    def leave_out(self, what: str, where: str, kind: str, why: str) -> None:
        self.problems.append(Problem(what, where, kind, why))

    def leave_out_new(self, problems: Iterable[Problem]) -> list[Problem]:
        """Add those of ``problems`` whose utterance is not listed yet, and return them."""
        known = {problem.what for problem in self.problems if problem.kind == UNREADABLE}
        new = list({p.what: p for p in problems if p.what not in known}.values())
        self.problems.extend(new)
        return new

    def keep(self, seconds: float) -> None:
        self.kept += 1
        self.kept_seconds += seconds

    def counts(self) -> dict[str, int]:
        """Number of utterances left out for each kind of problem, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def summary(self) -> str:
        """One line, such as ``train: 12 utterances (0.01 h) kept, 2 left out (silence 2)``."""
        line = f"{self.name}: {self.kept} utterances ({self.kept_seconds / 3600:.2f} h) kept"
        if not self.problems:
            return f"{line}, none left out"
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.counts().items())
        return f"{line}, {len(self.problems)} left out ({kinds})"

    def write(self, path: str | Path) -> None:
        """Write the whole report as JSON."""
        tree = {
            "name": self.name,
            "kept": self.kept,
            "kept_seconds": round(self.kept_seconds, 3),
            "left_out": len(self.problems),
            "counts": self.counts(),
            "problems": [asdict(problem) for problem in self.problems],
        }
        replace_text(path, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")

    def table(self) -> Table:
        """The first problems as a rich table, with the summary as its title."""
        from rich.table import Table

        table = Table("what", "where", "why", title=self.summary(), title_justify="left")
        for problem in self.problems[:_ROWS_SHOWN]:
            table.add_row(problem.what, problem.where, problem.why)
        hidden = len(self.problems) - _ROWS_SHOWN
        if hidden > 0:
            table.add_row(f"and {hidden} more", "", "all of them are in report.json")
        return table
