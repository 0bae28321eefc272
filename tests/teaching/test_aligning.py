"""``dualmode align``: by an aligner made up here, and by PocketSphinx where it is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from lhotse.utils import fastcopy

from dualmode.audio import Samples
from dualmode.data.manifests import read_cuts
from dualmode.data.phones import phones_of
from dualmode.data.usable import UnusableError
from dualmode.errors import DataError
from dualmode.teaching.aligning import ALIGNMENTS, Aligner, Times, align

asked: list[Sequence[str]] = []


def spread(samples: Samples, words: Sequence[str]) -> Times:
    """One phone for each word, of equal length."""
    asked.append(words)
    if "february" in words:
        raise UnusableError("unknown word", "february is too hard")
    each = len(samples) / 16000 / len(words)
    return [(word[:1].upper(), number * each, each) for number, word in enumerate(words)]


def make() -> Aligner:
    return spread


@pytest.fixture
def cuts(tiny_corpus: Path, tmp_path: Path) -> Path:
    """Three utterances: one is fine, one has an unknown word, one has no text."""
    texts = ("one two", "the first of february", "")
    chosen = list(read_cuts(tiny_corpus / "test"))[:3]
    changed = [
        cut.map_supervisions(partial(fastcopy, text=text, alignment=None))
        for cut, text in zip(chosen, texts, strict=True)
    ]
    path = tmp_path / "cuts.jsonl.gz"
    CutSet.from_cuts(changed).to_file(path)
    return path


def test_phones_are_added_and_the_rest_is_reported(cuts: Path, tmp_path: Path) -> None:
    report = align(cuts, tmp_path / "out", aligner=make, jobs=1)
    assert report.counts() == {"unknown word": 1, "no transcript": 1}
    (kept,) = read_cuts(tmp_path / "out")
    half = kept.duration / 2
    assert phones_of(kept) == [
        ("O", 0.0, pytest.approx(half, abs=2e-3)),
        ("T", pytest.approx(half, abs=2e-3), pytest.approx(kept.duration, abs=2e-3)),
    ]
    assert kept.supervisions[0].text == "one two"


def test_what_is_aligned_is_not_aligned_again(cuts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    align(cuts, out, aligner=make, jobs=1)
    lines = (out / ALIGNMENTS).read_text(encoding="utf-8").splitlines()
    # As a killed run leaves it: the last line is incomplete.
    (out / ALIGNMENTS).write_text("\n".join([*lines[:2], lines[2][:9]]), encoding="utf-8")
    asked.clear()
    align(cuts, out, aligner=make, jobs=1)
    assert asked == [["the", "first", "of", "february"]]
    stored = (out / ALIGNMENTS).read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("{") and line.endswith("}") for line in stored) == 3
    asked.clear()
    align(cuts, out, aligner=make, jobs=1)
    assert not asked


def test_another_cutset_and_nothing_to_align_are_errors(cuts: Path, tmp_path: Path) -> None:
    align(cuts, tmp_path / "out", aligner=make, jobs=1)
    other = tmp_path / "other.jsonl.gz"
    CutSet.from_cuts(list(read_cuts(cuts))[2:]).to_file(other)
    with pytest.raises(DataError, match="use a new folder"):
        align(other, tmp_path / "out", aligner=make, jobs=1)
    with pytest.raises(DataError, match="no text"):
        align(other, tmp_path / "empty", aligner=make, jobs=1)


def test_pocketsphinx_hears_the_phones_where_they_are(tmp_path: Path) -> None:
    """On speech whose phones and their times eSpeak NG knows."""
    pytest.importorskip("pocketsphinx", reason="the extra 'align' is not installed")
    pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")
    from dualmode.data.render import VOICES, Reading, read_aloud
    from dualmode.data.synth import cut_of

    (tmp_path / "audio").mkdir()
    said = ("seven six three", "turn the volume up")
    reading = Reading(VOICES["train"][0], tmp_path / "audio", (1,), float("inf"), phrases=said)
    true = CutSet.from_cuts(map(cut_of, read_aloud(reading)))
    true.to_file(tmp_path / "cuts.jsonl.gz")
    report = align(tmp_path / "cuts.jsonl.gz", tmp_path / "out", jobs=1)
    assert report.kept == len(said)
    for cut, known in zip(read_cuts(tmp_path / "out"), true, strict=True):
        found, expected = (
            [phone for phone in phones_of(one) if phone.symbol != "SIL"] for one in (cut, known)
        )
        assert abs(len(found) - len(expected)) <= 2
        for at in (0, -1):
            assert abs(found[at].start_s - expected[at].start_s) < 0.15
        assert {phone.symbol for phone in found} & {"S", "T", "V", "N"}
        lengths = np.diff([phone.start_s for phone in phones_of(cut)])
        assert (lengths > 0).all()
    stored = [line for line in (tmp_path / "out" / ALIGNMENTS).read_text().splitlines() if line]
    assert [json.loads(line)["id"] for line in stored] == [cut.id for cut in true]
