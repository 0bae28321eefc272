"""Words and phrases that are made more probable: names, products, places.

An Aho-Corasick automaton over characters follows all hotwords at once. The score of a hypothesis
increases while it spells a hotword, and the increase is revoked if the word is not completed. A
complete text has therefore gained exactly the boosts of the hotwords that it contains as whole
words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dualmode.errors import LanguageError
from dualmode.language.grammar import Normalize
from dualmode.language.knowledge import Expansion, Floats, Integers
from dualmode.language.spelling import Spelling, Table
from dualmode.text import WORD_START, Tokens


@dataclass(frozen=True)
class Hotwords:
    """The boosts of hotwords; see :class:`Knowledge`.

    Attributes:
        spelling: characters of the model's tokens.
        boosts: score, in nats, of each occurrence of a hotword.
        table: (S, columns) the state after each character.
        gains: (S, columns) the score of each character.
        closing: (S,) the score of ending in a state.
    """

    spelling: Spelling
    boosts: Mapping[str, float]
    table: Table
    gains: Floats
    closing: Floats

    @property
    def start(self) -> int:
        """The state of the empty history, at which a word begins even without a mark."""
        return int(self.table[0, 0])

    def expand(self, states: Integers) -> Expansion:
        """The states and scores after each token."""
        reached, scores = self.spelling.walk_and_add(self.table, self.gains, states)
        reached[:, 0], scores[:, 0] = states, 0
        return Expansion(reached, scores)

    def final(self, states: Integers) -> Floats:
        """Boosts of hotwords that end here, minus the score of incomplete ones."""
        return self.closing[states]


def compile_hotwords(
    hotwords: Mapping[str, float], tokens: Tokens, normalize: Normalize
) -> Hotwords:
    """Compile hotwords.

    Args:
        hotwords: strength of each hotword, in nats per token of its usual segmentation.
        normalize: reduces text to the words of the vocabulary; raises LanguageError.

    Raises:
        LanguageError: there are no hotwords, one is repeated (after normalisation), a strength is
            not a finite number, or the tokens lack a letter.
    """
    if not hotwords:
        raise LanguageError("no hotwords: add at least one, or omit the option")
    boosts: dict[str, float] = {}
    for text, strength in hotwords.items():
        word = normalize(text)
        if word in boosts:
            raise LanguageError(f"the hotword {word!r} is given twice: keep one of them")
        if not np.isfinite(strength):
            raise LanguageError(f"the strength of {word!r} must be a finite number, not {strength}")
        boosts[word] = float(strength) * len(tokens.encode(word))
    spelling = Spelling.of(tokens)
    lacking = sorted(set("".join(boosts)) - set(spelling.alphabet) - {" "})
    if lacking:
        raise LanguageError(
            f"hotwords have letters that the model's tokens lack: {' '.join(lacking)}"
        )
    return _automaton(boosts, spelling)


def parse_hotwords(lines: list[str], default: float) -> dict[str, float]:
    """Read lines such as ``zelda`` or ``living room = 2.5``; ``#`` begins a comment.

    Raises:
        LanguageError: a strength is not a number, or a hotword is repeated.
    """
    strengths: dict[str, float] = {}
    for line in lines:
        word, mark, number = line.partition("#")[0].partition("=")
        word = " ".join(word.split())
        if not word:
            continue
        if word in strengths:
            raise LanguageError(f"the hotword {word!r} is given twice: keep one of them")
        try:
            strengths[word] = float(number) if mark else default
        except ValueError:
            raise LanguageError(
                f"{line.strip()!r}: write a hotword and its strength as word = 2.0"
            ) from None
    return strengths


def _automaton(boosts: Mapping[str, float], spelling: Spelling) -> Hotwords:
    children, hopes, complete = _trie(boosts, spelling)
    count, columns = len(children), spelling.columns
    table = np.zeros((count, columns), dtype=np.int32)
    fail = np.zeros(count, dtype=np.int64)
    hope, done = np.array(hopes), np.array(complete)
    order = [0]
    for state in order:
        # Shallower states are complete, so the row of the failure state is the default.
        if state:
            table[state] = table[fail[state]]
            hope[state] = _stronger(hope[state], hope[fail[state]])
            done[state] += done[fail[state]]
        for code, child in children[state].items():
            fail[child] = table[fail[state], code] if state else 0
            table[state, code] = child
            order.append(child)
    # The mark of the next word completes the hotwords that end before it.
    gains = (hope[table] - hope[:, None]).astype(np.float32)
    gains[:, 0] += done
    table[:, spelling.stay] = np.arange(count)
    gains[:, spelling.stay] = 0
    closing = (done - hope).astype(np.float32)
    return Hotwords(spelling, dict(boosts), table, gains, closing)


def _trie(
    boosts: Mapping[str, float], spelling: Spelling
) -> tuple[list[dict[int, int]], list[float], list[float]]:
    """Children of each state, the boosts within reach, and the boost completed there."""
    children: list[dict[int, int]] = [{}]
    hopes, complete = [0.0], [0.0]
    for word, boost in boosts.items():
        text = WORD_START + word.replace(" ", WORD_START)
        state = 0
        for depth, character in enumerate(text, start=1):
            code = spelling.alphabet[character]
            if code not in children[state]:
                children[state][code] = len(children)
                children.append({})
                hopes.append(0.0)
                complete.append(0.0)
            state = children[state][code]
            # The mark alone adds nothing; each letter adds its share.
            hopes[state] = _stronger(hopes[state], boost * (depth - 1) / (len(text) - 1))
        complete[state] += boost
    return children, hopes, complete


def _stronger(first: float, second: float) -> float:
    """The value farther from 0, since boosts may be negative."""
    return first if abs(first) >= abs(second) else second
