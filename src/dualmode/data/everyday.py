"""The language of ``talk``: numbers said in many ways, dates, times, spelled words, commands.

It extends the quickstart's language (``phrases``) and uses the same notation: words in lower case,
single capitals for letters that are spelled out, a comma for a pause.
"""

from __future__ import annotations

from collections.abc import Callable

from dualmode.data.phrases import (
    DAYS,
    MONTHS,
    ONES,
    ORDINALS,
    SPELLED,
    WEEKDAYS,
    Random,
    cardinal,
    clock,
    draw_phrase,
    letters,
    ordinal,
    pick,
    words,
)

NATO = words(
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november "
    "oscar papa quebec romeo sierra tango uniform victor whiskey x-ray yankee zulu"
)
# The words of Speech Commands (Warden, arXiv 1804.03209), without its digits.
COMMAND_WORDS = words(
    "backward bed bird cat dog down follow forward go happy house learn left marvin no off on "
    "right sheila stop tree up visual wow yes"
)
# Spoken alone or before a number or a code: the commands of AN4 (Acero, 1990) and common ones.
_EDITING = words("enter erase rubout start stop go help repeat yes no delete insert")
_ORDERS = words(
    "pause|play|resume|next|previous|louder|quieter|mute|undo|redo|save|copy|paste|open|close|"
    "send|reply|answer|hang up|read it again|what time is it|how are you|good morning|"
    "good night|thank you|hello|goodbye|okay|ready|take a photo|turn around|turn left|"
    "turn right|go home|slow down|speed up|scroll down|scroll up|zoom in|zoom out|next page|"
    "last page|lights on|lights off|volume up|volume down|start recording|stop recording|"
    "play some music|what is the weather|where am i|never mind|try again|that is right|"
    "that is wrong",
    "|",
)
_NAMES = words(
    "alice amy andrew anna ben bill carol charles clara daniel david emma eric george grace "
    "helen jack jane john karen laura linda maria mark mary michael nancy oliver paul peter "
    "rachel robert sarah susan thomas william smith jones brown miller wilson taylor clark "
    "lewis walker young allen king wright hill green baker adams carter turner"
)
_STREETS = words(
    "main oak park elm maple cedar pine lake hill church high mill river spring station king "
    "queen market forest garden north south east west center"
)
_WAYS = words("street avenue road drive lane court place square boulevard way")
_TOWNS = words(
    "london|boston|chicago|pittsburgh|new york|paris|berlin|dublin|oxford|seattle|denver|"
    "dallas|toronto|sydney|houston|austin|miami|atlanta",
    "|",
)
_UNITS = words(
    "meters kilometers miles feet inches centimeters grams kilograms pounds ounces liters "
    "minutes hours days weeks months years seconds people pages times degrees percent"
)
_SIGNS = words("plus minus times equals point dash slash dot hash star comma")


def draw_everyday(rng: Random) -> str:
    """Draw one phrase of ``talk``: a quarter of them from the quickstart's own patterns."""
    if rng.random() < 0.22:
        return draw_phrase(rng)
    at = int(rng.choice(len(_PATTERNS), p=_SHARES))
    return _PATTERNS[at](rng)


def number(rng: Random, value: int) -> str:
    """A cardinal up to 999,999,999, with or without the British "and"."""
    for unit, name, least in ((1_000_000, "million", 1_000_000), (1000, "thousand", 10_000)):
        if value >= least:
            head, rest = divmod(value, unit)
            tail = f" {number(rng, rest)}" if rest else ""
            return f"{number(rng, head)} {name}{tail}"
    phrase = cardinal(value)
    if rng.random() < 0.5:
        phrase = phrase.replace(" and ", " ")
    if phrase.startswith("one hundred") and rng.random() < 0.2:
        phrase = "a" + phrase[3:]
    return phrase


def digits(rng: Random, count: int) -> str:
    """Single digits. Zero is "zero" or "oh" throughout; repeated digits may become "double"."""
    zero = "oh" if rng.random() < 0.5 else "zero"
    doubles = rng.random() < 0.35
    drawn = rng.integers(10, size=count).tolist()
    if doubles and count > 2:
        at = int(rng.integers(count - 1))
        drawn[at + 1] = drawn[at]
        if count > 5 and at + 2 < count and rng.random() < 0.3:
            drawn[at + 2] = drawn[at]
    phrase: list[str] = []
    at = 0
    while at < count:
        run = next((n for n in (3, 2) if drawn[at : at + n] == [drawn[at]] * n), 1)
        run = run if doubles else 1
        name = zero if drawn[at] == 0 else ONES[drawn[at]]
        phrase.append(f"{('', 'double ', 'triple ')[run - 1]}{name}")
        at += run
    return " ".join(phrase)


def pairs(rng: Random) -> str:
    """Four digits in the style of house numbers and years: ``fifty two oh three``."""
    high, low = int(rng.integers(10, 100)), int(rng.integers(100))
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {cardinal(low)}" if low > 9 else f"{cardinal(high)} oh {ONES[low]}"


def _magnitude(rng: Random, largest: int) -> str:
    """A number whose count of digits, not its value, is drawn uniformly."""
    top = 10 ** int(rng.integers(1, len(str(largest))))
    return number(rng, int(rng.integers(top)))


def _day(rng: Random) -> str:
    month = int(rng.integers(12))
    day = int(rng.integers(1, DAYS[month] + 1))
    form = int(rng.integers(4))
    if form == 0:
        return f"the {ordinal(day)} of {MONTHS[month]}"
    if form == 1:
        return f"{MONTHS[month]} the {ordinal(day)}"
    return f"{MONTHS[month]} {ordinal(day) if form == 2 else cardinal(day)}"


def _year(rng: Random) -> str:
    value = int(rng.integers(1900, 2040)) if rng.random() < 0.8 else int(rng.integers(1500, 1900))
    century, rest = divmod(value, 100)
    if century == 20 and (rest < 10 or rng.random() < 0.3):
        return number(rng, value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return (
        f"{cardinal(century)} {cardinal(rest)}"
        if rest > 9
        else (f"{cardinal(century)} oh {ONES[rest]}")
    )


def _date(rng: Random) -> str:
    form = int(rng.integers(4))
    if form == 0:
        return _day(rng)
    if form == 1:
        return f"{pick(rng, WEEKDAYS)} {_day(rng)}"
    if form == 2:
        return f"{pick(rng, MONTHS)} {_year(rng)}"
    return f"{_day(rng)}{pick(rng, (',', ''))} {_year(rng)}"


def _spelling(rng: Random) -> str:
    """A word or random letters, with or without pauses between letters."""
    spelled = pick(rng, SPELLED if rng.random() < 0.5 else _NAMES).upper()
    if rng.random() < 0.4:
        spelled = letters(rng, 2, 7).replace(" ", "")
    return pick(rng, (", ", " ")).join(spelled)


def _name_spelled(rng: Random) -> str:
    name = pick(rng, _NAMES)
    start = pick(rng, ("", "my name is ", "spell ", "it is "))
    return f"{start}{name}, {pick(rng, ('', 'spelled '))}{' '.join(name.upper())}"


def _nato(rng: Random) -> str:
    phrase = [pick(rng, NATO) for _ in range(int(rng.integers(1, 6)))]
    if rng.random() < 0.25:
        return ", ".join(
            f"{word[0].upper()} {pick(rng, ('as in', 'for'))} {word}" for word in phrase[:3]
        )
    return " ".join(phrase) + (
        f" {digits(rng, int(rng.integers(1, 4)))}" if len(phrase) < 4 else ""
    )


def _code(rng: Random) -> str:
    start = pick(rng, ("", "", *_EDITING[:3], *_EDITING[:3], "code", "flight", "my code is"))
    middle = letters(rng, 1, 5)
    form = int(rng.integers(3))
    tail = digits(rng, int(rng.integers(1, 5))) if form else cardinal(int(rng.integers(10, 100)))
    if form == 2 and rng.random() < 0.4:
        tail = pairs(rng)
    return f"{start} {middle} {tail}".strip()


def _phone(rng: Random) -> str:
    groups = pick(rng, ("3 3 4", "3 4", "5 6", "3 3 2 2", "4 3 3"))
    phrase = ", ".join(digits(rng, int(n)) for n in groups.split())
    start = pick(rng, ("", "", "dial ", "call ", "the number is ", "area code ", "phone number "))
    return f"{start}{phrase}{pick(rng, ('', '', f', extension {digits(rng, 2)}'))}"


def _price(rng: Random) -> str:
    whole, cents = int(rng.integers(1, 1000)), int(rng.integers(1, 100))
    coin = pick(rng, ("dollars cents", "pounds pence", "euros cents"))
    big, small = coin.split()
    form = int(rng.integers(4))
    if form == 0:
        return f"{number(rng, whole)} {big}"
    if form == 1:
        return f"{number(rng, whole)} {big}{pick(rng, (' and', ''))} {cardinal(cents)} {small}"
    if form == 2:
        return f"{cardinal(whole % 99 + 1)} {cardinal(max(10, cents))}"
    return f"{_magnitude(rng, 10**7)} {big}"


def _address(rng: Random) -> str:
    house = pick(rng, (digits(rng, 3), pairs(rng), number(rng, int(rng.integers(1, 999)))))
    phrase = f"{house} {pick(rng, _STREETS)} {pick(rng, _WAYS)}"
    form = int(rng.integers(4))
    if form == 0:
        door = cardinal(int(rng.integers(1, 40)))
        phrase += f", {pick(rng, ('apartment', 'flat', 'suite', 'room'))} {door}"
    elif form == 1:
        phrase += f", {pick(rng, _TOWNS)}"
    elif form == 2:
        phrase += f", {pick(rng, ('zip code', 'post code'))} {digits(rng, 5)}"
    return phrase


def _amount(rng: Random) -> str:
    form = int(rng.integers(4))
    if form == 0:
        return f"{pick(rng, ('one', 'two', 'three', 'five'))} and a half {pick(rng, _UNITS)}"
    if form == 1:
        return f"{cardinal(int(rng.integers(100)))} point {digits(rng, int(rng.integers(1, 4)))}"
    return f"{_magnitude(rng, 10**6)} {pick(rng, _UNITS)}"


def _bare_number(rng: Random) -> str:
    sign = "minus " if rng.random() < 0.1 else ""
    return f"{sign}{_magnitude(rng, 10**8 if rng.random() < 0.2 else 10**5)}"


def _several(rng: Random) -> str:
    """Several numbers in a row, as in lists and scores."""
    return ", ".join(cardinal(int(rng.integers(100))) for _ in range(int(rng.integers(2, 5))))


def _web(rng: Random) -> str:
    name = " ".join(pick(rng, SPELLED).upper()) if rng.random() < 0.5 else pick(rng, _NAMES)
    return (
        f"{name} at {' '.join(pick(rng, SPELLED).upper())} dot {pick(rng, ('com', 'org', 'net'))}"
    )


def _editing(rng: Random) -> str:
    word = pick(rng, _EDITING)
    form = int(rng.integers(4))
    if form == 0:
        return word
    return f"{word} {(number(rng, int(rng.integers(1000))), pairs(rng), digits(rng, 3))[form - 1]}"


def _single(rng: Random) -> str:
    """One to three isolated words."""
    pools = (ONES, COMMAND_WORDS, COMMAND_WORDS, ORDINALS, WEEKDAYS, MONTHS, NATO, _EDITING, _SIGNS)
    count = int(rng.choice(3, p=(0.6, 0.2, 0.2))) + 1
    return ", ".join(pick(rng, pools[int(rng.integers(len(pools)))]) for _ in range(count))


def _loose_letters(rng: Random) -> str:
    return letters(rng, 1, 6)


def _digits(rng: Random) -> str:
    return digits(rng, int(rng.integers(1, 9)))


def _order(rng: Random) -> str:
    phrase = pick(rng, _ORDERS)
    return f"{phrase}, {pick(rng, _NAMES)}" if rng.random() < 0.1 else phrase


def _clock(rng: Random) -> str:
    start = pick(rng, ("", "", "at ", "it is ", "meet me at ", "the train leaves at "))
    return f"{start}{clock(rng)}"


_WEIGHTED: tuple[tuple[Callable[[Random], str], int], ...] = (
    (_digits, 10),
    (_bare_number, 9),
    (_several, 5),
    (pairs, 4),
    (_phone, 6),
    (_price, 5),
    (_amount, 5),
    (_date, 9),
    (_clock, 4),
    (_spelling, 9),
    (_name_spelled, 4),
    (_loose_letters, 5),
    (_nato, 4),
    (_code, 8),
    (_address, 5),
    (_web, 2),
    (_editing, 6),
    (_single, 10),
    (_order, 5),
)
_PATTERNS = [pattern for pattern, _ in _WEIGHTED]
_SHARES = [weight / sum(w for _, w in _WEIGHTED) for _, weight in _WEIGHTED]
