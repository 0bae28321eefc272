"""Vocabularies: one of every kind of token, and one trained by SentencePiece."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dualmode.config import TextConfig
from dualmode.text import Tokens, train_tokens


@dataclass(frozen=True)
class Letters:
    """Blank, <unk>, the word mark, a and b, and pieces that overlap."""

    pieces: list[str]


@pytest.fixture(scope="session")
def letters() -> Letters:
    mark = "\u2581"
    pieces = ["<blk>", "<unk>", mark, "a", "b", mark + "a", "ab", mark + "ab", "ba", "bb"]
    return Letters(pieces)


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    texts = [
        "set the kitchen light to twenty two",
        "turn the radio off in the living room",
        "call zelda and zelda's brother please",
        "the zoo is open till nine",
    ]
    out = tmp_path_factory.mktemp("tokens")
    return train_tokens(texts * 2, TextConfig(vocabulary_size=60), out)
