"""Tables become CutSets; whatever is wrong with a file is found before training, and reported."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet

from dualmode.config import TextConfig
from dualmode.data.manifests import prepare_tsv, read_cuts
from dualmode.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
HEADER = "id\tpath\tseconds\tspeaker\tcorpus\ttext"
RNG = np.random.default_rng(0)


def write_sound(path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> None:
    noise = RNG.normal(0, 0.1, (round(seconds * rate), channels))
    kind = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, noise, rate, **kind)


def write_table(path: Path, rows: list[tuple[str, str, str]], header: str = HEADER) -> Path:
    lines = [f"{name}\t{file}\t1\tann\tcorpus-a\t{text}" for name, file, text in rows]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def problems(out: Path) -> dict[str, tuple[str, str]]:
    report = json.loads((out / "report.json").read_text())
    assert report["left_out"] == len(report["problems"])
    return {p["what"]: (p["kind"], p["why"]) for p in report["problems"]}


def test_every_format_is_kept_with_what_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = ["a.wav", "b.flac", "c.mp3", "d.ogg", "e.opus"]
    for name in names:
        write_sound(tmp_path / "in" / name, 1.5, 8000, 2)
    table = write_table(tmp_path / "in" / "t.tsv", [(n, n, "Stop, now!") for n in names])
    report = prepare_tsv(table, tmp_path / "out")
    cuts = read_cuts(tmp_path / "out")
    assert report.kept == len(cuts) == 5
    assert report.problems == []
    assert report.kept_seconds == pytest.approx(7.5, abs=0.1)
    for cut in cuts:
        (supervision,) = cut.supervisions
        assert (supervision.text, supervision.speaker) == ("stop now", "ann")
        assert supervision.custom == {"corpus": "corpus-a"}
        assert Path(cut.recording.sources[0].source).is_absolute()
        assert cut.load_audio().shape == (2, cut.num_samples)
    # Lhotse itself accepts what was written.
    CutSet.from_file(tmp_path / "out" / "cuts.jsonl.gz").to_eager()


def bad_files(folder: Path) -> list[tuple[str, str, str]]:
    """Rows (id, file, text), whose id is the kind of problem that is to be reported."""
    write_sound(folder / "good.wav")
    write_sound(folder / "brief.wav", 0.05)
    write_sound(folder / "endless.wav", 601, 8000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not a sound " * 99)
    buffer = io.BytesIO()
    soundfile.write(buffer, RNG.normal(0, 0.1, 32000), 16000, format="FLAC")
    (folder / "half.flac").write_bytes(buffer.getvalue()[:20000])
    soundfile.write(folder / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    return [
        ("audio: no such file", "missing.wav", "stop"),
        ("audio: empty", "empty.wav", "stop"),
        ("audio: not audio", "text.wav", "stop"),
        ("audio: truncated", "half.flac", "stop"),
        ("audio: NaN", "nan.wav", "stop"),
        ("silence: -60 dB", "silence.wav", "stop"),
        ("too short: 0.050 s", "brief.wav", "stop"),
        ("too long: 601 s", "endless.wav", "stop"),
        ("text: digits", "good.wav", "stop at 9"),
        ("text: unknown symbols", "good.wav", "\u505c"),
        ("text: no text", "good.wav", " "),
        ("text too long: letters in 1.00 s", "good.wav", "turn off the light and open the door"),
    ]


def test_every_kind_of_bad_input_is_left_out_and_listed(tmp_path: Path) -> None:
    rows = bad_files(tmp_path)
    good = [("good", "good.wav", "stop"), ("good", "good.wav", "again")]
    report = prepare_tsv(write_table(tmp_path / "t.tsv", good + rows), tmp_path / "out")
    assert list(read_cuts(tmp_path / "out").ids) == ["good"]
    found = problems(tmp_path / "out")
    for name, _, _ in rows:
        kind, _, reason = name.partition(": ")
        assert found[name][0] == kind
        assert reason in found[name][1]
    assert found["good"][0] == "duplicate id"
    assert len(report.problems) == len(rows) + 1
    assert all(problem.where and problem.why for problem in report.problems)
    assert "1 utterances" in report.summary()
    assert "13 left out" in report.summary()


def test_lines_with_missing_cells_are_listed(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = write_table(tmp_path / "t.tsv", [("a", "a.wav", "stop"), ("", "a.wav", "stop")])
    with table.open("a") as file:
        file.write("b\ta.wav\n")
        file.write("c\ta.wav\t1\tx\ty\tstop\tmore\n")
    report = prepare_tsv(table, tmp_path / "out")
    assert [(p.what, p.where[-6:]) for p in report.problems] == [
        ("?", "line 3"),
        ("b", "line 4"),
        ("c", "line 5"),
    ]


def test_untranscribed_rows_are_kept_if_asked(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = write_table(tmp_path / "t.tsv", [("a", "a.wav", ""), ("b", "a.wav", "Stop!")])
    prepare_tsv(table, tmp_path / "out", allow_untranscribed=True)
    cuts = read_cuts(tmp_path / "out")
    assert [cut.supervisions[0].text for cut in cuts] == [None, "stop"]


def test_text_that_cannot_be_used_does_not_cost_untranscribed_sound(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = tmp_path / "t.tsv"
    odd = ("room 9", "\u043f\u0440\u0438\u0432\u0435\u0442", "much too long for it " * 9)
    lines = [f"{number}\ta.wav\t{text}" for number, text in enumerate(odd)]
    table.write_text("\n".join(["id\tpath\ttext", *lines, "short\ta.wav"]) + "\n", "utf-8")
    report = prepare_tsv(table, tmp_path / "out", allow_untranscribed=True)
    assert not report.problems
    assert [cut.supervisions[0].text for cut in read_cuts(tmp_path / "out")] == [None] * 4
    with pytest.raises(DataError, match="no utterance can be used"):
        prepare_tsv(table, tmp_path / "strict")


def test_untranscribed_sound_needs_no_column_for_text(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = tmp_path / "t.tsv"
    table.write_text("id\tpath\na\ta.wav\n")
    assert prepare_tsv(table, tmp_path / "out", allow_untranscribed=True).kept == 1
    with pytest.raises(DataError, match="no column text"):
        prepare_tsv(table, tmp_path / "strict")


def test_classes_of_noise_are_kept_as_they_are(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = write_table(tmp_path / "t.tsv", [("a", "a.wav", "Dog #1 (bark)")])
    prepare_tsv(table, tmp_path / "out", noise=True)
    assert read_cuts(tmp_path / "out")["a"].supervisions[0].text == "Dog #1 (bark)"


def test_text_follows_the_recipe(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = write_table(tmp_path / "t.tsv", [("a", "a.wav", "at 9")])
    prepare_tsv(table, tmp_path / "out", text=TextConfig(case="upper", digits="spell"))
    assert read_cuts(tmp_path / "out")["a"].supervisions[0].text == "AT NINE"


def test_flac_copies_sound_the_same(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.opus", 2.0)
    write_sound(tmp_path / "b.wav", 2.0, 48000, 2)
    rows = [("a/1", "a.opus", "stop"), ("a_1", "b.wav", "stop")]
    prepare_tsv(write_table(tmp_path / "t.tsv", rows), tmp_path / "plain")
    prepare_tsv(tmp_path / "t.tsv", tmp_path / "copied", to_flac=True)
    plain, copied = read_cuts(tmp_path / "plain"), read_cuts(tmp_path / "copied")
    for name in ("a/1", "a_1"):
        path = Path(copied[name].recording.sources[0].source)
        assert path.parent == tmp_path / "copied" / "audio"
        assert copied[name].duration == pytest.approx(plain[name].duration)
        assert (copied[name].sampling_rate, copied[name].num_channels) == (16000, 1)
    difference = copied["a/1"].load_audio() - plain["a/1"].load_audio()
    assert np.abs(difference).max() < 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty table"),
        (HEADER + "\n", "empty table"),
        ("id\tfile\ttext\n1\t2\t3\n", "no column path"),
        ("a,b\n1,2\n", "no column id, path, text"),
    ],
)
def test_what_is_not_such_a_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        prepare_tsv(tmp_path / "t.tsv", tmp_path / "out")


def test_binary_and_missing_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b"\xff\xfe\x00id\tpath")
    with pytest.raises(DataError, match="UTF-8"):
        prepare_tsv(tmp_path / "t.tsv", tmp_path / "out")
    with pytest.raises(DataError, match="no such table"):
        prepare_tsv(tmp_path / "none.tsv", tmp_path / "out")


def test_a_table_without_anything_usable_reports_and_fails(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.tsv", [("a", "missing.wav", "stop")])
    with pytest.raises(DataError, match=r"report\.json says why"):
        prepare_tsv(table, tmp_path / "out")
    assert problems(tmp_path / "out")["a"][0] == "audio"
    assert not (tmp_path / "out" / "cuts.jsonl.gz").exists()


def test_many_files_are_checked_in_processes_in_order(tmp_path: Path) -> None:
    for number in range(20):
        write_sound(tmp_path / f"{number}.wav", 0.2)
    (tmp_path / "7.wav").write_bytes(b"broken")
    rows = [(f"id-{n}", f"{n}.wav", "stop") for n in range(20)]
    report = prepare_tsv(write_table(tmp_path / "t.tsv", rows), tmp_path / "out", jobs=2)
    kept = list(read_cuts(tmp_path / "out").ids)
    assert kept == [f"id-{n}" for n in range(20) if n != 7]
    assert [p.what for p in report.problems] == ["id-7"]


def test_cutsets_are_read_from_files_and_folders_and_joined(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sound(tmp_path / f"{name}.wav")
        table = write_table(tmp_path / f"{name}.tsv", [(name, f"{name}.wav", "stop")])
        prepare_tsv(table, tmp_path / name)
    both = read_cuts([tmp_path / "one", tmp_path / "two" / "cuts.jsonl.gz"])
    assert list(both.ids) == ["one", "two"]
    assert list(read_cuts(str(tmp_path / "one")).ids) == ["one"]


def test_damaged_cutsets_are_refused(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = write_table(tmp_path / "t.tsv", [("a", "a.wav", "stop")])
    prepare_tsv(table, tmp_path / "out")
    whole = (tmp_path / "out" / "cuts.jsonl.gz").read_bytes()
    recordings = RecordingSet.from_recordings([read_cuts(tmp_path / "out")["a"].recording])
    recordings.to_file(tmp_path / "recordings.jsonl.gz")
    broken = {
        "truncated": whole[: len(whole) // 2],
        "binary": bytes(range(256)),
        "json": gzip.compress(b'{"id": "a", "start":'),
        "other": gzip.compress(b'{"hello": "world"}\n'),
        "empty": gzip.compress(b""),
        "nothing": b"",
        "recordings": (tmp_path / "recordings.jsonl.gz").read_bytes(),
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.jsonl\.gz: "):
            read_cuts(path)


def test_missing_cutsets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such CutSet"):
        read_cuts(tmp_path / "none.jsonl.gz")
    with pytest.raises(DataError, match="no such CutSet"):
        read_cuts(tmp_path)
    with pytest.raises(DataError, match="name at least one"):
        read_cuts([])


def test_a_failed_preparation_leaves_the_last_one_in_place(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    table = write_table(tmp_path / "t.tsv", [("a", "a.wav", "stop")])
    prepare_tsv(table, tmp_path / "out")
    write_table(table, [("b", "missing.wav", "stop")])
    with pytest.raises(DataError):
        prepare_tsv(table, tmp_path / "out")
    assert list(read_cuts(tmp_path / "out").ids) == ["a"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared speech data is not on this machine")
@pytest.mark.parametrize("name", ["train", "dev", "test", "unlabelled", "noise"])
def test_real_tables_can_be_prepared(tmp_path: Path, name: str) -> None:
    with (SHARED / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:12]
    lines = [
        "\t".join([row["id"], str(SHARED / row["path"]), "", row["speaker"], "", row["text"]])
        for row in rows
    ]
    (tmp_path / "t.tsv").write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    report = prepare_tsv(
        tmp_path / "t.tsv",
        tmp_path / "out",
        noise=name == "noise",
        allow_untranscribed=name == "unlabelled",
    )
    assert report.kept >= 8
    stated = {row["id"]: float(row["seconds"]) for row in rows}
    for cut in read_cuts(tmp_path / "out"):
        assert cut.duration == pytest.approx(stated[cut.id], abs=0.05)
