"""Rules that combine numbers with the words around them; each replaces several items by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dualmode.language.slots import BUILT_IN

Kind = Literal["word", "cardinal", "ordinal", "letters", "done"]

_MONTHS = BUILT_IN["month"]
# After these, "six thirty" is a time of day, not two numbers.
_BEFORE_A_TIME = frozenset(
    ["at", "by", "until", "till", "around", "before", "after", "from", "since", "is", "it's"]
)
_FRACTIONS = {"half": 30, "quarter": 15}
_REPEATS = {"double": 2, "triple": 3}
# Subjects after which "may" and "march" are verbs, not months.
_PRONOUNS = frozenset(["i", "you", "we", "they", "he", "she", "it", "who"])
_ORDINALS_KEPT = frozenset(("1st", "2nd", "3rd"))
_CURRENCIES = {
    "dollar": ("$", "cent"),
    "dollars": ("$", "cent"),
    "euro": ("€", "cent"),
    "euros": ("€", "cent"),
    "pounds": ("£", "penn"),
}
_SMALL_MONEY = frozenset(["cent", "cents", "pence", "penny", "pennies"])


@dataclass(frozen=True)
class Item:
    """A future written word for the spoken words from ``begin`` to ``end``."""

    kind: Kind
    text: str
    begin: int
    end: int


class _Row:
    """Items from a position on, with access that does not fail beyond the end."""

    def __init__(self, items: Sequence[Item], at: int) -> None:
        self._items = items
        self._at = at

    def item(self, ahead: int) -> Item | None:
        place = self._at + ahead
        return self._items[place] if 0 <= place < len(self._items) else None

    def word(self, ahead: int) -> str:
        """The word there, or an empty string if it is a number or letters."""
        item = self.item(ahead)
        return item.text if item and item.kind in ("word", "letters") else ""

    def number(self, ahead: int) -> int | None:
        """The whole number there."""
        item = self.item(ahead)
        whole = item is not None and item.kind == "cardinal" and item.text.isdecimal()
        return int(item.text) if item and whole else None

    def digits(self, ahead: int) -> str:
        """The digit there, or digits that begin with 0."""
        item = self.item(ahead)
        if item is None or item.kind != "cardinal" or not item.text.isdecimal():
            return ""
        return item.text if len(item.text) == 1 or item.text.startswith("0") else ""

    def ordinal(self, ahead: int) -> int | None:
        """The number of the ordinal there."""
        item = self.item(ahead)
        return int(item.text[:-2]) if item and item.kind == "ordinal" else None

    def two_digits(self, ahead: int) -> str:
        """A spoken number of two digits, such as ``thirty`` or ``o five``."""
        item = self.item(ahead)
        if item is None or item.kind != "cardinal" or not item.text.isdecimal():
            return ""
        return item.text if len(item.text) == 2 else ""

    def joined(self, text: str, count: int) -> tuple[Item, int]:
        """Combine the next ``count`` items."""
        first, last = self.item(0), self.item(count - 1)
        assert first is not None
        assert last is not None
        return Item("done", text, first.begin, last.end), count


Rule = Callable[[_Row], tuple[Item, int] | None]


def apply_rules(items: list[Item]) -> list[Item]:
    """Apply the rules one after the other, each from left to right."""
    for rule in _RULES:
        done: list[Item] = []
        at = 0
        while at < len(items):
            found = rule(_Row(items, at))
            item, used = found if found else (items[at], 1)
            done.append(item)
            at += used
        items = done
    return items


def _repeated_digit(row: _Row) -> tuple[Item, int] | None:
    """``double five`` is 55 next to other digits."""
    times, digit = _REPEATS.get(row.word(0), 0), row.digits(1)
    beside = row.digits(-1) or row.digits(2) or row.word(2) in _REPEATS
    if not times or len(digit) != 1 or not beside:
        return None
    item, used = row.joined(digit * times, 2)
    # Still a number, which continues digits before it.
    return Item("cardinal", item.text, item.begin, item.end), used


def _digit_row(row: _Row) -> tuple[Item, int] | None:
    """``two nine eight one`` is 2981; also with ``double``, and with zeros spoken as letters."""
    text, used = "", 0
    while True:
        item = row.item(used)
        digit = row.digits(used)
        doubled = item is not None and item.kind == "cardinal" and len(set(item.text)) == 1
        if digit:
            text += digit
        elif doubled and item is not None and item.end - item.begin == 2:
            text += item.text
        elif row.word(used) in ("o", "oh") and text:
            text += "0"
        else:
            break
        used += 1
    while used and row.word(used - 1) in ("o", "oh"):
        used, text = used - 1, text[:-1]
    if used < 2:
        return None
    item_, used = row.joined(text, used)
    return Item("cardinal", item_.text, item_.begin, item_.end), used


def _clock_words(row: _Row) -> tuple[Item, int] | None:
    """``half past six``, ``quarter to nine``, ``ten past four``, ``twenty minutes to two``."""
    minutes = _FRACTIONS.get(row.word(0)) or row.number(0)
    side = 1 + (row.word(1) in ("minute", "minutes"))
    hour = row.number(side + 1)
    if minutes is None or not 0 < minutes < 60 or hour is None or not 1 <= hour <= 12:
        return None
    if row.word(side) == "past":
        return row.joined(f"{hour}:{minutes:02}", side + 2)
    exact = row.word(0) == "quarter" or (minutes % 5 == 0 and minutes <= 25)
    if row.word(side) == "to" and exact:
        return row.joined(f"{(hour - 2) % 12 + 1}:{60 - minutes:02}", side + 2)
    return None


def _time(row: _Row) -> tuple[Item, int] | None:
    """``six thirty p m``, ``nine o'clock``, ``at seven fifteen``."""
    hour, minutes = row.number(0), row.two_digits(1)
    if hour is None or not 0 < hour <= 12 or row.word(-1) == "point":
        return None
    if row.word(1) in ("o'clock", "oclock"):
        return row.joined(f"{hour}:00", 2)
    noon = {"AM": "AM", "PM": "PM", "am": "", "pm": "PM"}
    if minutes and int(minutes) < 60:
        if noon.get(row.word(2)):
            return row.joined(f"{hour}:{minutes} {noon[row.word(2)]}", 3)
        after = row.item(2)
        alone = after is None or after.kind == "word"
        if row.word(-1) in _BEFORE_A_TIME and alone:
            return row.joined(f"{hour}:{minutes}", 2)
    if noon.get(row.word(1)):
        return row.joined(f"{hour} {noon[row.word(1)]}", 2)
    return None


def _year(row: _Row) -> tuple[Item, int] | None:
    """``nineteen eighty four``, ``twenty twenty six``, ``nineteen o five``."""
    century, rest, used = row.number(0), row.two_digits(1), 2
    if not rest and row.word(1) in ("o", "oh") and len(row.digits(2)) == 1:
        rest, used = "0" + row.digits(2), 3
    first = row.item(0)
    if century is None or not 13 <= century <= 20 or not rest or first is None:
        return None
    if row.number(-1) is not None or row.number(used) is not None:
        return None
    item, used = row.joined(f"{century}{rest}", used)
    return Item("cardinal", item.text, item.begin, item.end), used


def _date(row: _Row) -> tuple[Item, int] | None:
    """``[the] twelfth of march [twenty twenty six]``, ``march [the] twelfth [...]``."""
    at = int(row.word(0) == "the")
    day = row.ordinal(at)
    if day is not None:
        of = at + 1 + (row.word(at + 1) == "of")
        return _dated(row, day, row.word(of), of + 1)
    if row.word(0) in _MONTHS and row.word(-1) not in _PRONOUNS:
        the = 1 + (row.word(1) == "the")
        day = row.ordinal(the)
        return _dated(row, day, row.word(0), the + 1) if day is not None else None
    return None


def _dated(row: _Row, day: int, month: str, used: int) -> tuple[Item, int] | None:
    if month not in _MONTHS or not 1 <= day <= 31:
        return None
    text = f"{day} {month.capitalize()}"
    year = row.number(used)
    if year is not None and 1000 <= year <= 2999:
        return row.joined(f"{text} {year}", used + 1)
    return row.joined(text, used)


def _price(row: _Row) -> tuple[Item, int] | None:
    """``three dollars [and] fifty cents``, ``five euros ninety nine``, ``ten dollars``."""
    amount = row.item(0)
    known = _CURRENCIES.get(row.word(1))
    if known is None or amount is None or amount.kind != "cardinal":
        return None
    sign, part = known
    rest = 2 + (row.word(2) == "and")
    small = row.number(rest)
    whole = amount.text.isdecimal()
    if whole and small is not None and 0 < small < 100:
        if row.word(rest + 1) in _SMALL_MONEY:
            return row.joined(f"{sign}{amount.text}.{small:02}", rest + 2)
        if rest == 2 and row.two_digits(2):
            return row.joined(f"{sign}{amount.text}.{small:02}", 3)
    # Pounds without pence may be a weight.
    return row.joined(f"{sign}{amount.text}", 2) if part == "cent" else None


def _article(row: _Row) -> tuple[Item, int] | None:
    """``a hundred`` is 100."""
    item = row.item(1)
    if row.word(0) != "a" or item is None or item.text not in ("100", "1000", "1000000"):
        return None
    joined, used = row.joined(item.text, 2)
    return Item("cardinal", joined.text, joined.begin, joined.end), used


def _percent(row: _Row) -> tuple[Item, int] | None:
    """``eighty percent``, ``two per cent``."""
    item = row.item(0)
    if item is None or item.kind != "cardinal":
        return None
    if row.word(1) == "percent":
        return row.joined(f"{item.text}%", 2)
    if row.word(1) == "per" and row.word(2) == "cent":
        return row.joined(f"{item.text}%", 3)
    return None


def _negative(row: _Row) -> tuple[Item, int] | None:
    """``minus five`` without a number before it."""
    item = row.item(1)
    if row.word(0) != "minus" or item is None or item.kind != "cardinal":
        return None
    before = row.item(-1)
    if before is not None and before.kind == "cardinal":
        return None
    return row.joined(f"-{item.text}", 2)


def _lone_number(row: _Row) -> tuple[Item, int] | None:
    """One, first, second and third remain words unless the context shows that they count."""
    item = row.item(0)
    if item is None or item.kind not in ("cardinal", "ordinal"):
        return None
    if item.kind == "ordinal" and item.text in _ORDINALS_KEPT:
        return row.joined({"1st": "first", "2nd": "second", "3rd": "third"}[item.text], 1)
    lone = item.kind == "cardinal" and item.text == "1" and item.end - item.begin == 1
    return row.joined("one", 1) if lone else None


_RULES: tuple[Rule, ...] = (
    _article,
    _repeated_digit,
    _digit_row,
    _clock_words,
    _year,
    _time,
    _date,
    _price,
    _percent,
    _negative,
    _lone_number,
)
