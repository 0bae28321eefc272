"""One by one, texts that say the same are the same, and no others."""

import pytest

from benchmarks.whisper_baseline import one_by_one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Rubout GMEF 39.", "rubout g m e f thirty nine"),
        ("5-2-1-3", "five two one three"),
        ("A.B.C. 20", "a b c twenty"),
        ("1,234", "one two three four"),
        ("Enter 6 oh 2", "ENTER SIX OH TWO"),
        ("twenty eleven", "2011"),
        ("T-V 7", "t v seven"),
    ],
)
def test_spelling_does_not_matter(one: str, other: str) -> None:
    assert one_by_one(one) == one_by_one(other)


def test_what_differs_stays_different() -> None:
    assert one_by_one("twenty nine") == "2 9"
    assert one_by_one("twenty") == "2 0"
    assert one_by_one("twenty ten") == "2 0 1 0"
    assert one_by_one("yes") != one_by_one("Y E S")
