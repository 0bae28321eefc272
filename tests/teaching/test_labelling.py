"""Labelling by a teacher that is scripted: all that is heard is accounted for, once."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dualmode.audio import Samples
from dualmode.config import DataConfig, TextConfig
from dualmode.data.manifests import read_cuts
from dualmode.data.usable import confidence_of, usable_cuts
from dualmode.errors import DataError
from dualmode.features import Framing
from dualmode.teaching.labelling import LABELS, PICTURE, label
from dualmode.teaching.teachers import Transcription, open_teacher
from dualmode.text import train_tokens


class Scripted:
    """Recognises recordings by how long they are; writes better in whole windows."""

    def __init__(self, script: dict[float, tuple[str, float]], stop_after: int = 10**9) -> None:
        self.script = script
        self.calls: list[tuple[int, bool]] = []
        self.stop_after = stop_after

    def transcribe(self, clips: Sequence[Samples], *, whole_windows: bool) -> list[Transcription]:
        if len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((len(clips), whole_windows))
        found = []
        for clip in clips:
            text, log_prob = self.script[round(len(clip) / 16000, 1)]
            if whole_windows and text.startswith("mumble"):
                text, log_prob = text.removeprefix("mumble "), -0.3
            elif whole_windows and text.startswith("twice"):
                text = "twice"
            found.append(Transcription(text, log_prob))
        return found


SCRIPT = {
    1.0: ("Yes.", -0.05),
    2.0: ("At 5 o'clock", -0.4),
    3.0: ("mumble call anna", -1.5),
    4.0: ("go go go go go go go go", -0.01),
    5.0: ("open the door now", -0.5),
}


def write(path: Path, seconds: float, rate_hz: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(seconds * 10))
    soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * rate_hz)), rate_hz)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    for seconds in SCRIPT:
        write(folder / "a" / f"{seconds:.0f}.wav", seconds)
    write(folder / "broken.wav", 1.0)
    (folder / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "silent.flac", np.zeros(16000), 16000)
    (folder / "notes.txt").write_text("not a sound", "utf-8")
    return folder


def test_every_recording_is_kept_or_accounted_for(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    teacher = Scripted(SCRIPT)
    report = label(recordings, out, teacher=teacher)
    texts = {cut.id: cut.supervisions[0].text for cut in read_cuts(out)}
    assert texts == {
        "a/1": "yes",
        "a/2": "at five o'clock",
        "a/3": "call anna",
        "a/5": "open the door now",
    }
    assert report.counts() == {"audio": 1, "silence": 1, "loop": 1}
    assert [whole for _, whole in teacher.calls] == [False, True]
    cuts = {cut.id: cut for cut in read_cuts(out)}
    assert confidence_of(cuts["a/1"]) == pytest.approx(np.exp(-0.05), abs=1e-3)
    assert cuts["a/2"].duration == 2.0
    assert (out / PICTURE).stat().st_size > 1000


@pytest.mark.parametrize(("said", "text"), [("twice, twice", "twice"), ("no, no", "no no")])
def test_what_is_said_again_is_heard_in_a_whole_window(
    said: str, text: str, tmp_path: Path
) -> None:
    """And kept as it is there, since people repeat themselves."""
    write(tmp_path / "recordings" / "1.wav", 1.0)
    teacher = Scripted({1.0: (said, -0.1)})
    label(tmp_path / "recordings", tmp_path / "out", teacher=teacher)
    assert [whole for _, whole in teacher.calls] == [False, True]
    assert [cut.supervisions[0].text for cut in read_cuts(tmp_path / "out")] == [text]


def test_a_threshold_hears_nothing_again(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(recordings, out, teacher=Scripted(SCRIPT))
    again = Scripted({})
    report = label(recordings, out, teacher=again, min_confidence=0.7)
    assert again.calls == []
    assert report.counts()["unsure"] == 2
    assert {cut.id for cut in read_cuts(out)} == {"a/1", "a/3"}


def test_a_stopped_run_goes_on(recordings: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("dualmode.teaching.labelling._TOGETHER", 2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    label(recordings, whole, teacher=Scripted(SCRIPT))
    with pytest.raises(KeyboardInterrupt):
        label(recordings, stopped, teacher=Scripted(SCRIPT, stop_after=2))
    with (stopped / LABELS).open("a", encoding="utf-8") as file:
        file.write('{"id": "half a li')
    before = len((stopped / LABELS).read_text(encoding="utf-8").splitlines())
    assert before > 1
    label(recordings, stopped, teacher=Scripted(SCRIPT))
    ours, theirs = (
        {(cut.id, cut.supervisions[0].text, cut.duration) for cut in read_cuts(out)}
        for out in (whole, stopped)
    )
    assert ours == theirs


def test_two_teachers_must_agree(recordings: Path, tmp_path: Path) -> None:
    other = Scripted({**SCRIPT, 3.0: ("call hannah", -0.1), 5.0: ("open the door now!", -0.1)})
    report = label(recordings, tmp_path / "out", teacher=Scripted(SCRIPT), agree=other)
    assert report.counts()["disagreement"] == 1
    assert {cut.id for cut in read_cuts(tmp_path / "out")} == {"a/1", "a/2", "a/5"}


def test_a_second_teacher_hears_what_it_said_twice_in_a_whole_window(tmp_path: Path) -> None:
    write(tmp_path / "recordings" / "1.wav", 1.0)
    other = Scripted({1.0: ("twice twice", -0.1)})
    label(
        tmp_path / "recordings",
        tmp_path / "out",
        teacher=Scripted({1.0: ("Twice", -0.1)}),
        agree=other,
    )
    assert [whole for _, whole in other.calls] == [False, True]
    assert [cut.supervisions[0].text for cut in read_cuts(tmp_path / "out")] == ["twice"]


def test_long_recordings_are_cut_where_it_is_quiet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(40 * 16000)
    samples[20 * 16000 : 21 * 16000] = 0
    soundfile.write(tmp_path / "talk.wav", samples, 16000)

    class Any:
        def transcribe(
            self, clips: Sequence[Samples], *, whole_windows: bool
        ) -> list[Transcription]:
            return [
                Transcription("so many words were said in here that nobody counts", -0.1)
            ] * len(clips)

    label(tmp_path / "talk.wav", tmp_path / "out", teacher=Any())
    cuts = list(read_cuts(tmp_path / "out"))
    assert len(cuts) == 2
    assert sum(cut.duration for cut in cuts) == pytest.approx(40.0)
    assert 20 < cuts[0].duration < 21 or 20 < cuts[1].duration < 21


def test_tables_and_cutsets_are_recordings_too(recordings: Path, tmp_path: Path) -> None:
    table = tmp_path / "some.tsv"
    table.write_text("id\tpath\tspeaker\none\trecordings/a/1.wav\tanna\n", "utf-8")
    label(table, tmp_path / "table", teacher=Scripted(SCRIPT))
    (cut,) = read_cuts(tmp_path / "table")
    assert (cut.id, cut.supervisions[0].speaker) == ("one", "anna")
    label(tmp_path / "table", tmp_path / "cuts", teacher=Scripted(SCRIPT))
    (again,) = read_cuts(tmp_path / "cuts")
    assert again.supervisions[0].text == "yes"


def test_folders_are_not_mixed(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(recordings, out, teacher=Scripted(SCRIPT))
    with pytest.raises(DataError, match="new folder"):
        label(recordings, out, teacher=Scripted(SCRIPT), agree=Scripted(SCRIPT))
    with pytest.raises(DataError, match="contains other files"):
        label(recordings, recordings, teacher=Scripted(SCRIPT))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no sound file"):
        label(tmp_path / "empty", tmp_path / "x", teacher=Scripted(SCRIPT))
    with pytest.raises(DataError, match=r"model\.bin"):
        open_teacher(tmp_path)


def test_training_takes_confidence_as_a_threshold(recordings: Path, tmp_path: Path) -> None:
    label(recordings, tmp_path / "out", teacher=Scripted(SCRIPT))
    cuts = read_cuts(tmp_path / "out")
    tokens = train_tokens(["yes at five call anna open"], TextConfig(vocabulary_size=32), tmp_path)
    kept, report = usable_cuts(
        cuts, tokens, TextConfig(), DataConfig(min_confidence=0.7), Framing(40)
    )
    assert set(kept.ids) == {"a/1", "a/3"}
    assert report.counts() == {"unsure": 2}


def test_whisper_writes_down_what_espeak_says(tmp_path: Path) -> None:
    folder = Path(os.environ.get("DUALMODE_WHISPER", "models/whisper-base"))
    pytest.importorskip("faster_whisper", reason="the extra 'teach' is not installed")
    pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")
    if not (folder / "model.bin").is_file():
        pytest.skip("no Whisper: name its folder in DUALMODE_WHISPER")
    from dualmode.teaching.voices import Manner, open_voices

    said = open_voices("espeak").say(
        "please open the kitchen window", Manner("anton", 0.9), np.random.default_rng(0)
    )
    soundfile.write(tmp_path / "said.wav", said, 16000)
    label(tmp_path / "said.wav", tmp_path / "out", teacher=folder)
    (cut,) = read_cuts(tmp_path / "out")
    assert "window" in cut.supervisions[0].text
    lines = (tmp_path / "out" / LABELS).read_text(encoding="utf-8").splitlines()
    assert 0.2 < json.loads(lines[0])["log_prob"] + 1 <= 1
