"""A back-off n-gram model over tokens, in flat arrays that are mapped from its file.

A node is a context with continuations; its arcs are the tokens observed after it. The probability
of other tokens is that of a shorter context times the back-off weight (Katz, 1987). Token 0, which
no transducer emits, marks the beginning and the end of a text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.errors import LanguageError
from dualmode.language.knowledge import Expansion, Floats, Integers
from dualmode.language.spelling import Pieces, Spelling
from dualmode.whole_files import replacing

BOUNDARY = 0  # before the first token and after the last
UNSEEN = -20.0  # log-probability, in nats, of tokens that occur in no text
_MAGIC = b"dualmode-ngram-1\n"
_TYPES = {
    "shorter": "<i4",
    "backoff": "<f2",
    "begin": "<i4",
    "token": "<u2",
    "log_prob": "<f2",
    "into": "<i4",
}
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class NGram:
    """A model of order n; see :class:`Knowledge`. Logarithms are natural.

    Attributes:
        order: n.
        fingerprint: fingerprint of its tokens; see :attr:`Spelling.fingerprint`.
        shorter: (S,) the node of the context without its oldest token. Node 0 has no context.
        backoff: (S,) back-off weight of each node, in nats.
        begin: (S + 1,) index of the first arc of each node.
        token, log_prob, into: (A,) token, log-probability and next node of each arc.
        settings: weights for fusion, tuned on a development set.
    """

    order: int
    fingerprint: str
    shorter: npt.NDArray[np.int32]
    backoff: npt.NDArray[np.floating[Any]]
    begin: npt.NDArray[np.int32]
    token: npt.NDArray[np.uint16]
    log_prob: npt.NDArray[np.floating[Any]]
    into: npt.NDArray[np.int32]
    vocabulary: int
    settings: dict[str, float]

    @property
    def start(self) -> int:
        """The node of a text's beginning."""
        first = self._arcs(0)
        at = np.flatnonzero(self.token[first] == BOUNDARY)
        return int(self.into[first][at[0]]) if len(at) else 0

    def expand(self, states: Integers) -> Expansion:
        """Log-probabilities of every token after the contexts ``states``."""
        after, scores = self._rows(states)
        after[:, 0], scores[:, 0] = states, 0
        return Expansion(after, scores)

    def final(self, states: Integers) -> Floats:
        """Log-probability of the text's end."""
        return self._rows(states)[1][:, BOUNDARY]

    def score(self, tokens: list[int]) -> float:
        """Log-probability of a whole text."""
        state, total = self.start, 0.0
        for token in [*tokens, BOUNDARY]:
            after, scores = self._rows(np.array([state]))
            state, total = int(after[0, token]), total + float(scores[0, token])
        return total

    def _rows(self, states: Integers) -> tuple[Integers, Floats]:
        """Next nodes and log-probabilities (N, V) of all tokens, that of the end in column 0."""
        chain = [np.asarray(states, dtype=np.int64)]
        while chain[-1].any():
            chain.append(self.shorter[chain[-1]].astype(np.int64))
        after = np.zeros((len(states), self.vocabulary), dtype=np.int64)
        scores = np.full(after.shape, UNSEEN, dtype=np.float32)
        # From the empty to the longest context, each of which replaces its observed tokens.
        for level, nodes in enumerate(reversed(chain)):
            rows = np.arange(len(nodes)) if level == 0 else nodes.nonzero()[0]
            nodes = nodes[rows]
            scores[rows] += self.backoff[nodes].astype(np.float32)[:, None]
            begin = self.begin[nodes].astype(np.int64)
            counts = self.begin[nodes + 1] - begin
            ends = counts.cumsum()
            arcs = np.arange(int(ends[-1])) + (begin - ends + counts).repeat(counts)
            rows, tokens = rows.repeat(counts), self.token[arcs]
            after[rows, tokens] = self.into[arcs]
            scores[rows, tokens] = self.log_prob[arcs]
        return after, scores

    def _arcs(self, node: int) -> slice:
        return slice(int(self.begin[node]), int(self.begin[node + 1]))

    def check(self, vocabulary: Pieces) -> None:
        """Check that the model was made for these tokens.

        Raises:
            LanguageError: it was made for other tokens.
        """
        if Spelling.of(vocabulary).fingerprint != self.fingerprint:
            raise LanguageError(
                "the language model was made for other tokens than this recogniser's: make it "
                "again with dualmode lm --model and the directory of this model"
            )

    @property
    def nbytes(self) -> int:
        """Size of the arrays in the file, in bytes."""
        return sum(getattr(self, name).size * np.dtype(t).itemsize for name, t in _TYPES.items())

    def write(self, path: str | Path) -> None:
        """Write the model to one file, atomically."""
        arrays = {n: np.ascontiguousarray(getattr(self, n), dtype=t) for n, t in _TYPES.items()}
        header = {
            "order": self.order,
            "fingerprint": self.fingerprint,
            "vocabulary": self.vocabulary,
            "settings": self.settings,
            "lengths": {name: len(array) for name, array in arrays.items()},
        }
        with replacing(path) as part, part.open("wb") as file:
            file.write(_MAGIC + json.dumps(header).encode() + b"\n")
            for array in arrays.values():
                file.write(b"\0" * (-file.tell() % 8))
                file.write(array.tobytes())


def read_ngram(path: str | Path) -> NGram:
    """Map a model into memory: pages are read when they are needed.

    Raises:
        LanguageError: the file is missing, truncated, or not a language model.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.readline(len(_MAGIC)) != _MAGIC:
                raise LanguageError(
                    f"{path}: not a language model of dualmode; make one with dualmode lm"
                )
            header = json.loads(file.readline(_LONGEST_HEADER))
            at = file.tell()
        arrays = {}
        for name, kind in _TYPES.items():
            at += -at % 8
            length = int(header["lengths"][name])
            mapped = np.memmap(path, dtype=kind, mode="r", offset=at, shape=(length,))
            arrays[name] = np.asarray(mapped)  # still mapped, but without the overhead of memmap
            at += length * np.dtype(kind).itemsize
        model = NGram(
            int(header["order"]),
            str(header["fingerprint"]),
            vocabulary=int(header["vocabulary"]),
            settings={str(k): float(v) for k, v in header["settings"].items()},
            **arrays,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LanguageError(f"{path}: cannot read the language model: {error}") from None
    if not _is_sound(model):
        raise LanguageError(f"{path}: the language model is damaged: make it again")
    return model


def _is_sound(model: NGram) -> bool:
    """Whether all indices are valid, and shorter contexts come first."""
    nodes, arcs = len(model.shorter), len(model.token)
    lengths = len(model.backoff) == nodes and len(model.begin) == nodes + 1
    lengths &= len(model.log_prob) == arcs and len(model.into) == arcs
    if not lengths or nodes == 0 or arcs == 0:
        return False
    return bool(
        (np.asarray(model.shorter[1:]) < np.arange(1, nodes)).all()
        and model.shorter[0] == 0
        and int(model.shorter.min()) >= 0
        and int(model.begin[0]) == 0
        and int(model.begin[-1]) == arcs
        and (np.diff(model.begin) >= 0).all()
        and int(model.token.max()) < model.vocabulary
        and int(model.into.min()) >= 0
        and int(model.into.max()) < nodes
    )
