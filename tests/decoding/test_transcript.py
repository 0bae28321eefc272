"""Tokens become words, and words become captions, without losing or inventing any."""

from __future__ import annotations

import itertools
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualmode.decoding.formats import FORMATS, captions, to_json, to_srt, to_vtt
from dualmode.decoding.transcript import Token, Transcript, Word, token_spans, transcript_of

tokens_strategy = st.lists(st.integers(1, 11), max_size=30).map(
    lambda ids: [Token(i, 3 * n, -0.1 * (n % 4)) for n, i in enumerate(ids)]
)


@given(tokens_strategy)
def test_words_spell_exactly_the_tokens(vocabulary, tokens) -> None:
    transcript = transcript_of(tokens, vocabulary, 100.0, 0.04)
    spelled = "".join(vocabulary.pieces[t.id] for t in tokens if t.id > 1)
    assert transcript.text == spelled.replace("\u2581", " ").strip()
    starts = [word.start_s for word in transcript.words]
    assert starts == sorted(starts)
    for span in token_spans(tokens, vocabulary):
        assert tokens[span.end - len(span.tokens) : span.end] == list(span.tokens)


def test_times_and_confidence_of_a_word(vocabulary) -> None:
    tokens = [Token(2, 10, math.log(0.5)), Token(8, 12, math.log(0.125)), Token(3, 20, 0.0)]
    first, second = transcript_of(tokens, vocabulary, 2.0, 0.04).words
    assert (first.text, first.start_s, first.end_s) == ("ab", 0.4, 0.52)
    assert first.confidence == pytest.approx(0.25), "geometric mean of 1/2 and 1/8"
    assert (second.text, second.start_s, second.confidence) == ("b", 0.8, 1.0)
    first, second = transcript_of(tokens, vocabulary, 2.0, 0.08).words
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0.8, 1.04, 1.6, 1.68)


def test_words_emitted_in_the_appended_silence_end_with_the_audio(vocabulary) -> None:
    (word,) = transcript_of([Token(2, 26, 0.0)], vocabulary, 1.0, 0.04).words
    assert (word.start_s, word.end_s) == (1.0, 1.0)


words_strategy = st.lists(
    st.tuples(st.text("abcxyz", min_size=1, max_size=12), st.floats(0.04, 2.0), st.floats(0, 1.5)),
    max_size=40,
)


def laid_out(parts) -> list[Word]:
    words, now = [], 0.0
    for text, length, gap in parts:
        words.append(Word(text, round(now, 3), round(now + length, 3), 0.5))
        now += length + gap
    return words


@given(words_strategy)
def test_captions_hold_every_word_once_and_are_short(parts) -> None:
    words = laid_out(parts)
    found = captions(words)
    assert " ".join(caption.text for caption in found).split() == [w.text for w in words]
    for caption in found:
        lines = caption.text.split("\n")
        assert len(lines) <= 2
        assert all(len(line) <= 42 for line in lines)
    for before, after in itertools.pairwise(found):
        assert before.end_s <= after.start_s
        shown = before.end_s - before.start_s
        assert shown >= 1.0 - 1e-6 or before.end_s == after.start_s, "held, or cut by the next"
    assert not found or found[-1].end_s - found[-1].start_s >= 1.0 - 1e-6


def test_a_caption_of_one_short_word_can_be_read() -> None:
    words = laid_out([("yes", 0.04, 3.0), ("no", 0.04, 0.7), ("why", 0.04, 0.0)])
    shown = [(c.text, round(c.end_s - c.start_s, 2)) for c in captions(words)]
    assert shown == [("yes", 1.0), ("no", 0.74), ("why", 1.0)]


def test_captions_break_into_two_lines_of_about_the_same_length() -> None:
    text = "the quick brown fox jumps over the lazy dog again today"
    words = laid_out([(word, 0.2, 0.02) for word in text.split()])
    (caption,) = captions(words)
    assert caption.text == "the quick brown fox jumps\nover the lazy dog again today"


def test_captions_break_at_pauses() -> None:
    words = laid_out([("one", 0.3, 0.1), ("two", 0.3, 0.9), ("three", 0.3, 0.0)])
    assert [line.text for line in captions(words)] == ["one two", "three"]


def test_formats_in_full() -> None:
    words = laid_out([("hello", 0.4, 0.04), ("world", 0.5, 3599.0), ("again", 1.0, 0.0)])
    transcript = Transcript(tuple(words), 3602.0)
    assert FORMATS["text"](transcript) == "hello world again\n"
    assert to_srt(transcript) == (
        "1\n00:00:00,000 --> 00:00:01,000\nhello world\n\n2\n00:59:59,940 --> 01:00:00,940\nagain\n"
    )
    assert to_vtt(transcript).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nhello world\n")
    parsed = json.loads(to_json(transcript))
    assert parsed["text"] == "hello world again"
    assert parsed["words"][1] == {"text": "world", "start": 0.44, "end": 0.94, "confidence": 0.5}


def test_nothing_said_is_valid_in_every_format() -> None:
    empty = Transcript((), 1.0)
    assert FORMATS["text"](empty) == "\n"
    assert to_srt(empty) == ""
    assert re.fullmatch(r"WEBVTT\n", to_vtt(empty))
    assert json.loads(to_json(empty))["words"] == []
