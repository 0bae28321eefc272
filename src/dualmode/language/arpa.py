"""Reads n-gram models over a recogniser's tokens in the ARPA format of KenLM and SRILM."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dualmode.errors import LanguageError
from dualmode.language.ngram import BOUNDARY, UNSEEN
from dualmode.language.ngram_estimate import Estimate, Order
from dualmode.language.spelling import Pieces, Spelling
from dualmode.text import UNKNOWN_ID

_LN10 = math.log(10)
_SECTION = re.compile(r"\\(\d+)-grams:")
Entry = tuple[int, float, float]


def read_arpa(path: str | Path, vocabulary: Pieces) -> Estimate:
    """Read an ARPA file (``.gz`` too) whose words are the pieces of ``tokens.txt``.

    Raises:
        LanguageError: the file cannot be read, is truncated, or its words are not the tokens.
    """
    spelling = Spelling.of(vocabulary)
    bits = max(1, (spelling.size - 1).bit_length())
    ids = {piece: number for number, piece in enumerate(spelling.pieces)}
    ids |= {"<s>": BOUNDARY, "</s>": BOUNDARY, "<unk>": UNKNOWN_ID, "<UNK>": UNKNOWN_ID}
    sections: dict[int, dict[int, list[float]]] = {}
    try:
        opener = gzip.open if str(path).endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as file:
            for length, words, log_prob, backoff in _lines(file, path):
                if length * bits > 62:
                    raise LanguageError(
                        f"{path}: an order of {length} is too high for {spelling.size} tokens"
                    )
                key = 0
                for word in words:
                    if word not in ids:
                        raise LanguageError(
                            f"{path}: {word!r} is not a token of this model: divide the text into "
                            "the pieces of its tokens.txt before estimating the language model"
                        )
                    key = (key << bits) | ids[word]
                entry = sections.setdefault(length, {}).setdefault(key, [UNSEEN, 0.0])
                # <s> and </s> are the same token here, as only <s> is a context, and </s> never.
                if words != ["<s>"]:
                    entry[0] = max(UNSEEN, log_prob * _LN10)
                if words != ["</s>"]:
                    entry[1] = backoff * _LN10
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LanguageError(f"{path}: cannot read the ARPA file: {error}") from None
    if sorted(sections) != list(range(1, len(sections) + 1)) or not sections:
        raise LanguageError(f"{path}: not an ARPA file, or truncated")
    orders = tuple(_order(sections[length]) for length in sorted(sections))
    for number in range(1, len(orders)):
        missing = ~np.isin(orders[number].keys >> bits, orders[number - 1].keys)
        if missing.any():
            raise LanguageError(f"{path}: an n-gram lacks its context: the file is damaged")
    return Estimate(spelling.size, spelling.fingerprint, bits, orders)


def _order(entries: dict[int, list[float]]) -> Order:
    keys = np.array(sorted(entries), dtype=np.int64)
    values = np.array([entries[key] for key in keys.tolist()])
    return Order(keys, values[:, 0], values[:, 1])


def _lines(file: Iterator[str], path: str | Path) -> Iterator[tuple[int, list[str], float, float]]:
    """Length, words, and base-10 logarithms of every entry."""
    length, ended = 0, False
    for number, line in enumerate(file, start=1):
        fields = line.split()
        if not fields or (length == 0 and not line.startswith("\\")):
            continue
        if line.startswith("\\"):
            section = _SECTION.match(line)
            length = int(section[1]) if section else 0
            ended |= line.startswith("\\end\\")
            continue
        if len(fields) not in (length + 1, length + 2):
            raise LanguageError(f"{path}, line {number}: not an entry of {length} words")
        backoff = float(fields[length + 1]) if len(fields) == length + 2 else 0.0
        yield length, fields[1 : length + 1], float(fields[0]), backoff
    if not ended:
        raise LanguageError(f"{path}: truncated: it does not end with \\end\\")
