"""Decoding confined to a list of phrases or a small grammar.

The automaton is over characters, so that it accepts every segmentation of a word into tokens. It
is deterministic and minimal. It is compiled by whole columns: states of all words at one depth are
created and merged together, from the ends of words to their beginnings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualmode.errors import LanguageError
from dualmode.language.grammar import Normalize, WordAutomaton, word_automaton
from dualmode.language.knowledge import NEVER, Expansion, Floats, Integers
from dualmode.language.spelling import Pieces, Spelling, Table

_CHUNK = 1024  # states that are expanded together, each with V x 8 bytes


@dataclass(frozen=True)
class PhraseAutomaton:
    """Accepts prefixes of phrases, and complete phrases; see :class:`Knowledge`.

    Attributes:
        spelling: characters of the model's tokens.
        words: the same language as an automaton over words.
        table: (S + 1, columns) the state after each character; state S is the dead one.
        ends: (S + 1,) whether a phrase may end in a state.
        alive: (S + 1,) whether tokens lead from a state to the end of a phrase.
    """

    spelling: Spelling
    words: WordAutomaton
    table: Table
    ends: npt.NDArray[np.bool_]
    alive: npt.NDArray[np.bool_]

    @property
    def start(self) -> int:
        """The state of the empty history."""
        return 0

    @property
    def size(self) -> int:
        """S, the number of states."""
        return len(self.table) - 1

    def expand(self, states: Integers) -> Expansion:
        """0 for tokens that continue a phrase, -inf for the others."""
        reached = self.spelling.walk(self.table, states)
        reached[~self.alive[reached]] = self.size
        scores = np.where(reached < self.size, np.float32(0), NEVER)
        reached[:, 0], scores[:, 0] = states, 0
        return Expansion(reached, scores)

    def final(self, states: Integers) -> Floats:
        """0 in states where a phrase may end, -inf in others."""
        return np.where(self.ends[states], np.float32(0), NEVER)

    def accepts(self, text: str) -> bool:
        """Whether normalised text is one of the phrases."""
        return self.words.accepts(text.split())


def read_phrases(path: str | Path) -> list[str]:
    """Read the lines of a file of phrases.

    Raises:
        LanguageError: the file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageError(f"{path}: cannot read phrases: {error}") from None


def compile_phrases(
    lines: Sequence[str], vocabulary: Pieces, normalize: Normalize
) -> PhraseAutomaton:
    """Compile phrases and slot definitions; see :mod:`dualmode.language.grammar`.

    Raises:
        LanguageError: a line is invalid, or the tokens lack a letter of a word.
    """
    if isinstance(lines, str):
        raise LanguageError("phrases must be a list of phrases or the path of a file of them")
    words = word_automaton(lines, normalize)
    spelling = Spelling.of(vocabulary)
    table, ends = _characters(words, spelling)
    alive = np.ones(len(table), dtype=bool)
    alive[-1] = False
    automaton = PhraseAutomaton(spelling, words, table, ends, alive)
    if not spelling.single.issuperset(spelling.alphabet):
        # If some letters are not tokens, some prefixes of words are dead ends.
        _mark_alive(automaton)
    if not alive[0]:
        raise LanguageError("none of the phrases can be spelled with the model's tokens")
    return automaton


def _characters(words: WordAutomaton, spelling: Spelling) -> tuple[Table, npt.NDArray[np.bool_]]:
    """The minimal automaton over characters: its table and the states where phrases end.

    Node (u, prefix) is the state after the mark of a word from one of the word states with arcs u,
    and after the characters ``prefix`` of the word.
    """
    unions, labels = _unions(words)
    arcs = sorted((u, word, into) for u, row in enumerate(unions) for word, into in row)
    listed = sorted({word for _, word, _ in arcs})
    rank = {word: number for number, word in enumerate(listed)}
    codes = _word_codes(listed, spelling)[[rank[word] for _, word, _ in arcs]]
    union = np.array([u for u, _, _ in arcs])
    into = np.array([target for _, _, target in arcs])
    lengths = (codes >= 0).sum(axis=1)

    depth = np.arange(codes.shape[1] + 1)
    same = (codes[1:] == codes[:-1]) & (codes[1:] >= 0)
    shared = np.logical_and.accumulate(same, axis=1).sum(axis=1)
    shared[union[1:] != union[:-1]] = -1
    shared = np.concatenate([[-1], shared])
    new = (depth > shared[:, None]) & (depth <= lengths[:, None])
    node = np.cumsum(new, axis=0) - 1  # (arcs, depth): number of the node among those of its depth

    label = np.array(labels)[into]  # set of arcs after the word, or -1
    ends = np.array(words.final)[into]
    hashes = _hashes(codes, lengths, node, new, label, ends)
    classes, place = _number(hashes, node, new, union)
    return _fill(spelling, codes, lengths, node, label, ends, hashes, classes, place)


def _unions(words: WordAutomaton) -> tuple[list[list[tuple[str, int]]], list[int]]:
    """The distinct sets of arcs, that of the start first, and the set of each word state."""
    numbers: dict[tuple[tuple[str, int], ...], int] = {}
    labels = []
    for row in words.arcs:
        key = tuple(sorted(row.items()))
        labels.append(numbers.setdefault(key, len(numbers)) if key else -1)
    return [list(key) for key in numbers], labels


def _word_codes(listed: list[str], spelling: Spelling) -> npt.NDArray[np.int64]:
    longest = max(map(len, listed))
    codes = np.full((len(listed), longest), -1, dtype=np.int64)
    for row, word in enumerate(listed):
        try:
            codes[row, : len(word)] = [spelling.alphabet[c] for c in word]
        except KeyError as error:
            raise LanguageError(
                f"the word {word!r} has the letter {error.args[0]!r}, which the model's tokens "
                "lack: use other letters"
            ) from None
    return codes


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al., 2014), a bijection that mixes all bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _hashes(
    codes: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    node: npt.NDArray[np.int64],
    new: npt.NDArray[np.bool_],
    label: npt.NDArray[np.int64],
    ends: npt.NDArray[np.bool_],
) -> list[npt.NDArray[np.uint64]]:
    """For every depth, a hash of the continuations of each node.

    The probability of a collision among n nodes is n^2 / 2^65, or 3e-10 for 100,000 nodes.
    """
    hashes: list[npt.NDArray[np.uint64]] = []
    for depth in range(codes.shape[1], -1, -1):
        totals = np.zeros(int(new[:, depth].sum()), dtype=np.uint64)
        leaf = lengths == depth
        follow = (label[leaf] + 2).astype(np.uint64) * np.uint64(2) + ends[leaf]
        totals[node[leaf, depth]] += _mix(follow + np.uint64(1 << 40))
        if hashes:
            child = new[:, depth + 1]
            parts = _mix(hashes[-1] ^ _mix(codes[child, depth].astype(np.uint64) + np.uint64(7)))
            np.add.at(totals, node[child, depth], parts)
        hashes.append(_mix(totals))
    return hashes[::-1]


def _number(
    hashes: list[npt.NDArray[np.uint64]],
    node: npt.NDArray[np.int64],
    new: npt.NDArray[np.bool_],
    union: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The sorted hashes of the classes, and the class of the node after each union's mark."""
    classes = np.unique(np.concatenate(hashes))
    first = hashes[0][node[new[:, 0], 0]]  # unions come in order, one node at depth 0 each
    assert len(first) == int(union[-1]) + 1
    return classes, np.searchsorted(classes, first)


def _fill(
    spelling: Spelling,
    codes: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    node: npt.NDArray[np.int64],
    label: npt.NDArray[np.int64],
    ends: npt.NDArray[np.bool_],
    hashes: list[npt.NDArray[np.uint64]],
    classes: npt.NDArray[np.uint64],
    place: npt.NDArray[np.int64],
) -> tuple[Table, npt.NDArray[np.bool_]]:
    """Write the arcs of every class. State 0 is the start; it accepts the first word with or
    without a mark."""
    dead = len(classes) + 1
    table = np.full((dead + 1, spelling.columns), dead, dtype=np.int32)
    finals = np.zeros(dead + 1, dtype=bool)
    numbers = [np.searchsorted(classes, row) + 1 for row in hashes]
    for depth in range(codes.shape[1] + 1):
        leaf = np.flatnonzero(lengths == depth)
        state = numbers[depth][node[leaf, depth]]
        finals[state] |= ends[leaf]
        follows = label[leaf] >= 0
        table[state[follows], 0] = place[label[leaf][follows]] + 1
        longer = np.flatnonzero(lengths > depth)
        if len(longer):
            parent = numbers[depth][node[longer, depth]]
            child = numbers[depth + 1][node[longer, depth + 1]]
            table[parent, codes[longer, depth]] = child
    table[0] = table[place[0] + 1]
    table[0, 0] = place[0] + 1
    table[:, spelling.stay] = np.arange(dead + 1)
    return table, finals


def _mark_alive(automaton: PhraseAutomaton) -> None:
    """Mark the states from which tokens lead to the end of a phrase."""
    origins, targets = [], []
    for begin in range(0, automaton.size, _CHUNK):
        states = np.arange(begin, min(begin + _CHUNK, automaton.size))
        reached = automaton.spelling.walk(automaton.table, states)
        row, column = np.nonzero(reached < automaton.size)
        origins.append(states[row])
        targets.append(reached[row, column])
    origin, target = np.concatenate(origins), np.concatenate(targets)
    alive = automaton.ends.copy()
    while True:
        grown = alive.copy()
        grown[origin[alive[target]]] = True
        if (grown == alive).all():
            break
        alive = grown
    automaton.alive[:] = alive
