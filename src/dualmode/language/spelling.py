"""Tokens as strings of characters, and transitions of character automata by whole tokens.

In an automaton over characters, all segmentations of a word lead to the same state. The mark at the
beginning of a word is a character like any other, so word boundaries are exact.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dualmode.text import UNKNOWN_ID, WORD_START

Table = npt.NDArray[np.int32]


class Pieces(Protocol):
    """The part of ``dualmode.text.Tokens`` with the text of tokens."""

    @property
    def pieces(self) -> list[str]:
        """The text of every token, by id; ids 0 and 1 are blank and ``<unk>``."""
        ...


@dataclass(frozen=True)
class Spelling:
    """The characters of every token of a vocabulary.

    A table over characters has ``columns`` columns: one for each character of ``alphabet``, then
    ``stay`` and ``unspelled``. ``stay`` pads short tokens and must lead from a state to itself;
    ``unspelled`` stands for blank and ``<unk>``.
    """

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, vocabulary: Pieces) -> Spelling:
        """The spelling of a vocabulary."""
        return cls(tuple(vocabulary.pieces))

    @property
    def size(self) -> int:
        """V, the number of tokens."""
        return len(self.pieces)

    @cached_property
    def alphabet(self) -> dict[str, int]:
        """Code of every character of the tokens; that of the word mark is 0."""
        spelled = self.pieces[UNKNOWN_ID + 1 :]
        letters = sorted(set("".join(spelled)) - {WORD_START})
        return {character: code for code, character in enumerate([WORD_START, *letters])}

    @property
    def stay(self) -> int:
        """The column of padding."""
        return len(self.alphabet)

    @property
    def unspelled(self) -> int:
        """The column of blank and ``<unk>``."""
        return len(self.alphabet) + 1

    @property
    def columns(self) -> int:
        """Columns of a table over characters."""
        return len(self.alphabet) + 2

    @cached_property
    def codes(self) -> npt.NDArray[np.intp]:
        """Codes (V, L) of the characters of each token, padded with ``stay``."""
        longest = max(len(piece) for piece in self.pieces[UNKNOWN_ID + 1 :])
        codes = np.full((self.size, longest), self.stay, dtype=np.intp)
        codes[: UNKNOWN_ID + 1, 0] = self.unspelled
        for number, piece in enumerate(self.pieces):
            if number > UNKNOWN_ID:
                codes[number, : len(piece)] = [self.alphabet[c] for c in piece]
        return codes

    @cached_property
    def single(self) -> frozenset[str]:
        """Characters that are single tokens."""
        return frozenset(piece for piece in self.pieces if len(piece) == 1)

    def walk(self, table: Table, states: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """States (N, V) after every token from ``states`` (N,)."""
        reached = np.repeat(states[:, None], self.size, axis=1)
        cells = table.ravel()
        for at in range(self.codes.shape[1]):
            reached = cells.take(reached * table.shape[1] + self.codes[:, at])
        return reached.astype(np.int64)

    def walk_and_add(
        self, table: Table, gains: npt.NDArray[np.float32], states: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Like :meth:`walk`, and the sum of ``gains`` (the shape of ``table``) on the way."""
        reached = np.repeat(states[:, None], self.size, axis=1)
        total = np.zeros(reached.shape, dtype=np.float32)
        cells, values = table.ravel(), gains.ravel()
        for at in range(self.codes.shape[1]):
            cell = reached * table.shape[1] + self.codes[:, at]
            total += values.take(cell)
            reached = cells.take(cell)
        return reached.astype(np.int64), total

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the vocabulary, to detect files that were made for other tokens."""
        return hashlib.sha256("\n".join(self.pieces).encode()).hexdigest()[:16]
