"""Phrases: exactly the listed texts, by any segmentation, from the smallest automaton."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.errors import LanguageError
from dualmode.language.grammar import word_automaton
from dualmode.language.phrases import PhraseAutomaton, compile_phrases, read_phrases
from dualmode.text import WORD_START, Tokens

WORDS = st.text("ab", min_size=1, max_size=4)
PHRASES = st.lists(
    st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=8, unique=True
)


def as_is(text: str) -> str:
    return " ".join(text.split())


def segmentations(text: str, pieces: Sequence[str]) -> Iterator[list[int]]:
    """Every row of tokens that spells the text."""
    if not text:
        yield []
    for number, piece in enumerate(pieces[2:], start=2):
        if text.startswith(piece):
            yield from ([number, *rest] for rest in segmentations(text[len(piece) :], pieces))


def follow(automaton: PhraseAutomaton, tokens: Sequence[int]) -> float:
    """Score of a history that ends after these tokens."""
    state, total = automaton.start, 0.0
    for token in tokens:
        after, scores = automaton.expand(np.array([state]))
        state, total = int(after[0, token]), total + float(scores[0, token])
    return total + float(automaton.final(np.array([state]))[0])


def accepted_texts(automaton: PhraseAutomaton) -> set[str]:
    """Every text that tokens spell on the way to an end; the automaton has no loops."""
    texts = set()
    waiting = [(automaton.start, "")]
    pieces = automaton.spelling.pieces
    while waiting:
        state, text = waiting.pop()
        if automaton.final(np.array([state]))[0] == 0:
            texts.add(text)
        after, scores = automaton.expand(np.array([state]))
        for token in np.flatnonzero(scores[0] == 0)[1:]:
            waiting.append((int(after[0, token]), text + pieces[token]))
    return texts


@settings(max_examples=60, deadline=None)
@given(PHRASES)
def test_every_segmentation_of_a_phrase_and_nothing_else(letters, phrases: list[str]) -> None:  # type: ignore[no-untyped-def]
    automaton = compile_phrases(phrases, letters, as_is)
    spelled = {WORD_START + phrase.replace(" ", WORD_START) for phrase in phrases}
    # The mark of the first word may be missing: a word begins there all the same.
    assert accepted_texts(automaton) == spelled | {text[1:] for text in spelled}
    for text in spelled:
        ways = list(segmentations(text, letters.pieces))
        assert ways
        assert all(follow(automaton, way) == 0 for way in ways)


@settings(max_examples=60, deadline=None)
@given(PHRASES)
def test_no_two_states_accept_the_same_continuations(letters, phrases: list[str]) -> None:  # type: ignore[no-untyped-def]
    automaton = compile_phrases(phrases, letters, as_is)
    kinds = np.where(automaton.ends, 1, 0)
    while True:  # Moore's refinement: states differ if their arcs lead to states that differ
        rows = np.column_stack([kinds, kinds[automaton.table]])
        finer = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
        if finer.max() == kinds.max():
            break
        kinds = finer
    # The start may look like the place after a mark only if both read the same characters.
    assert len(set(kinds[1:].tolist())) == automaton.size


def test_words_end_where_they_end(tokens: Tokens) -> None:
    automaton = compile_phrases(["the zoo"], tokens, as_is)
    assert follow(automaton, tokens.encode("the zoo")) == 0
    for wrong in ("the zoos", "thezoo", "the zo o", "the", "the zoo the zoo", "a the zoo"):
        assert follow(automaton, tokens.encode(wrong)) == -np.inf, wrong


def test_blank_changes_nothing(letters) -> None:  # type: ignore[no-untyped-def]
    automaton = compile_phrases(["ab"], letters, as_is)
    states = np.arange(automaton.size)
    after, scores = automaton.expand(states)
    assert (after[:, 0] == states).all()
    assert (scores[:, 0] == 0).all()
    assert (scores[:, 1] == -np.inf).all(), "<unk> is in no phrase"


class Syllables:
    """No letter is a token of its own, so that beginnings may lead nowhere."""

    pieces = ("<blk>", "<unk>", "\u2581ab", "ab", "aba", "b")


def test_beginnings_that_no_token_ends_are_not_entered() -> None:
    automaton = compile_phrases(["ababa", "aba"], Syllables(), as_is)
    assert accepted_texts(automaton) == {"\u2581ababa", "ababa", "aba"}
    with pytest.raises(LanguageError, match="tokens"):
        compile_phrases(["ba"], Syllables(), as_is)


GRAMMARS = {
    ("(on | off)",): {"on", "off"},
    ("turn [it] (on | off)",): {"turn it on", "turn it off", "turn on", "turn off"},
    ("a {s} b", "s = x | y z"): {"a x b", "a y z b"},
    ("{s}", "s = (x | y) z | w"): {"x z", "y z", "w"},
    ("x", "x y", "x [y]", "# note", "", "w # note"): {"x", "x y", "w"},
    ("[[x] y] z",): {"z", "y z", "x y z"},
    ("{s} {s}", "s = x | y"): {"x x", "x y", "y x", "y y"},
}


@pytest.mark.parametrize("lines", GRAMMARS, ids=" / ".join)
def test_grammars_mean_what_they_say(lines: tuple[str, ...]) -> None:
    automaton = word_automaton(lines, as_is)
    words = sorted({word for arcs in automaton.arcs for word in arcs})
    found = {
        " ".join(row)
        for length in range(1, 5)
        for row in itertools.product(words, repeat=length)
        if automaton.accepts(row)
    }
    assert found == GRAMMARS[lines]


NUMBERS = """zero, seven, twenty, twenty one, one hundred, a hundred, two hundred and five,
nine hundred ninety, a thousand, three thousand and twelve, forty two thousand six hundred and one,
minus four, twenty six point four, zero point o five, seven hundred thousand"""


@pytest.mark.parametrize("said", NUMBERS.replace("\n", " ").split(", "))
def test_numbers_are_built_in(said: str) -> None:
    automaton = word_automaton(["to {number}"], as_is)
    assert automaton.accepts(["to", *said.split()])


@pytest.mark.parametrize(
    "said", ["twenty eleven", "hundred", "one two", "", "and five", "twenty zero", "point five"]
)
def test_not_every_row_of_number_words_is_a_number(said: str) -> None:
    assert not word_automaton(["to {number}"], as_is).accepts(["to", *said.split()])


BAD = {
    (): "empty",
    ("# nothing",): "empty",
    ("{room}",): r"no slot \{room\}.*letter",
    ("{a}", "a = x {b}", "b = y {a}"): r"recursive: \{a\} -> \{b\} -> \{a\}",
    ("{a}", "a = x", "a = y"): "twice",
    ("{a}", "a ="): "is empty",
    ("x (y",): "does not close",
    ("x y)",): "did not open",
    ("x [y)",): "does not close",
    ("x {y",): "must be written as",
    ("[x]",): "empty phrase",
    ("caf\u00e9",): "\u00e9.*lack",
}


@pytest.mark.parametrize("lines", BAD, ids=str)
def test_bad_phrases_have_named_errors(tokens: Tokens, lines: tuple[str, ...]) -> None:
    with pytest.raises(LanguageError, match=BAD[lines]):
        compile_phrases(lines, tokens, as_is)


def test_files_of_phrases(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "phrases.txt"
    path.write_text("\ufeffopen the door\nclose it\n", encoding="utf-8")
    assert read_phrases(path) == ["open the door", "close it"]
    with pytest.raises(LanguageError, match="missing"):
        read_phrases(tmp_path / "missing.txt")
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(LanguageError, match="cannot read"):
        read_phrases(path)
    with pytest.raises(LanguageError, match="list"):
        compile_phrases("open the door", object(), as_is)  # type: ignore[arg-type]


def test_ten_thousand_phrases_share_their_states(tokens: Tokens) -> None:
    rng = np.random.default_rng(0)
    rooms = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(100)]
    things = ["".join(rng.choice(list("ijklmnop"), 5)) for _ in range(100)]
    lines = [f"set {room} {thing}" for room in rooms for thing in things]
    automaton = compile_phrases(lines, tokens, as_is)
    one = compile_phrases([f"set ({' | '.join(rooms)}) ({' | '.join(things)})"], tokens, as_is)
    assert automaton.size == one.size < 1000
    assert all(automaton.accepts(line) for line in lines[::97])
