"""Two models compared on the utterances that both were scored on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.errors import DataError
from dualmode.evaluation.comparison import (
    compare_utterances,
    paired_difference,
    read_utterances,
    shared_ids,
)


def write(path: Path, hypotheses: list[str], reference: str = "one two") -> Path:
    """Utterances of two corpora, as ``dualmode evaluate`` writes them; a speaker has two."""
    lines = [
        {
            "id": str(number),
            "corpus": "xy"[number % 2],
            "speaker": f"{'xy'[number % 2]}{number // 4}",
            "ref": reference,
            "server": text,
        }
        for number, text in enumerate(hypotheses)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_differences_are_paired_and_given_by_corpus(tmp_path: Path) -> None:
    heard = [
        word for row in range(20) for word in ("one two" if row % 4 == 3 else "one", "one two")
    ]
    first = write(tmp_path / "first", heard)
    second = write(tmp_path / "second", ["one two", "one two"] * 20)
    out = tmp_path / "new" / "figures.json"
    done = CliRunner().invoke(app, ["compare", str(first), str(second), "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text(encoding="utf-8"))["server"]
    assert found["x"]["speakers"] == found["y"]["speakers"] == 10
    assert found["x"]["first"] == pytest.approx(0.375)
    assert found["x"]["difference"] == pytest.approx(-0.375)
    assert found["x"]["relative"] == pytest.approx(-1.0)
    assert found["x"]["p_value"] < 0.01
    assert found["y"]["difference"] == 0
    assert found["all"]["ci95"][0] < found["all"]["difference"] < found["all"]["ci95"][1]


def test_the_difference_is_second_minus_first(tmp_path: Path) -> None:
    """So a second model that is better has a negative one, and a worse one a positive."""
    good = read_utterances(write(tmp_path / "good", ["one two"] * 40))
    poor = read_utterances(write(tmp_path / "poor", ["one", "one two"] * 20))
    poor["1"], poor["4"] = {**poor["1"], "server": "one"}, {**poor["4"], "server": "one two"}
    better = paired_difference(poor, good, list(good), "server")
    worse = paired_difference(good, poor, list(good), "server")
    assert (better.first, better.second, better.difference) == (0.25, 0.0, -0.25)
    assert better.ci95[0] < better.ci95[1] < 0
    assert (worse.first, worse.second, worse.difference) == (0.0, 0.25, 0.25)
    assert worse.ci95[0] > 0


def test_other_references_are_refused(tmp_path: Path) -> None:
    first = read_utterances(write(tmp_path / "first", ["one"]))
    second = read_utterances(write(tmp_path / "second", ["one"], reference="one three"))
    with pytest.raises(DataError, match="references differ"):
        shared_ids(first, second)
    with pytest.raises(DataError, match="no utterance in common"):
        shared_ids(first, {})


def test_files_without_utterances_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    with pytest.raises(DataError, match=r"figures\.json cannot be read"):
        read_utterances(path)
    for text in ("[1]", "{}", "words", '{"id": "a"}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"figures\.json does not contain utterances"):
            read_utterances(path)
    nobody = {"a": {"id": "a", "corpus": "", "speaker": "", "ref": "one"}}
    with pytest.raises(DataError, match="no recogniser in common"):
        compare_utterances(nobody, nobody)
