"""Written form: what people write for what they said, with the spoken words beside it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("text_to_num", reason="text2num is in the extra written")

from dualmode.data.phrases import cardinal, draw_phrase, ordinal, transcript
from dualmode.language.written import written_text, written_words

CASES = """
set a timer for eighty eight seconds = set a timer for 88 seconds
twelfth of march twenty twenty six = 12 March 2026
the first of may = 1 May
march the third two thousand and five = 3 March 2005
r u b i z = RUBIZ
spell o r o = spell ORO
the b b c news = the BBC news
enter two nine eight one = enter 2981
call double five o four = call 5504
zero zero seven = 007
twenty six point four degrees = 26.4 degrees
minus five degrees = -5 degrees
three dollars and fifty cents = $3.50
five euros ninety nine = €5.99
ten pounds = 10 pounds
ten pounds and five pence = £10.05
eighty percent = 80%
half past six = 6:30
quarter to one = 12:45
ten to six = 5:50
wake me at six thirty = wake me at 6:30
six thirty p m = 6:30 PM
seven a m = 7 AM
nine o'clock = 9:00
nineteen eighty four = 1984
nineteen o five = 1905
twenty first = 21st
one of them came second = one of them came second
i may second that = i may second that
i have a i = i have a i
a hundred = 100
hundreds of people = hundreds of people
channel one hundred one = channel 101
"""


@pytest.mark.parametrize("line", CASES.strip().splitlines())
def test_people_write(line: str) -> None:
    spoken, written = line.split(" = ")
    assert written_text(spoken) == written


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 9999))
def test_numbers_come_back(number: int) -> None:
    assert written_text(f"set it to {cardinal(number)} now") == f"set it to {number} now"


@pytest.mark.parametrize("day", range(1, 32))
def test_days_come_back(day: int) -> None:
    assert written_text(f"on the {ordinal(day)} of june") == f"on {day} June"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000))
def test_every_spoken_word_is_in_one_written_word(seed: int) -> None:
    import numpy as np

    spoken = transcript(draw_phrase(np.random.default_rng(seed))).split()
    found = written_words(spoken)
    assert [at for word in found for at in range(word.begin, word.end)] == list(range(len(spoken)))


def test_upper_case_is_read_too() -> None:
    assert written_text("SET IT TO TWENTY") == "set it to 20"


def test_nothing_stays_nothing() -> None:
    assert written_words([]) == []
