"""Built-in slots of grammars, defined in the syntax of grammars."""

from __future__ import annotations

import string


def _words(text: str) -> list[str]:
    return text.split()


_ONES = _words("one two three four five six seven eight nine")
_TEENS = _words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINAL_ONES = _words("first second third fourth fifth sixth seventh eighth ninth")
_ORDINAL_TEENS = _words(
    "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth "
    "nineteenth"
)
_ORDINAL_TENS = _words(
    "twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth"
)

BUILT_IN: dict[str, list[str]] = {
    "digit": ["zero", "o", "oh", *_ONES],
    "letter": list(string.ascii_lowercase),
    "ordinal": [
        *_ORDINAL_ONES,
        *_ORDINAL_TEENS,
        *_ORDINAL_TENS,
        f"({' | '.join(_TENS)}) ({' | '.join(_ORDINAL_ONES)})",
    ],
    "month": _words(
        "january february march april may june july august september october november december"
    ),
    "weekday": _words("monday tuesday wednesday thursday friday saturday sunday"),
    # Parts of {number}; names with digits are not for users.
    "number_1_to_99": [*_ONES, *_TEENS, f"({' | '.join(_TENS)}) [{' | '.join(_ONES)}]"],
    "number_1_to_999": [
        "{number_1_to_99}",
        f"(a | {' | '.join(_ONES)}) hundred [[and] {{number_1_to_99}}]",
    ],
    # 0 to 999,999, with and without "and"; negative numbers; one to three decimal places.
    "number": [
        "zero",
        "[minus] (a thousand | {number_1_to_999} [thousand]) [and {number_1_to_99}]",
        "[minus] (a thousand | {number_1_to_999} thousand) {number_1_to_999}",
        "[minus] (zero | {number_1_to_999}) point {digit} [{digit}] [{digit}]",
    ],
}
