"""Calibrations are found again, errors are as counted by hand, and tune stores what it finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lhotse import CutSet
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.decoding.confidence import UNCALIBRATED, Calibration
from dualmode.errors import DataError
from dualmode.evaluation import confidence
from dualmode.evaluation.confidence import JudgedWords, fit_calibration
from dualmode.evaluation.thresholds import Margins
from dualmode.recognizer import load


def words_of(slope: float, offset: float, count: int = 20_000) -> JudgedWords:
    """Words that are correct as often as a calibration says."""
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.02, 0.98, count)
    true = np.array([Calibration(slope, offset).apply(value) for value in raw.tolist()])
    return JudgedWords(raw, (rng.random(count) < true).astype(float))


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, -1.0), (2.5, 1.5)])
def test_a_calibration_is_found_again(slope: float, offset: float) -> None:
    words = words_of(slope, offset)
    found = fit_calibration(words)
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.06)
    assert words.calibrated(found).expected_error < 0.02
    if slope != 1.0:
        assert words.expected_error > 0.05


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 10), st.floats(-10, 10))
def test_the_order_of_confidences_is_kept(
    first: float, second: float, slope: float, offset: float
) -> None:
    calibration = Calibration(slope, offset)
    low, high = sorted((first, second))
    assert 0 <= calibration.apply(low) <= calibration.apply(high) <= 1
    assert UNCALIBRATED.apply(first) == first


def test_words_that_say_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        fit_calibration(words_of(1.0, 0.0, count=20))
    words = words_of(2.0, 0.0)
    with pytest.raises(DataError, match="not more often correct"):
        fit_calibration(JudgedWords(words.confidences, 1 - words.correct))
    always = fit_calibration(JudgedWords(words.confidences, np.ones_like(words.correct)))
    assert np.isfinite([always.slope, always.offset]).all()


def test_the_expected_error_is_the_mean_distance_of_bins() -> None:
    words = JudgedWords(np.array([0.92, 0.98, 1.0, 0.31]), np.array([1.0, 1.0, 0.0, 1.0]))
    assert [b.words for b in words.bins] == [1, 3]
    high = abs(np.mean([0.92, 0.98, 1.0]) - 2 / 3)
    assert words.expected_error == pytest.approx((3 * high + abs(0.31 - 1)) / 4)


@given(st.lists(st.floats(-20, 0) | st.just(-np.inf), min_size=1, max_size=60), st.floats(0, 1))
@example([-1.1], 0.0)
@example([-1.1] * 50, 0.58)
def test_the_threshold_is_the_lowest_that_accepts_few(other: list[float], share: float) -> None:
    margins = Margins(np.array([-0.2, -1.0]), np.array([True, False]), np.array(other))
    chosen = margins.choose(share)
    at, below = margins.at(chosen), margins.at(chosen - 0.02)
    if chosen < 0:
        assert at.false_accepts <= share
    if chosen > -10:
        assert below.false_accepts > share
    assert margins.at(-0.5).correct == 0.5
    assert margins.at(-2.0).wrong == 0.5


def test_tune_stores_calibration_and_threshold(  # type: ignore[no-untyped-def]
    talkative_model: Path, make_cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confidence, "LEAST_WORDS", 5)
    model = tmp_path / "model"
    shutil.copytree(talkative_model, model)
    recognizer, cuts, said = load(model), [], []
    for number in range(4):
        cut = make_cut("c" * (number + 1), "one", 3.0)
        heard = recognizer.transcribe(cut.recording.sources[0].source, "server")
        said.append(heard.text)
        middle = np.median([word.confidence for word in heard.words])
        words = [word.text if word.confidence > middle else "zzz" for word in heard.words]
        cut.supervisions[0].text = " ".join(words)
        cuts.append(cut)
    for name, half in (("dev", cuts[:3]), ("other", cuts[3:])):
        CutSet.from_cuts(half).to_file(tmp_path / f"{name}.jsonl.gz")
    (tmp_path / "list.txt").write_text("\n".join(text for text in said[:3]), encoding="utf-8")
    line = ["tune", str(model), str(tmp_path / "dev.jsonl.gz"), "--confidence", "--diagram"]
    line += [str(tmp_path / "a.png"), "--phrases", str(tmp_path / "list.txt")]
    found = CliRunner().invoke(app, [*line, "--other", str(tmp_path / "other.jsonl.gz")])
    assert found.exit_code == 0, found.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    tuned = load(model)
    decoding = tuned.recipe.decoding
    assert decoding.confidence_slope != 1.0
    assert f"threshold {decoding.phrase_threshold:.2f}" in found.output
    source = cuts[0].recording.sources[0].source
    before, after = (r.transcribe(source, "server").words for r in (recognizer, tuned))
    assert [word.text for word in after] == [word.text for word in before]
    assert [word.confidence for word in after] == pytest.approx(
        [tuned.calibration.apply(word.confidence) for word in before]
    )
    assert CliRunner().invoke(app, line[:3]).exit_code != 0, "nothing to tune"
