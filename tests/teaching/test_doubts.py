"""What is not to be believed is told apart from what people say."""

from __future__ import annotations

import math

import pytest

from dualmode.teaching.doubts import difference, doubt, loop, said_again
from dualmode.teaching.teachers import Transcription


def heard(text: str, log_prob: float = -0.2, **more: float) -> Transcription:
    return Transcription(text, log_prob, **more)


@pytest.mark.parametrize(
    ("one", "seconds", "kind"),
    [
        (heard("I am I am I am I am I am"), 6.0, "loop"),
        (heard("no no no no no no no"), 6.0, "loop"),
        (heard("and then he said, " * 8), 30.0, "loop"),
        (heard("word " * 3 + "another one that goes on and on here"), 1.0, "too fast"),
        (heard("yes"), 20.0, "too slow"),
        (heard(""), 2.0, "text"),
        (heard("你好"), 2.0, "text"),
        (heard("guten tag", english=0.1), 2.0, "language"),
        (heard("a cat", -1.2, no_speech=0.9), 2.0, "no speech"),
        (heard("Thanks for watching!"), 2.0, "hallucination"),
        (heard("You", no_speech=0.8), 2.0, "hallucination"),
    ],
)
def test_doubtful(one: Transcription, seconds: float, kind: str) -> None:
    found = doubt(one, seconds)
    assert found is not None
    assert found[0] == kind


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Double five, five five five.", 3.0),
        ("yes", 0.6),
        ("You", 1.0),
        ("It was the best of times, it was the worst of times.", 4.0),
        ("£5 for 3 teas", 2.5),
        ("a b c a b c", 3.0),
    ],
)
def test_believable(text: str, seconds: float) -> None:
    assert doubt(heard(text.replace("£", "")), seconds) is None


def test_loops_of_any_length_are_found() -> None:
    for length in range(1, 6):
        turn = [f"word{number}" for number in range(length)]
        assert loop(["so", *turn * 6]) == " ".join(turn)
        assert loop(["so", *turn * 2, "end"]) is None


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("Help Help Help", True),
        ("Enter 60. Enter 60", True),
        ("Enter 62-31. Enter 62.31.", True),
        ("nine thirty sixty five nine thirty five sixty five", True),
        ("help", False),
        ("", False),
        ("你好", False),
        ("enter sixty two thirty one", False),
        ("five two six one", False),
        ("the cat and the dog", False),
    ],
)
def test_texts_that_say_the_same_again(text: str, again: bool) -> None:
    assert said_again(text) is again


def test_confidence_and_difference() -> None:
    assert heard("a", math.log(0.5)).confidence == pytest.approx(0.5)
    assert heard("a", 0.1).confidence == 1
    assert difference("It's five.", "its 5") == pytest.approx(0.5)
    assert difference("At 5 o'clock", "at five o'clock!") == 0
    assert difference("", "word") == 1
