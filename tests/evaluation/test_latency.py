"""Emission delays: what is computed from frames is what a stream measures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.decoding.transcript import Token, Transcript, token_spans, transcript_of
from dualmode.errors import SubnetError
from dualmode.evaluation.latency import (
    TimedWord,
    audio_needed_s,
    matches,
    summarize,
    tail_report,
    word_delays_s,
)
from dualmode.features import Framing
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.recognizer import Recognizer, load

pytestmark = pytest.mark.usefixtures("one_thread")


FRAMINGS = [Framing(40), Framing(80)]


@pytest.fixture(scope="module")
def rec(talkative_model) -> Recognizer:
    return load(talkative_model)


@pytest.fixture(scope="module")
def rec_80ms(talkative_80ms) -> Recognizer:
    return load(talkative_80ms)


@settings(max_examples=12, deadline=None)
@given(
    st.builds(ChunkedContext, st.integers(1, 9), st.integers(0, 8), st.integers(0, 5)),
    st.integers(0, 100),
    st.booleans(),
)
def test_delays_are_those_that_a_session_shows(rec, rec_80ms, babble, context, seed, long) -> None:
    """Push 10 ms at a time, and note how much was pushed when each word was complete."""
    rec = rec_80ms if long else rec
    subnet = Subnet(context, 0.5)
    samples = babble(2.0, seed)
    stream = rec.stream(subnet, endpointing=None)
    heard_s: dict[int, float] = {}  # by number of tokens
    for at in range(0, len(samples), 160):
        stream.push(samples[at : at + 160])
        count = len(stream._search.best(stream._past.hypotheses)[0])
        for number in range(len(heard_s) + 1, count + 1):
            heard_s[number] = (at + 160) / 16000
    transcript = stream.finish()
    spans = token_spans(transcript.tokens, rec.tokens)
    reference = [TimedWord(span.text, 0.0) for span in spans]
    delays = word_delays_s(transcript, reference, rec.tokens, subnet, rec.framing)
    measured = [heard_s.get(span.end, 2.0) for span in spans]
    assert len(delays) == len(spans)
    assert np.allclose(delays, measured, atol=0.0101)
    assert all(delay <= shown + 1e-9 for delay, shown in zip(delays, measured, strict=True))


@given(
    st.builds(ChunkedContext, st.integers(1, 20), st.just(0), st.integers(0, 9)),
    st.integers(0, 500),
    st.sampled_from(FRAMINGS),
)
def test_the_worst_frame_waits_for_chunk_and_lookahead(context, frame, framing) -> None:
    frame_s = framing.frame_s
    waits_s = audio_needed_s(context, framing, frame) - (frame + 1) * frame_s
    beyond_s = {40: 0.0375, 80: 0.0775}[framing.frame_ms]  # what a frame reads after its end
    longest = (context.chunk - 1 + context.lookahead) * frame_s + beyond_s
    assert context.lookahead * frame_s + beyond_s - 1e-9 <= waits_s <= longest + 1e-9


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_a_frame_needs_exactly_its_mel_frames(framing: Framing) -> None:
    context = ChunkedContext(4, 8, 2)
    samples = round(audio_needed_s(context, framing, 5) * 16000)
    # The second chunk ends with frame 7, its look-ahead with frame 9.
    complete = [m for m in range(120) if 160 * m + 80 + 200 <= samples]
    assert framing.frames(len(complete)) == 10
    assert framing.frames(len(complete) - 1) == 9


def test_only_right_words_with_known_ends_are_measured(rec) -> None:
    pieces = rec.tokens.pieces
    ids = [pieces.index("\u2581t"), pieces.index("\u2581f"), pieces.index("\u2581s")]
    tokens = [Token(number, 10 * at, -0.1) for at, number in enumerate(ids)]
    transcript = transcript_of(tokens, rec.tokens, 10.0, 0.04)
    assert transcript.text == "t f s"
    subnet = Subnet(ChunkedContext(10, 8, 2), 0.5)
    reference = [TimedWord("t", 0.3), TimedWord("g", 0.7), TimedWord("s", None)]
    (delay,) = word_delays_s(transcript, reference, rec.tokens, subnet, rec.framing)
    assert delay == pytest.approx(audio_needed_s(subnet.context, rec.framing, 0) - 0.3)
    with pytest.raises(SubnetError):
        word_delays_s(transcript, reference, rec.tokens, SERVER, rec.framing)


def test_a_finished_stream_needs_no_more_than_the_audio(rec) -> None:
    number = rec.tokens.pieces.index("\u2581t")
    transcript = transcript_of([Token(number, 24, -0.1)], rec.tokens, 1.0, 0.04)
    subnet = Subnet(ChunkedContext(50, 8, 10), 0.5)
    reference = [TimedWord("t", 0.9)]
    (delay,) = word_delays_s(transcript, reference, rec.tokens, subnet, rec.framing)
    assert delay == pytest.approx(0.1)


def test_summary_is_in_milliseconds() -> None:
    found = summarize([0.1 * n for n in range(1, 12)])
    assert (found.words, found.median_ms, found.p90_ms) == (11, 600.0, 1000.0)
    assert np.isnan(summarize([]).median_ms)


def test_matches_are_equal_words_in_order() -> None:
    assert matches(["a", "b", "c", "d"], ["x", "b", "d"]) == [(1, 1), (3, 2)]
    assert matches([], ["a"]) == []


def test_the_tail_report_finds_the_words_that_more_silence_saves(monkeypatch, rec) -> None:
    """A recogniser that emits a word only when half a second of audio follows it."""
    number = rec.tokens.pieces.index("\u2581t")

    def late(audios, subnet):
        found = []
        for samples in audios:
            frames = [10, 40] if len(samples) > 2.5 * 16000 else [10]
            tokens = [Token(number, frame, -0.1) for frame in frames]
            found.append(transcript_of(tokens, rec.tokens, len(samples) / 16000, 0.04))
        return found

    monkeypatch.setattr(rec, "stream_batch", late)
    quiet = [np.zeros(n, np.float32) for n in (32_000, 48_000, 32_000)]
    utterances = list(zip("abc", quiet, ["t t", "t t", "t v"], strict=True))
    report = tail_report(rec, utterances, silence_s=1.0)
    assert report.utterances == 3
    assert report.lost == ("a",), "b was long enough; c's last word is wrong either way"
    assert report.end_bound == ()
    assert report.changed == ("a", "c")
    assert isinstance(late(quiet, "device")[0], Transcript)


def test_the_tail_report_finds_the_words_that_wait_for_the_end(monkeypatch, rec) -> None:
    """A recogniser that says its last word only if the audio ends soon after it."""
    number = rec.tokens.pieces.index("\u2581t")

    def impatient(audios, subnet):
        return [
            transcript_of(
                [Token(number, frame, -0.1) for frame in ((10, 40) if len(a) < 40_000 else (10,))],
                rec.tokens,
                len(a) / 16000,
                0.04,
            )
            for a in audios
        ]

    monkeypatch.setattr(rec, "stream_batch", impatient)
    utterances = [
        ("a", np.zeros(32_000, np.float32), "t t"),
        ("b", np.zeros(32_000, np.float32), "t"),
    ]
    report = tail_report(rec, utterances, silence_s=1.0)
    assert report.end_bound == ("a",)
    assert report.lost == ()


def test_the_tail_of_a_corpus_is_measured(tiny_corpus, babbling_model) -> None:
    arguments = [str(babbling_model), str(tiny_corpus / "test"), "--subnet", "device", "--tail"]
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert done.exit_code == 0, done.output
    assert "last words that need more silence than a stream appends: " in done.output
    assert " of 6 (" in done.output
    refused = CliRunner().invoke(app, ["evaluate", *arguments[:2], "--subnet", "server", "--tail"])
    assert refused.exit_code == 1
    assert "--tail streams" in refused.output
