"""The quickstart's language is wide enough, readable, and survives normalisation."""

from collections import Counter

import numpy as np
import pytest

from dualmode.config import TextConfig
from dualmode.data.phrases import cardinal, draw_phrase, ordinal, spoken, transcript, year
from dualmode.text import normalize

PHRASES = [draw_phrase(np.random.default_rng(seed)) for seed in range(4000)]


def test_there_are_many_words_and_each_is_heard_often() -> None:
    words = Counter(word for phrase in PHRASES for word in transcript(phrase).split())
    assert len(words) > 120
    assert min(words.values()) >= 3
    assert max(words.values()) < 0.1 * sum(words.values())


def test_there_are_many_sentences_of_speakable_length() -> None:
    assert len(set(PHRASES)) > 0.7 * len(PHRASES)
    lengths = [len(phrase.split()) for phrase in PHRASES]
    assert min(lengths) == 1
    assert max(lengths) <= 16


def test_transcripts_are_normalised_already() -> None:
    for phrase in PHRASES:
        assert normalize(transcript(phrase), TextConfig()) == transcript(phrase)


def test_what_is_spoken_matches_the_transcript_word_for_word() -> None:
    for phrase in PHRASES:
        pairs = zip(transcript(phrase).split(), spoken(phrase).split(), strict=True)
        for written, said in pairs:
            said = said.removesuffix(",")
            assert written == said.lower() or (written, said) == ("a", "eh")


def test_every_letter_is_spelled_with_pauses() -> None:
    letters = Counter(word[0] for phrase in PHRASES for word in phrase.split() if "," in word)
    assert set(letters) == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert min(letters.values()) >= 3
    assert max(letters.values()) < 0.15 * sum(letters.values())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (105, "one hundred and five"),
        (700, "seven hundred"),
        (2345, "two thousand three hundred and forty five"),
        (9020, "nine thousand and twenty"),
    ],
)
def test_cardinals(number: int, words: str) -> None:
    assert cardinal(number) == words


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 12, 20, 21, 30, 31)] == [
        "first",
        "twelfth",
        "twentieth",
        "twenty first",
        "thirtieth",
        "thirty first",
    ]
    assert len({ordinal(n) for n in range(1, 32)}) == 31


def test_years() -> None:
    assert [year(n) for n in (1990, 1900, 1905, 2000, 2009, 2024)] == [
        "nineteen ninety",
        "nineteen hundred",
        "nineteen O five",
        "two thousand",
        "two thousand and nine",
        "twenty twenty four",
    ]
