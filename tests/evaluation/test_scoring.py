"""Evaluations: the schema, by hand-made errors, of a recogniser whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, Recording
from rich.console import Console

from dualmode.errors import DataError, SubnetError
from dualmode.evaluation.scoring import evaluate
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.recognizer import Recognizer, load

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rec(talkative_model) -> Recognizer:
    return load(talkative_model)


def relabelled(cut: MonoCut, text: str) -> MonoCut:
    cut.supervisions[0].text = text
    cut.supervisions[0].alignment = None
    return cut


@pytest.fixture
def cuts(make_cut) -> CutSet:
    return CutSet.from_cuts(
        [
            make_cut("a", "One two", 2.0, speaker="x", corpus="north", ends=[0.5, 1.0]),
            make_cut("bb", "three, four!", 3.0, speaker="y", corpus="south", ends=[0.5, 2.9]),
            make_cut("ccc", "one one two", 1.5, speaker="y", corpus="south", ends=[0.2, 0.4, 1.4]),
        ]
    )


def test_what_the_recogniser_says_is_scored_right(rec, make_cut) -> None:
    """References are what server says, with one word taken out of one of them."""
    cuts = [make_cut(name, "x", seconds) for name, seconds in (("a", 3.0), ("bbb", 4.0))]
    said = [rec.transcribe(cut.load_audio()[0].astype("float32")).text for cut in cuts]
    words = [len(text.split()) for text in said]
    assert min(words) >= 2, "the tiny model must speak for this test to mean anything"
    shortened = " ".join(said[1].split()[:-1])
    cuts = [relabelled(cuts[0], said[0]), relabelled(cuts[1], shortened)]
    found = evaluate(rec, CutSet.from_cuts(cuts), ("server",)).to_dict()["server"]
    assert found["insertions"] == 1
    assert found["deletions"] == found["substitutions"] == 0
    assert found["words"] == sum(words) - 1
    assert found["wer"] == pytest.approx(1 / found["words"])
    assert "latency_ms" not in found


def test_json_has_the_promised_keys(rec, cuts, tmp_path: Path) -> None:
    found = evaluate(rec, cuts)
    found.write_json(tmp_path / "evaluation.json")
    parsed = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(parsed) == {"server", "device"}
    for entry in parsed.values():
        assert {
            *("wer", "cer", "ci95", "ci95_speakers", "rtf", "utterances", "words"),
            *("insertions", "deletions", "substitutions", "sparsity", "threads", "corpora"),
        } <= set(entry)
        assert entry["utterances"] == 3
        assert entry["words"] == 7
        assert entry["ci95"][0] <= entry["wer"] <= entry["ci95"][1]
        assert entry["rtf"] > 0
        assert {c: e["words"] for c, e in entry["corpora"].items()} == {"north": 2, "south": 5}
        errors = sum(e["wer"] * e["words"] for e in entry["corpora"].values())
        assert errors == pytest.approx(entry["wer"] * 7)
    assert parsed["server"]["sparsity"] == 0.0
    assert parsed["device"]["sparsity"] == 0.5
    latency = parsed["device"]["latency_ms"]
    assert (latency["chunk"], latency["lookahead"], latency["worst_case"]) == (160, 80, 240)
    assert latency["reference"] == "alignment"
    assert {"emission_median", "emission_p90", "emission_words"} <= set(latency)


def test_the_server_times_words_that_have_no_alignment(rec, make_cut, monkeypatch) -> None:
    """One chunk over all of the audio hears what server does, but only at the end."""
    monkeypatch.setattr(rec, "tail_s", 0.0)
    cut = make_cut("a", "x", 4.0)
    server = rec.transcribe(cut.load_audio()[0])
    assert len(server.words) > 3, "the tiny model must speak for this test to mean anything"
    cuts = CutSet.from_cuts([relabelled(cut, server.text)])
    wide = Subnet(ChunkedContext(200, 0, 0))
    for subnets in ({"device": wide}, {"server": SERVER, "device": wide}):
        found = evaluate(rec, cuts, subnets)
        assert set(found.results) == set(subnets)
        latency = found.to_dict()["device"]["latency_ms"]
        assert latency["reference"] == "server"
        assert latency["emission_words"] == len(server.words)
        late = 1000 * (4.0 - np.array([word.end_s for word in server.words]))
        assert latency["emission_median"] == pytest.approx(np.median(late), abs=0.1)
        assert latency["emission_p90"] == pytest.approx(np.percentile(late, 90), abs=0.1)


def test_an_alignment_is_believed_before_the_server(rec, make_cut, monkeypatch) -> None:
    monkeypatch.setattr(rec, "tail_s", 0.0)
    words = rec.transcribe(make_cut("a", "x", 4.0).load_audio()[0]).text.split()
    ends = [round(0.01 * number + 0.2, 3) for number in range(len(words))]
    cut = make_cut("a", " ".join(words), 4.0, ends=ends)
    subnets = {"server": SERVER, "device": Subnet(ChunkedContext(200, 0, 0))}
    latency = evaluate(rec, CutSet.from_cuts([cut]), subnets).to_dict()["device"]["latency_ms"]
    assert latency["reference"] == "alignment"
    late = 1000 * (4.0 - np.array(ends))
    assert latency["emission_median"] == pytest.approx(np.median(late), abs=0.1)


def test_streams_are_what_is_scored_for_device(rec, cuts) -> None:
    found = evaluate(rec, cuts, ("device",))
    for utterance, hypothesis in zip(
        found.utterances, found.results["device"].hypotheses, strict=True
    ):
        (cut,) = [c for c in cuts if c.id == utterance.id]
        stream = rec.stream("device", endpointing=None)
        stream.push(cut.load_audio()[0])
        assert stream.finish().text == hypothesis


def test_batches_change_speed_not_text(rec, cuts) -> None:
    alone = evaluate(rec, cuts, batch_seconds=0.1)
    together = evaluate(rec, cuts, batch_seconds=1000)
    for name in ("server", "device"):
        assert alone.results[name].hypotheses == together.results[name].hypotheses


def test_cuts_that_cannot_be_scored_are_listed_and_the_others_scored(
    rec, cuts, make_cut, tmp_path
) -> None:
    broken = make_cut("broken", "one two")
    Path(broken.recording.sources[0].source).write_bytes(b"not audio")
    odd = make_cut("digits", "call 911")
    silent = make_cut("no-text", "  ")
    found = evaluate(rec, CutSet.from_cuts([*cuts, broken, odd, silent]), ("server",))
    assert {s.id for s in found.skipped} == {"broken", "digits", "no-text"}
    assert "digits" in next(s.why for s in found.skipped if s.id == "digits")
    assert found.to_dict()["server"]["utterances"] == 3
    assert found.to_dict()["server"]["skipped"] == 3
    with pytest.raises(DataError, match="none of 1 cuts"):
        evaluate(rec, CutSet.from_cuts([odd]), ("server",))


def test_other_subnets_by_name_progress_and_outputs(rec, cuts, tmp_path) -> None:
    seen: list[tuple[float, float]] = []
    subnets = {
        "fast": Subnet(ChunkedContext(2, 4, 0), 0.5),
        "dense": Subnet(ChunkedContext(8, 8, 2)),
    }
    found = evaluate(
        rec, cuts, subnets, batch_seconds=2.0, progress=lambda done, all_: seen.append((done, all_))
    )
    assert set(found.to_dict()) == {"fast", "dense"}
    assert seen[-1] == (6.5, 6.5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    found.write_utterances(tmp_path / "lines.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {"a", "bb", "ccc"}
    assert {line["ref"] for line in lines} == {"one two", "three four", "one one two"}
    assert all({"fast", "dense", "corpus", "speaker"} <= set(line) for line in lines)

    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found.table())
    text = console.export_text()
    assert "north" in text
    assert "fast" in text


def test_unknown_subnets_are_refused_before_any_work(rec, cuts) -> None:
    with pytest.raises(SubnetError):
        evaluate(rec, cuts, ("laptop",))


def test_recordings_at_other_rates_are_resampled(rec, tmp_path) -> None:
    import soundfile
    from lhotse import SupervisionSegment

    path = tmp_path / "stereo.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((44100, 1)), 44100)
    recording = Recording.from_file(path, recording_id="r")
    segment = SupervisionSegment("r", "r", 0.0, 1.0, text="one")
    cut = MonoCut("r", 0.0, 1.0, 0, supervisions=[segment], recording=recording)
    found = evaluate(rec, CutSet.from_cuts([cut]), ("server",))
    assert found.utterances[0].seconds == pytest.approx(1.0)
