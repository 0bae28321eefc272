"""Reading aloud: the same for the same seed, resumed as if it had never stopped, honest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dualmode.audio import SAMPLE_RATE_HZ, Samples, read_audio
from dualmode.data.manifests import read_cuts
from dualmode.errors import DataError
from dualmode.teaching import reading
from dualmode.teaching.reading import Sentence, draw_sentence, read, read_part
from dualmode.teaching.voices import Manner, open_voices, without_silence


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    text = tmp_path / "orders.txt"
    text.write_text("Two teas, please.\nA table for 4\n\nWhere is the café?\n£¥\n", "utf-8")
    return text


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PART_SECONDS", 8.0)


class Tones:
    """A synthesiser for tests: hums, as long as the text."""

    def __init__(self, stumbles: int = 0) -> None:
        self.stumbles = stumbles

    def draw(self, rng: np.random.Generator) -> Manner:
        return Manner("hum", float(rng.uniform(0.9, 1.1)))

    def say(self, text: str, manner: Manner, rng: np.random.Generator) -> Samples:
        if self.stumbles:
            self.stumbles -= 1
            return np.full(16000, np.nan, np.float32)
        time_s = np.arange(len(text) * 1200) / SAMPLE_RATE_HZ
        return np.sin(2 * np.pi * 300 * time_s).astype(np.float32)


def part(folder: Path, seconds: float = 5.0) -> reading._Part:
    sentence = Sentence("A, B. two", "a b two")
    return reading._Part(0, folder, (sentence,), "tones", False, 3, seconds)


def table(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "utterances.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_any_synthesiser_can_read(tmp_path: Path) -> None:
    read_part(part(tmp_path), Tones())
    rows = table(tmp_path)
    assert sum(int(str(row["samples"])) for row in rows) >= 5 * SAMPLE_RATE_HZ
    for row in rows:
        samples = read_audio(tmp_path / f"{row['id']}.flac")
        assert len(samples) == row["samples"]
        assert row["text"] == "a b two"
        assert row["speaker"] == "hum"


def test_what_the_synthesiser_botched_is_left_out(tmp_path: Path) -> None:
    read_part(part(tmp_path), Tones(stumbles=3))
    assert len(table(tmp_path)) == len(list(tmp_path.glob("*.flac"))) > 0
    with pytest.raises(DataError, match="fail on every text"):
        read_part(part(tmp_path), Tones(stumbles=1000))


def test_languages_speak_in_letters_and_write_in_words() -> None:
    rng = np.random.default_rng(5)
    drawn = [draw_sentence("talk", rng) for _ in range(300)]
    assert any(". " in sentence.spoken for sentence in drawn)
    for sentence in drawn:
        assert sentence.text == sentence.text.lower()
        assert len(sentence.text.split()) <= 40


def test_silence_around_words_goes() -> None:
    samples = np.concatenate([np.zeros(100), np.ones(50), np.zeros(30)]).astype(np.float32)
    assert len(without_silence(samples)) == 50
    assert len(without_silence(np.zeros(10, np.float32))) == 0
    assert len(without_silence(np.zeros(0, np.float32))) == 0


@pytest.mark.parametrize("name", ["festival", "kokoro", "kokoro:/nowhere", "espeak:x"])
def test_unknown_voices_are_named(name: str) -> None:
    with pytest.raises(DataError):
        open_voices(name)


@pytest.mark.usefixtures("short_parts")
def test_espeak_reads_the_same_again_and_goes_on(sentences: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")
    once, grown = tmp_path / "once", tmp_path / "grown"
    report = read(sentences, once, hours=16 / 3600, voices="espeak", jobs=1)
    assert report.counts() == {"text": 1}
    cuts = list(read_cuts(once))
    assert {cut.supervisions[0].text for cut in cuts} == {
        "two teas please",
        "a table for four",
        "where is the cafe",
    }
    assert 16 <= sum(cut.duration for cut in cuts) < 30
    read(sentences, grown, hours=8 / 3600, voices="espeak", jobs=1)
    read(sentences, grown, hours=16 / 3600, voices="espeak", jobs=1)
    for cut, other in zip(cuts, read_cuts(grown), strict=True):
        assert cut.id == other.id
        assert np.array_equal(cut.load_audio(), other.load_audio())
    with pytest.raises(DataError, match="use a new folder"):
        read(sentences, grown, hours=1, voices="espeak", seed=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("", "utf-8")
    with pytest.raises(DataError, match="contains other files"):
        read(sentences, tmp_path / "other", hours=1, voices="espeak")


def test_a_text_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")
    with pytest.raises(DataError, match="no such text"):
        read(tmp_path / "none.txt", tmp_path / "out", hours=1, voices="espeak")
    with pytest.raises(DataError, match="must be positive"):
        read("talk", tmp_path / "out", hours=0, voices="espeak")
    with pytest.raises(DataError, match="blend"):
        read("talk", tmp_path / "out", hours=1, voices="espeak", blend=True)
