"""Hotwords: a text gains exactly the boosts of the whole words in it, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.errors import LanguageError
from dualmode.language.hotwords import Hotwords, compile_hotwords, parse_hotwords
from dualmode.text import WORD_START, Tokens

LETTERS = "aelz"
WORD = st.text(LETTERS, min_size=1, max_size=3)
TEXT = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


def as_is(text: str) -> str:
    return " ".join(text.split())


def expected(text: str, boosts: dict[str, float]) -> float:
    """Every place where a hotword stands as whole words counts, overlaps included."""
    framed = f" {text} "
    places = range(len(framed))
    return sum(
        b for word, b in boosts.items() for at in places if framed[at:].startswith(f" {word} ")
    )


def follow(hotwords: Hotwords, tokens: list[int]) -> tuple[float, float]:
    """What the tokens gain on the way, and with the end."""
    state, total = hotwords.start, 0.0
    for token in tokens:
        after, scores = hotwords.expand(np.array([state]))
        state, total = int(after[0, token]), total + float(scores[0, token])
    return total, total + float(hotwords.final(np.array([state]))[0])


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(TEXT.filter(lambda t: len(t) < 8), st.floats(-3, 3), min_size=1, max_size=5),
    TEXT,
    st.randoms(),
)
def test_a_text_gains_the_boosts_of_its_whole_words(tokens, words, text, random) -> None:  # type: ignore[no-untyped-def]
    hotwords = compile_hotwords(words, tokens, as_is)
    pieces = [tokens.pieces.index(c) for c in WORD_START + text.replace(" ", WORD_START)]
    wanted = expected(text, dict(hotwords.boosts))
    assert follow(hotwords, pieces)[1] == pytest.approx(wanted, abs=1e-4)
    assert follow(hotwords, tokens.encode(text))[1] == pytest.approx(wanted, abs=1e-4)


def test_the_boost_grows_with_the_word_and_is_taken_back(tokens: Tokens) -> None:
    hotwords = compile_hotwords({"zelda": 2.0}, tokens, as_is)
    boost = hotwords.boosts["zelda"]
    assert boost == 2.0 * len(tokens.encode("zelda"))
    gained = [
        follow(hotwords, [tokens.pieces.index(c) for c in WORD_START + "zelda"[:n]])[0]
        for n in range(6)
    ]
    assert gained == pytest.approx([boost * n / 5 for n in range(6)], abs=1e-5)
    for text, total in {"zeld": 0, "zeldas": 0, "azelda": 0, "zelda a": boost}.items():
        assert follow(hotwords, tokens.encode(text))[1] == pytest.approx(total, abs=1e-5), text


def test_strength_zero_changes_nothing(tokens: Tokens) -> None:
    hotwords = compile_hotwords({"zelda": 0.0, "living room": 0.0}, tokens, as_is)
    states = np.arange(len(hotwords.table))
    assert not hotwords.expand(states).scores.any()
    assert not hotwords.final(states).any()


def test_bad_hotwords_have_named_errors(tokens: Tokens) -> None:
    with pytest.raises(LanguageError, match="no hotwords"):
        compile_hotwords({}, tokens, as_is)
    with pytest.raises(LanguageError, match="twice"):
        compile_hotwords({"a b": 1.0, "a  b": 2.0}, tokens, as_is)
    with pytest.raises(LanguageError, match="finite"):
        compile_hotwords({"zoo": float("nan")}, tokens, as_is)
    with pytest.raises(LanguageError, match="lack"):
        compile_hotwords({"caf\u00e9": 1.0}, tokens, as_is)


def test_lines_of_hotwords() -> None:
    lines = ["zelda", " living  room = 2.5 # big", "", "# note"]
    assert parse_hotwords(lines, 1.5) == {"zelda": 1.5, "living room": 2.5}
    with pytest.raises(LanguageError, match="twice"):
        parse_hotwords(["zelda", "zelda = 2"], 1.0)
    with pytest.raises(LanguageError, match="a hotword and its strength"):
        parse_hotwords(["zelda = much"], 1.0)
