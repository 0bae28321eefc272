"""Written form of numbers, dates, times, prices and spelled letters.

text2num converts numbers; the rules of :mod:`dualmode.language.written_rules` combine them. Every
written word refers to its spoken words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualmode.errors import LanguageError
from dualmode.language.written_rules import Item, Kind, apply_rules

# Letters that are also words: a sequence of only these is not spelling.
_WORDS_OF_ONE_LETTER = frozenset("aio")
_INDEFINITE = frozenset(["hundreds", "thousands", "millions", "billions", "tens"])


@dataclass(frozen=True)
class WrittenWord:
    """A written word, and its spoken words from ``begin`` to ``end``."""

    text: str
    begin: int
    end: int


def written_words(spoken: Sequence[str]) -> list[WrittenWord]:
    """Convert spoken words, in lower case, to written form.

    Raises:
        LanguageError: the package text2num is missing.
    """
    items = apply_rules(_items([word.lower() for word in spoken]))
    return [WrittenWord(item.text, item.begin, item.end) for item in items]


def written_text(spoken: str) -> str:
    """Convert a text to written form.

    Raises:
        LanguageError: the package text2num is missing.
    """
    return " ".join(word.text for word in written_words(spoken.split()))


class _SpokenWord:
    """A word with the interface that text2num requires."""

    def __init__(self, word: str, spelled: bool) -> None:
        self._word = word
        self._spelled = spelled

    def text(self) -> str:
        return self._word

    def nt_separated(self, previous: object) -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return self._spelled or self._word in _INDEFINITE


def _items(words: list[str]) -> list[Item]:
    """Spelled letters, numbers, and the words between them."""
    try:
        from text_to_num import find_numbers
    except ImportError:
        raise LanguageError(
            "written form needs the package text2num: pip install 'dualmode[written]'"
        ) from None
    letters = _spelled(words)
    inside = {at for begin, end in letters for at in range(begin, end)}
    asked = [_SpokenWord(word, at in inside) for at, word in enumerate(words)]
    items = [Item("letters", "".join(words[b:e]).upper(), b, e) for b, e in letters]
    for number in find_numbers(asked, "en", 0.0):
        kind: Kind = "ordinal" if number.is_ordinal else "cardinal"
        items.append(Item(kind, number.text, number.start, number.end))
    covered = {at for item in items for at in range(item.begin, item.end)}
    items += [Item("word", word, at, at + 1) for at, word in enumerate(words) if at not in covered]
    return sorted(items, key=lambda item: item.begin)


def _spelled(words: list[str]) -> list[tuple[int, int]]:
    """Sequences of at least two spelled letters."""
    rows, begin = [], 0
    for at in range(len(words) + 1):
        if at < len(words) and len(words[at]) == 1 and words[at].isalpha():
            continue
        if at - begin > 1 and not _WORDS_OF_ONE_LETTER.issuperset(words[begin:at]):
            rows.append((begin, at))
        begin = at + 1
    return rows
