"""Loading a cut reads local files and memory, whatever its manifest asks for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lhotse import AudioSource, CutSet, MonoCut, Recording
from lhotse.audio.backend import get_current_audio_backend

from dualmode.data.left_out import Report
from dualmode.data.loading import load_noise, load_samples
from dualmode.data.manifests import read_cuts, write_cuts
from dualmode.errors import AudioError, DataError

MakeCut = Callable[..., MonoCut]


def with_source(cut: MonoCut, kind: str, source: str | bytes) -> MonoCut:
    """The cut with its audio taken from elsewhere."""
    cut = cut.with_id(cut.id)
    old = cut.recording
    cut.recording = Recording(
        old.id, [AudioSource(kind, [0], source)], old.sampling_rate, old.num_samples, old.duration
    )
    return cut


def test_memory_is_read(make_cut: MakeCut) -> None:
    cut = make_cut("memory")
    content = Path(cut.recording.sources[0].source).read_bytes()
    assert np.array_equal(load_samples(with_source(cut, "memory", content)), load_samples(cut))


@pytest.mark.parametrize("kind", ["command", "url", "shar"])
@pytest.mark.parametrize("where", ["alone", "mixed", "room", "in a file"])
def test_a_manifest_runs_nothing_and_fetches_nothing(
    make_cut: MakeCut, tmp_path: Path, kind: str, where: str
) -> None:
    bait = tmp_path / "ran"
    audio = make_cut("bait").recording.sources[0].source
    source = f"touch {bait}; cat {audio}" if kind == "command" else f"file://{audio}"
    bad = with_source(make_cut("bait"), kind, source)
    if where == "mixed":
        bad = make_cut("host").mix(bad)
    elif where == "room":
        room = {"name": "ReverbWithImpulseResponse", "kwargs": {"rir": bad.recording.to_dict()}}
        bad = make_cut("host")
        bad.recording.transforms = [room]
    elif where == "in a file":
        write_cuts([bad], tmp_path / "cuts.jsonl.gz")
        bad = read_cuts(tmp_path)[0]
    with pytest.raises(AudioError, match="save_audios"):
        load_samples(bad)
    assert not bait.exists()


def test_the_name_of_a_file_reaches_no_shell(make_cut: MakeCut, tmp_path: Path) -> None:
    """Lhotse reads .sph files by a command line into which it writes their path."""
    bait = tmp_path / "ran"
    bad = with_source(make_cut("sphere"), "file", f"none; touch {bait}; #.sph")
    with pytest.raises(AudioError, match="sphere"):
        load_samples(bad)
    assert not bait.exists()


def test_a_cut_set_whose_name_is_a_pipe_is_a_file(
    make_cut: MakeCut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cuts([make_cut("piped")], tmp_path / "cuts.jsonl")
    name = "pipe:touch ran; cat cuts.jsonl"
    shutil.copy("cuts.jsonl", name)
    assert list(read_cuts(name).ids) == ["piped"]
    assert not (tmp_path / "ran").exists()


def test_lhotse_keeps_the_backend_that_it_had(make_cut: MakeCut) -> None:
    before = get_current_audio_backend()
    load_samples(make_cut("backend"))
    with pytest.raises(AudioError):
        load_samples(with_source(make_cut("backend"), "file", "/nowhere.wav"))
    assert get_current_audio_backend() is before


def test_noise_is_data_too(make_cut: MakeCut, tmp_path: Path) -> None:
    bad = with_source(make_cut("noise"), "command", f"touch {tmp_path / 'ran'}")
    with pytest.raises(DataError, match="command"):
        load_noise(CutSet.from_cuts([bad]), 0, Report("noise"))
    assert not (tmp_path / "ran").exists()


def test_noise_that_cannot_be_read_is_left_out(make_cut: MakeCut) -> None:
    good, report = make_cut("hum", 1.0), Report("noise")
    bad = with_source(make_cut("hiss"), "file", "/nowhere.wav")
    (noise,) = load_noise(CutSet.from_cuts([bad, good]), 0, report)
    assert np.array_equal(noise, load_samples(good))
    assert [(problem.what, problem.kind) for problem in report.problems] == [
        ("hiss", "unreadable noise")
    ]
