"""Recognisers that know something of the text: in files, in streams, and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.decoding.stream import Endpointing
from dualmode.decoding.transcript import Transcript, Word, in_writing
from dualmode.errors import LanguageError
from dualmode.evaluation.tuning import tune_lm
from dualmode.language.ngram import NGram, read_ngram
from dualmode.language.ngram_build import build
from dualmode.language.ngram_estimate import estimate
from dualmode.recognizer import Recognizer, load

pytestmark = pytest.mark.usefixtures("one_thread")

DECOYS = ["one", "two three", "seven {digit} five", "(four | six) one two"]
ANYTHING = float("-inf")


@pytest.fixture(scope="module")
def rec(talkative_model: Path) -> Recognizer:
    return load(talkative_model)


@pytest.fixture(scope="module")
def model(rec: Recognizer) -> NGram:
    texts = ["one two three", "four five six seven", "seven one five"]
    return build(estimate([rec.tokens.encode(text) for text in texts], rec.tokens, order=3))


def shape(transcript: Transcript) -> list[tuple[int, int]]:
    return [(token.id, token.frame) for token in transcript.tokens]


def known(name: str, model: NGram) -> dict[str, object]:
    return {
        "hotwords": {"hotwords": {"seven": 1.0, "two three": 2.0}},
        "lm": {"lm": model, "lm_weight": 0.5, "prior_weight": 0.3},
    }[name]


@pytest.mark.parametrize("name", ["phrases", "hotwords", "lm"])
def test_streamed_equals_whole(rec, babble, model, name: str) -> None:  # type: ignore[no-untyped-def]
    samples = babble(4.0)
    if name == "phrases":
        said = rec.transcribe(samples, "device", "beam").text
        options: dict[str, object] = {
            "phrases": [said, said.split(" ")[0], *DECOYS],
            "threshold": ANYTHING,
        }
    else:
        options = known(name, model)
    whole = rec.transcribe(samples, "device", nbest=3, **options)
    stream = rec.stream("device", endpointing=None, nbest=3, **options)
    for start in range(0, len(samples), 1900):
        stream.push(samples[start : start + 1900])
    streamed = stream.finish()
    assert shape(streamed) == shape(whole)
    assert whole.words or name == "phrases", "it must speak for this to mean anything"
    assert [a.text for a in streamed.alternatives] == [a.text for a in whole.alternatives]
    (beside, _) = rec.stream_batch([samples, babble(2.0, 1)], "device", **options)
    assert shape(beside) == shape(whole)


@pytest.mark.parametrize("subnet", ["server", "device"])
def test_the_answer_is_a_phrase_or_none(rec, babble, subnet: str) -> None:  # type: ignore[no-untyped-def]
    audios = [babble(2.0, seed) for seed in range(3)]
    said = [transcript.text for transcript in rec.transcribe_batch(audios, subnet, "beam")]
    automaton = rec.compile_phrases([*said, *DECOYS])
    found = rec.transcribe_batch(audios, subnet, phrases=automaton, threshold=ANYTHING)
    assert all(automaton.accepts(t.text) or not t.words for t in found)
    assert any(t.words for t in found) or subnet == "server"
    none = rec.transcribe(audios[0], subnet, phrases=automaton, threshold=1e9)
    assert none.words == ()
    assert none.margin == pytest.approx(found[0].margin, abs=1e-3)
    assert none.rejected or subnet == "server", "server hears nothing but blanks there"
    assert rec.transcribe(audios[0], subnet, phrases=DECOYS, threshold=-0.1).words == ()


def test_segments_of_a_stream_are_phrases(rec, babble) -> None:  # type: ignore[no-untyped-def]
    ending = Endpointing(silence_s=0.4, longest_s=2.0)

    def segments(**options: object) -> list[Transcript]:
        stream = rec.stream("device", "beam", endpointing=ending, **options)
        partials = [stream.push(babble(2.0, seed)) for seed in range(4)]
        return [segment for partial in partials if partial for segment in partial.finished]

    said = [segment.text for segment in segments()]
    assert len(said) > 1
    automaton = rec.compile_phrases([*said, *DECOYS])
    found = segments(phrases=automaton, threshold=ANYTHING)
    assert any(segment.words for segment in found)
    assert all(automaton.accepts(segment.text) for segment in found if segment.words)
    others = segments(phrases=DECOYS, threshold=-0.1)
    assert others
    assert all(segment.rejected for segment in others)


def test_nothing_changes_at_strength_and_weight_zero(rec, babble, model) -> None:  # type: ignore[no-untyped-def]
    samples = babble(3.0)
    for subnet in ("server", "device"):
        beam = rec.transcribe(samples, subnet, "beam")
        assert shape(rec.transcribe(samples, subnet, hotwords={"seven": 0.0})) == shape(beam)
        assert shape(rec.transcribe(samples, subnet, "beam", lm=model, lm_weight=0.0)) == shape(
            beam
        )


def test_alternatives_are_different_and_the_first_is_the_text(rec, babble) -> None:  # type: ignore[no-untyped-def]
    found = rec.transcribe(babble(2.0), "server", nbest=4)
    texts = [tuple(word.text for word in a.words) for a in found.alternatives]
    assert texts[0] == tuple(word.text for word in found.words)
    assert 1 < len(found.alternatives) <= 4
    assert sum(a.probability for a in found.alternatives) == pytest.approx(1)
    scores = [a.score for a in found.alternatives]
    assert scores == sorted(scores, reverse=True)


def test_written_form_keeps_the_spoken_words(rec, babble) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("text_to_num", reason="text2num is in the extra written")
    spoken = [
        Word(w, i / 2, i / 2 + 0.4, 0.9 - i / 10) for i, w in enumerate(["press", "six", "five"])
    ]
    press, number = in_writing(spoken)
    assert (press.text, number.text, number.spoken) == ("press", "65", tuple(spoken[1:]))
    assert (number.start_s, number.end_s) == (0.5, 1.4)
    assert number.confidence == pytest.approx(0.7)
    found = rec.transcribe(babble(2.0), "server", written=True)
    assert tuple(word for written in found.written for word in written.spoken) == found.words
    assert rec.transcribe(babble(2.0), "server").written == ()


class Other:
    """A vocabulary of other tokens."""

    pieces = ("<blk>", "<unk>", "\u2581a")


BAD = {
    "empty": {"phrases": []},
    "digit.*café|é": {"phrases": ["café €"]},
    "recursive": {"phrases": ["{a}", "a = {a}"]},
    "twice": {"hotwords": ["seven", "seven"]},
    "no hotwords": {"hotwords": {}},
    "other tokens": {"lm": build(estimate([[2]], Other(), order=1))},
    "nbest": {"nbest": 0},
    "cannot read": {"phrases": "missing.txt"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_before_audio_is_read(rec, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LanguageError, match=message):
        rec.transcribe("no such file.wav", **BAD[message])
    with pytest.raises(LanguageError, match=message):
        rec.stream("device", **BAD[message])


class Cuts:
    """Encoded cuts whose text is right when the weights are."""

    references = ("one two", "three")

    def texts(self, search: str, **options: float) -> list[str]:
        weights = {name: options[name] for name in ("lm_weight", "prior_weight", "token_bonus")}
        good = {"lm_weight": 0.4, "prior_weight": 0.1, "token_bonus": 0.2}
        right = sum(weights[name] == good[name] for name in good)
        return [["wrong", "one", "one two", "one two"][right], "three" if right == 3 else "tree"]


def test_weights_are_those_of_the_fewest_errors(model: NGram) -> None:
    tried: list[dict[str, float]] = []
    settings, rate, without = tune_lm(Cuts(), model, lambda found, _: tried.append(found))  # type: ignore[arg-type]
    assert settings == {"lm_weight": 0.4, "prior_weight": 0.1, "token_bonus": 0.2}
    assert rate == 0 < without
    assert len(tried) < 40, "no setting twice"


def test_commands(talkative_model: Path, tmp_path: Path, babble) -> None:  # type: ignore[no-untyped-def]
    run = CliRunner().invoke
    text, lm = tmp_path / "text.txt", tmp_path / "some.lm"
    text.write_text("one two three\nseven 6 five\n%%\n", encoding="utf-8")
    made = run(app, ["lm", str(text), str(lm), "--model", str(talkative_model)])
    assert made.exit_code == 0, made.output
    assert "1 of 3 lines left out" in made.output
    assert read_ngram(lm).order == 6
    wav, phrases = tmp_path / "a.wav", tmp_path / "phrases.txt"
    soundfile.write(wav, babble(2.0), 16000)
    said = load(talkative_model).transcribe(wav, "server", "beam").text
    phrases.write_text(f"{said}\none\n", encoding="utf-8")
    line = ["transcribe", str(talkative_model), str(wav), "--format", "json", "--lm", str(lm)]
    options = ["--phrases", str(phrases), "--threshold", "-1000", "--hotwords", "seven=2, one"]
    found = run(app, [*line, *options, "--nbest", "2"])
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["text"] in (said, "one")
    assert result["alternatives"][0]["text"] == result["text"]
    assert "margin" in result
    refused = run(app, [*line, "--hotwords", "seven, seven"])
    assert isinstance(refused.exception, SystemExit)
    assert "twice" in refused.output
