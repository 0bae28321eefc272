"""The language of talk: anything it draws can be spelled in tokens and read aloud."""

import numpy as np
import pytest

from dualmode.config import TextConfig
from dualmode.data.everyday import digits, draw_everyday, number, pairs
from dualmode.data.phrases import ONES, cardinal, transcript
from dualmode.text import normalize

VALUES = {cardinal(value): value for value in (*range(20), *range(20, 100, 10))}


def read_number(said: str) -> int:
    """The value of a cardinal in words, by another way than that which made it."""
    total = group = 0
    for word in said.split():
        if word == "hundred":
            group *= 100
        elif word in ("thousand", "million"):
            total += group * {"thousand": 1000, "million": 1_000_000}[word]
            group = 0
        elif word != "and":
            group += 1 if word == "a" else VALUES[word]
    return total + group


def test_numbers_say_their_value() -> None:
    rng = np.random.default_rng(0)
    drawn = [*range(130), *(int(10 ** rng.uniform(0, 9)) for _ in range(500))]
    for value in drawn:
        assert read_number(number(rng, value)) == value


def test_digits_say_as_many_as_were_asked_for() -> None:
    rng = np.random.default_rng(1)
    said = [digits(rng, count) for count in range(1, 12) for _ in range(40)]
    counted = [
        sum({"double": 1, "triple": 2}.get(word, 1) for word in phrase.split()) for phrase in said
    ]
    assert counted == [count for count in range(1, 12) for _ in range(40)]
    heard = {word for phrase in said for word in phrase.split()}
    assert heard == {*ONES, "oh", "double", "triple"}
    assert not any(" oh" in phrase and "zero" in phrase for phrase in said)


def test_pairs_say_four_digits() -> None:
    rng = np.random.default_rng(2)
    said = [pairs(rng) for _ in range(300)]
    assert all(set(phrase.split()) <= {*VALUES, "hundred", "oh"} for phrase in said)
    assert any("oh" in phrase for phrase in said)
    assert any(phrase.endswith("hundred") for phrase in said)


@pytest.mark.parametrize("seed", range(3))
def test_phrases_are_transcripts_already(seed: int) -> None:
    rng = np.random.default_rng(seed)
    phrases = [draw_everyday(rng) for _ in range(1500)]
    for phrase in phrases:
        text = transcript(phrase)
        assert normalize(text, TextConfig()) == text.replace("x-ray", "x ray"), phrase
    assert len(set(phrases)) > 1000
    again = np.random.default_rng(seed)
    assert [draw_everyday(again) for _ in range(50)] == phrases[:50]
