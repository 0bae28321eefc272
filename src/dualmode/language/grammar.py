"""Compiles phrases and small grammars to a deterministic, minimal automaton over words.

Each line is a phrase. ``(on | off)`` is a choice, ``[please]`` is optional, and ``{room}`` is a
slot, which is defined by another line (``room = kitchen | living room``) or built in
(:mod:`dualmode.language.slots`). ``#`` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dualmode.errors import LanguageError
from dualmode.language.slots import BUILT_IN

_SYNTAX = re.compile(r"[()\[\]{}|]")
_PIECE = re.compile(r"\s*(\{\s*(\w+)\s*\}|[()\[\]|]|[^()\[\]{}|]+)")
# Limits of automata, far above those of useful grammars: ten thousand phrases have about as many
# states as words.
MOST_STATES = 200_000
_MOST_WORK = 10 * MOST_STATES  # sizes of all sets of states of the subset construction
_DEFINITION = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)

Normalize = Callable[[str], str]


@dataclass(frozen=True)
class WordAutomaton:
    """A deterministic and minimal automaton over words.

    Attributes:
        arcs: for every state, the state that each word leads to. State 0 is the start.
        final: for every state, whether a phrase may end there.
    """

    arcs: tuple[dict[str, int], ...]
    final: tuple[bool, ...]

    def accepts(self, words: Iterable[str]) -> bool:
        """Whether a sequence of words is one of the phrases."""
        state: int | None = 0
        for word in words:
            state = self.arcs[state].get(word) if state is not None else None
        return state is not None and self.final[state]


def word_automaton(lines: Sequence[str], normalize: Normalize) -> WordAutomaton:
    """Compile phrases and slot definitions.

    Args:
        lines: as described in the module's docstring.
        normalize: reduces a piece of text to the words of the vocabulary; raises LanguageError.

    Raises:
        LanguageError: there is no phrase, a line is invalid, a slot is unknown, repeated or
            recursive, a phrase may be empty, or the automaton would be too large.
    """
    phrases, slots = _split_lines(lines)
    if not phrases:
        raise LanguageError("the list of phrases is empty: give at least one phrase")
    builder = _Builder(normalize, slots)
    start, end = builder.state(), builder.state()
    builder.choices(phrases, start, end)
    automaton = _minimized(*_determinized(builder, start, end))
    if automaton.final[0]:
        raise LanguageError(
            "the grammar accepts an empty phrase: at least one word must not be optional"
        )
    return automaton


def _split_lines(lines: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    phrases, slots = [], {}
    for line in lines:
        text = line.partition("#")[0].strip()
        if not text:
            continue
        definition = _DEFINITION.fullmatch(text)
        if definition is None:
            phrases.append(text)
            continue
        name, body = definition[1], definition[2].strip()
        if name in slots:
            raise LanguageError(f"slot {{{name}}} is defined twice: join the lines with |")
        if not body:
            raise LanguageError(f"slot {{{name}}} is empty: write its choices after the =")
        slots[name] = _top_choices(body)
    return phrases, slots


def _top_choices(body: str) -> list[str]:
    """Split at the bars outside brackets."""
    choices, depth, begin = [], 0, 0
    for at, character in enumerate(body):
        depth += (character in "([") - (character in ")]")
        if character == "|" and depth == 0:
            choices.append(body[begin:at])
            begin = at + 1
    return [*choices, body[begin:]]


@dataclass
class _Builder:
    """Builds a nondeterministic automaton with word arcs and empty arcs."""

    normalize: Normalize
    slots: Mapping[str, list[str]]
    arcs: list[dict[str, list[int]]] = field(default_factory=list)
    free: list[list[int]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)  # slots being expanded

    def state(self) -> int:
        if len(self.arcs) >= MOST_STATES:
            raise _too_large()
        self.arcs.append({})
        self.free.append([])
        return len(self.arcs) - 1

    def choices(self, texts: Sequence[str], start: int, end: int) -> None:
        """Add ``texts`` as alternatives from ``start`` to ``end``; plain phrases share prefixes."""
        root = self.state()
        self.free[start].append(root)
        for text in texts:
            if _SYNTAX.search(text):
                self._sequence(text, start, end)
                continue
            at = root
            for word in self._words(text):
                into = self.arcs[at].get(word)
                if into is None:
                    into = self.arcs[at][word] = [self.state()]
                at = into[0]
            self.free[at].append(end)

    def _words(self, text: str) -> list[str]:
        words = self.normalize(text).split()
        if not words:
            raise LanguageError(f"no words in the phrase {text!r}")
        return words

    def _sequence(self, text: str, start: int, end: int) -> None:
        pieces = _pieces(text)
        rest = self._parse(text, pieces, 0, start, end)
        if rest != len(pieces):
            raise LanguageError(f"the phrase {text!r} closes a bracket that it did not open")

    def _parse(self, text: str, pieces: list[str], at: int, start: int, end: int) -> int:
        """Add pieces up to a closing bracket; returns the index after the last piece used."""
        now = start
        while at < len(pieces) and pieces[at] not in ")]":
            piece = pieces[at]
            after = self.state()
            if piece == "|":
                self.free[now].append(end)
                now, at = start, at + 1
                continue
            if piece in "([":
                at = self._parse(text, pieces, at + 1, now, after)
                if at >= len(pieces) or pieces[at] != {"(": ")", "[": "]"}[piece]:
                    raise LanguageError(f"the phrase {text!r} does not close its {piece!r}")
                if piece == "[":
                    self.free[now].append(after)
            elif piece.startswith("{"):
                self._slot(piece.strip("{} \t"), now, after)
            else:
                self._row(self._words(piece), now, after)
            now, at = after, at + 1
        self.free[now].append(end)
        return at

    def _row(self, words: list[str], start: int, end: int) -> None:
        at = start
        for word in words:
            into = self.state()
            self.arcs[at].setdefault(word, []).append(into)
            at = into
        self.free[at].append(end)

    def _slot(self, name: str, start: int, end: int) -> None:
        if name in self._open:
            way = " -> ".join(f"{{{slot}}}" for slot in [*self._open, name])
            raise LanguageError(f"the grammar is recursive: {way}; write repetitions out")
        choices = self.slots.get(name) or BUILT_IN.get(name)
        if choices is None:
            known = ", ".join(sorted({*self.slots, *BUILT_IN}))
            raise LanguageError(f"no slot {{{name}}}: define it as {name} = ..., or use {known}")
        self._open.append(name)
        entry, exit_ = self.state(), self.state()
        self.free[start].append(entry)
        self.choices(choices, entry, exit_)
        self.free[exit_].append(end)
        self._open.pop()


def _pieces(text: str) -> list[str]:
    pieces, at = [], 0
    while at < len(text.rstrip()):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise LanguageError(f"a slot in the phrase {text!r} must be written as {{name}}")
        if piece[1].strip():
            pieces.append(piece[1].strip())
        at = piece.end()
    return pieces


def _too_large() -> LanguageError:
    return LanguageError(
        "the grammar is too large: slots that repeat slots multiply; write fewer alternatives"
    )


def _determinized(
    builder: _Builder, start: int, end: int
) -> tuple[list[dict[str, int]], list[bool]]:
    """Subset construction."""
    closures: dict[int, frozenset[int]] = {}
    work = 0

    def closure(states: Iterable[int]) -> frozenset[int]:
        reached: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state not in reached:
                reached.add(state)
                waiting.extend(builder.free[state])
        nonlocal work
        work += len(reached)
        if work > _MOST_WORK:
            raise _too_large()
        return frozenset(reached)

    def closed(states: list[int]) -> frozenset[int]:
        if len(states) > 1:
            return closure(states)
        if states[0] not in closures:
            closures[states[0]] = closure(states)
        return closures[states[0]]

    first = closed([start])
    numbers, waiting = {first: 0}, [first]
    arcs: list[dict[str, int]] = []
    final: list[bool] = []
    for subset in waiting:
        moves: dict[str, list[int]] = {}
        for state in subset:
            for word, into in builder.arcs[state].items():
                moves.setdefault(word, []).extend(into)
        row = {}
        for word, into in moves.items():
            target = closed(into)
            if target not in numbers:
                if len(numbers) >= MOST_STATES:
                    raise _too_large()
                numbers[target] = len(numbers)
                waiting.append(target)
            row[word] = numbers[target]
        arcs.append(row)
        final.append(end in subset)
    return arcs, final


def _minimized(arcs: list[dict[str, int]], final: list[bool]) -> WordAutomaton:
    """Merge states with the same continuations; the automaton has no loops."""
    classes: dict[tuple[bool, tuple[tuple[str, int], ...]], int] = {}
    merged: list[int | None] = [None] * len(arcs)
    waiting = [0]
    while waiting:
        state = waiting[-1]
        ahead = [into for into in arcs[state].values() if merged[into] is None]
        if ahead:
            waiting.extend(ahead)
            continue
        waiting.pop()
        row = tuple(sorted((word, merged[into] or 0) for word, into in arcs[state].items()))
        merged[state] = classes.setdefault((final[state], row), len(classes))
    # The start has the last number; it becomes state 0.
    last = len(classes) - 1
    rows = [(dict(row), ends) for ends, row in classes]
    order = [last, *range(last)]
    place = {old: new for new, old in enumerate(order)}
    return WordAutomaton(
        tuple({word: place[into] for word, into in rows[old][0].items()} for old in order),
        tuple(rows[old][1] for old in order),
    )
