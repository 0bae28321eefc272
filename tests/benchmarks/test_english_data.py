"""The tables of ``english``: what may be given away, and labels that their teacher was sure of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import english_data
from benchmarks.talk_data import COLUMNS, read_rows


def table(path: Path, columns: tuple[str, ...], *rows: tuple[str, ...]) -> Path:
    path.write_text("\n".join("\t".join(row) for row in (columns, *rows)) + "\n")
    return path


def test_tables_hold_what_may_be_given_away_and_sure_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpora = ("commonvoice", "voxforge", "speechocean762", "an4", "librispeech")
    rows = [(c, f"{c}.flac", "2.0", "someone", c, "some text") for c in corpora]
    untold = [(name, f"{name}.flac", "2.0", "", "commonvoice", "") for name in "abcd"]
    labels = [
        ("a", "sure", "-0.2", "base"),
        ("b", "unsure", "-0.9", "base"),
        ("c", "sure again", "-0.65", "tiny.en"),
    ]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "english_data",
            str(tmp_path / "out"),
            str(table(tmp_path / "train.tsv", COLUMNS, *rows)),
            "--unlabelled",
            str(table(tmp_path / "unlabelled.tsv", COLUMNS, *untold)),
            "--labels",
            str(table(tmp_path / "labels.tsv", ("id", "text", "logprob", "teacher"), *labels)),
        ],
    )
    english_data.main()
    found = {name: read_rows(tmp_path / "out" / f"{name}.tsv") for name in ("read", "learners")}
    assert {r["corpus"] for r in found["read"]} == {"commonvoice", "librispeech"}
    assert {r["corpus"] for r in found["learners"]} == {"speechocean762"}
    heard = read_rows(tmp_path / "out" / "labelled.tsv")
    assert [(r["id"], r["text"]) for r in heard] == [("a", "sure"), ("c", "sure again")]
    assert heard[0]["path"] == str(tmp_path / "a.flac")
