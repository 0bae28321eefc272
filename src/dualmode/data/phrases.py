"""The small language of the quickstart corpus: numbers, dates, times, spelled words, commands.

A phrase is a string of words in lower case; single capitals are letters that are spelled out,
and a comma is a pause, as in spelling aloud.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def words(text: str, separator: str = " ") -> list[str]:
    """Split a text into a list of words."""
    return text.split(separator)


ONES = words("zero one two three four five six seven eight nine")
_TEENS = words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
ORDINALS = words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
MONTHS = words(
    "january february march april may june july august september october november december"
)
DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = words("monday tuesday wednesday thursday friday saturday sunday")
_NAMES = words("anna ben clara david emma george maria peter")
_ROOMS = words("kitchen bedroom bathroom garden office")
_THINGS = words("light heating radio fan")
_SHORT = words("yes|no|stop|cancel|help|next song|stop the music|start again|go back", "|")

# Words that are spelled, never spoken: they cover all letters, and are common enough to spell.
SPELLED = words(
    "able acre adam apple april atlas baker basil beach bench berry birch bishop black blake "
    "bloom bond boxer brian brook brown bruce bryan byron cabin cable camp cedar chase chloe "
    "clark clay cliff cloud cobb cole cook coral craig crane cruz cyrus daisy dale dawn dean diaz "
    "dixon dover drake duke dunn dylan eagle earl eden edgar ellis elm essex ethan evans faith "
    "felix fern finch fisher fleet flora floyd flynn fox frank frost gale gavin gibbs giles glen "
    "gordon grace grant green grove gwen hardy harry hayes hazel heath helen henry hill holly "
    "hope howard hugh hunt ibsen iris isaac ivan ivy jack jade james jane jason jean jeff jones "
    "joyce judy jules julia kane karl kate keith kelly kent kevin kim king knox kurt kyle lake "
    "lamb lane lara laura leaf lewis lily linda lloyd logan lopez louis lucy luke lynn mabel marc "
    "mark marsh mason max may mike miles mill molly monk moore moss myers nash neil nick nina "
    "noah nolan north nova oak oates olive olga oscar otto owen oxford paige pam park paul pearl "
    "penny perez peter petra philip pike pine plaza polly poole price quay queen quinn ralph ray "
    "reed rex rhys rice ridge river robin rocky rose ross roy ruby ruth ryan sally sam sandy sara "
    "scott sean seth shaw silva simon sky smith snow south stacy stan steve stone swan sybil "
    "tanya tess theo thomas todd tom tony tracy troy tyler ulf ursula vale van vera vicky victor "
    "viola vivian wade walsh wanda ward wayne wells wendy west will wolf wood wyatt xander xenia "
    "yale yates york young yves zach zane zelda zoe"
)

Random = np.random.Generator


def draw_phrase(rng: Random) -> str:
    """Draw one phrase: first a pattern by its weight, then its contents."""
    pattern = _PATTERNS[int(rng.choice(len(_PATTERNS), p=_WEIGHTS))]
    return pattern(rng)


def transcript(phrase: str) -> str:
    """The expected transcript, in which letters that are spelled out are words of one letter."""
    return phrase.lower().replace(",", "")


def spoken(phrase: str) -> str:
    """The input of eSpeak NG for a phrase, word for word.

    It would read a lone "A" as the article; "eh" sounds like the letter in all its accents.
    """
    named = {"A": "eh", "A,": "eh,"}
    return " ".join(named.get(word, word) for word in phrase.split())


def cardinal(number: int) -> str:
    """0 to 9999 in words, such as ``two thousand three hundred and forty five``."""
    if number < 20:
        return (ONES + _TEENS)[number]
    if number < 100:
        tens = _TENS[number // 10 - 2]
        return f"{tens} {ONES[number % 10]}" if number % 10 else tens
    unit, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    head, rest = f"{cardinal(number // unit)} {name}", number % unit
    if not rest:
        return head
    return f"{head} and {cardinal(rest)}" if rest < 100 else f"{head} {cardinal(rest)}"


def ordinal(number: int) -> str:
    """1 to 31 in words, such as ``twenty third``."""
    if number <= 20:
        return ORDINALS[number - 1]
    if number == 30:
        return "thirtieth"
    return f"{_TENS[number // 10 - 2]} {ORDINALS[number % 10 - 1]}"


def year(number: int) -> str:
    """1900 to 2029 in words, such as ``nineteen ninety`` or ``two thousand and five``."""
    century, rest = divmod(number, 100)
    if century == 20 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {cardinal(rest)}" if rest > 9 else f"nineteen O {ONES[rest]}"


def pick(rng: Random, options: Sequence[str]) -> str:
    """One of the options, drawn uniformly."""
    return options[int(rng.integers(len(options)))]


def _number(rng: Random, low: int, high: int) -> str:
    return cardinal(int(rng.integers(low, high + 1)))


def _digits(rng: Random, low: int, high: int) -> str:
    return " ".join(pick(rng, ONES) for _ in range(int(rng.integers(low, high + 1))))


def letters(rng: Random, low: int, high: int) -> str:
    """Between ``low`` and ``high`` single capitals."""
    count = int(rng.integers(low, high + 1))
    return " ".join(chr(ord("A") + int(rng.integers(26))) for _ in range(count))


def clock(rng: Random) -> str:
    """A time of day in words."""
    hour = _number(rng, 1, 12)
    form = int(rng.integers(5))
    if form == 0:
        return f"{pick(rng, ('half past', 'quarter past', 'quarter to'))} {hour}"
    if form == 1:
        return f"{pick(rng, ('five', 'ten', 'twenty'))} {pick(rng, ('past', 'to'))} {hour}"
    if form == 2:
        return f"{hour} {_number(rng, 10, 59)}"
    if form == 3:
        return f"{hour} o'clock"
    return f"{hour} {pick(rng, ('A M', 'P M'))}"


def _day(rng: Random) -> str:
    index = int(rng.integers(12))
    month, day = MONTHS[index], ordinal(int(rng.integers(1, DAYS[index] + 1)))
    return f"the {day} of {month}" if rng.random() < 0.7 else f"{month} the {day}"


def _date(rng: Random) -> str:
    return f"{_day(rng)} {year(int(rng.integers(1900, 2030)))}"


def _weekday(rng: Random) -> str:
    return f"{pick(rng, WEEKDAYS)} {_day(rng)}"


def _timer(rng: Random) -> str:
    if rng.random() < 0.4:
        return f"set a timer for {_number(rng, 2, 59)} minutes and {_number(rng, 2, 59)} seconds"
    unit = pick(rng, ("minutes", "seconds", "hours"))
    return f"set a timer for {_number(rng, 2, 90)} {unit}"


def _alarm(rng: Random) -> str:
    start = pick(rng, ("wake me up at", "set an alarm for", "remind me at"))
    when = f" on {pick(rng, WEEKDAYS)}" if rng.random() < 0.5 else ""
    return f"{start} {clock(rng)}{when}"


def _clock_now(rng: Random) -> str:
    return f"it is {clock(rng)}"


def _switch(rng: Random) -> str:
    order = f"turn {pick(rng, ('on', 'off'))} the {pick(rng, _ROOMS)} {pick(rng, _THINGS)}"
    return f"{order} at {clock(rng)}" if rng.random() < 0.5 else order


def _door(rng: Random) -> str:
    thing = pick(rng, ("door", "window"))
    order = f"{pick(rng, ('open', 'close'))} the {pick(rng, _ROOMS)} {thing}"
    return f"{order} in {_number(rng, 2, 59)} minutes" if rng.random() < 0.5 else order


def _call(rng: Random) -> str:
    order = f"{pick(rng, ('call', 'message'))} {pick(rng, _NAMES)}"
    when = f"at {clock(rng)}" if rng.random() < 0.6 else f"on {_weekday(rng)}"
    return f"{order} {when}"


def _dial(rng: Random) -> str:
    return f"{pick(rng, ('dial', 'the number is', 'my code is'))} {_digits(rng, 3, 7)}"


def _bare_digits(rng: Random) -> str:
    return _digits(rng, 2, 6)


def _bare_number(rng: Random) -> str:
    return _number(rng, 0, 99) if rng.random() < 0.3 else _number(rng, 100, 9999)


def _decimal(rng: Random) -> str:
    return f"{_number(rng, 0, 99)} point {_digits(rng, 1, 3)}"


def _sum(rng: Random) -> str:
    sign = pick(rng, ("plus", "minus", "times"))
    return f"{_number(rng, 0, 99)} {sign} {_number(rng, 0, 99)}"


def _spell(rng: Random) -> str:
    return f"spell {_bare_spelling(rng)}"


def _bare_spelling(rng: Random) -> str:
    return ", ".join(pick(rng, SPELLED).upper())


def _code(rng: Random) -> str:
    return f"my code is {letters(rng, 1, 2)} {_digits(rng, 2, 3)} {letters(rng, 1, 2)}"


def _volume(rng: Random) -> str:
    if rng.random() < 0.5:
        return f"set the volume to {_number(rng, 1, 99)} percent"
    return f"turn the volume {pick(rng, ('up', 'down'))} to {_number(rng, 1, 99)}"


def _degrees(rng: Random) -> str:
    room = pick(rng, _ROOMS)
    return f"set the {room} heating to {_number(rng, 10, 30)} point {pick(rng, ONES)} degrees"


def _song(rng: Random) -> str:
    return f"play song number {_number(rng, 1, 999)}"


def _short(rng: Random) -> str:
    return pick(rng, _SHORT)


_WEIGHTED: tuple[tuple[Callable[[Random], str], int], ...] = (
    (_timer, 8),
    (_alarm, 8),
    (_clock_now, 5),
    (_switch, 8),
    (_door, 5),
    (_call, 8),
    (_date, 9),
    (_weekday, 7),
    (_dial, 6),
    (_bare_digits, 5),
    (_bare_number, 7),
    (_decimal, 4),
    (_sum, 4),
    (_spell, 5),
    (_bare_spelling, 5),
    (_code, 5),
    (_volume, 5),
    (_degrees, 4),
    (_song, 3),
    (_short, 4),
)
_PATTERNS = [pattern for pattern, _ in _WEIGHTED]
_WEIGHTS = np.array([weight for _, weight in _WEIGHTED]) / sum(w for _, w in _WEIGHTED)
