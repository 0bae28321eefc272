"""Reports tell what was left out: in a line, in a table, and in full as JSON."""

import io
import json
from pathlib import Path

from rich.console import Console

from dualmode.data.left_out import Report


def filled(problems: int) -> Report:
    report = Report("train")
    report.keep(1800.0)
    report.keep(1800.0)
    for number in range(problems):
        kind = "silence" if number % 3 else "audio"
        report.leave_out(f"id-{number}", f"/data/{number}.wav", kind, f"reason {number}")
    return report


def test_summary_counts_by_kind() -> None:
    assert filled(0).summary() == "train: 2 utterances (1.00 h) kept, none left out"
    assert filled(6).summary() == (
        "train: 2 utterances (1.00 h) kept, 6 left out (silence 4, audio 2)"
    )


def test_json_has_every_problem(tmp_path: Path) -> None:
    filled(50).write(tmp_path / "report.json")
    tree = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (tree["kept"], tree["kept_seconds"], tree["left_out"]) == (2, 3600.0, 50)
    assert len(tree["problems"]) == 50
    assert tree["problems"][3] == {
        "what": "id-3",
        "where": "/data/3.wav",
        "kind": "audio",
        "why": "reason 3",
    }


def test_the_table_says_how_many_it_does_not_show() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(filled(25).table())
    text = console.export_text()
    assert "reason 19" in text
    assert "reason 20" not in text
    assert "and 5 more" in text
