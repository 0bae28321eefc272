"""A table of the values of a hypothesis that depend on its tokens only.

The predictor's output and the scores of next tokens by language parts depend on the last tokens and
on the states of the parts. Hypotheses for which these are equal share a row of the table, in any
utterance and at any frame, so each row is computed only once.
"""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.language.knowledge import Fusion
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK

Flags = npt.NDArray[np.bool_]

ROWS_KEPT = 4096  # a larger table is replaced at the start of the next advance
_FIRST_ROWS = 64


class Histories:
    """Rows of a growing table; row 0 is the empty history. May be used by several threads.

    Attributes:
        vocabulary: V, the number of tokens.
        contexts: (R, context_tokens) last tokens.
        states: (R, P) states of the language parts; P is 0 without any.
        predictions: (R, J) the predictor's output.
        added: (R, V) scores of next tokens by the language parts; (R, 0) without any.
        complete: (R, V) whether the text may end after each next token, blank meaning the text
            itself; (R, 0) if any text may end.
        follow: (R, V) the row after each next token; -1 if it has not been computed.
    """

    def __init__(self, scorer: Scorer, fusion: Fusion | None) -> None:
        self._scorer = scorer
        self._fusion = fusion
        self._lock = RLock()
        self._numbers: dict[bytes, int] = {}
        self._tokens = scorer.context_tokens
        blanks = np.full((1, self._tokens), BLANK, dtype=np.int64)
        prediction = scorer.predict(blanks)
        self.vocabulary = scorer.score(np.zeros_like(prediction), prediction).shape[1]
        states = fusion.start()[None] if fusion else np.zeros((1, 0), dtype=np.int64)
        guided = self.vocabulary if fusion else 0
        size, ends = _FIRST_ROWS, guided if fusion and fusion.confined else 0
        self._keys = np.zeros((size, self._tokens + states.shape[1]), dtype=np.int64)
        self._after = np.zeros((size, guided, states.shape[1]), dtype=np.int32)
        self.predictions = np.zeros((size, prediction.shape[1]), dtype=prediction.dtype)
        self.added = np.zeros((size, guided), dtype=np.float32)
        self.complete = np.zeros((size, ends), dtype=np.bool_)
        self.follow = np.full((size, self.vocabulary), -1, dtype=np.int32)
        self.rows(blanks, states)

    @property
    def contexts(self) -> Ids:
        """(R, context_tokens)"""
        return self._keys[:, : self._tokens]

    @property
    def states(self) -> Ids:
        """(R, P)"""
        return self._keys[:, self._tokens :]

    @property
    def full(self) -> bool:
        """Whether the table has more than ``ROWS_KEPT`` rows."""
        return len(self._numbers) > ROWS_KEPT

    def rows(self, contexts: Ids, states: Ids) -> Ids:
        """Rows (N,) for last tokens (N, context_tokens) and language states (N, P)."""
        keys = np.ascontiguousarray(np.concatenate([contexts, states], axis=1))
        whole: Any = np.dtype((np.void, keys.itemsize * keys.shape[1]))
        names: list[bytes] = keys.view(whole).ravel().tolist()
        with self._lock:
            places = {name: place for place, name in enumerate(names) if name not in self._numbers}
            if places:
                first = len(self._numbers)
                self._append(keys[list(places.values())], first)
                self._numbers |= {name: first + at for at, name in enumerate(places)}
            return np.array([self._numbers[name] for name in names], dtype=np.int64)

    def after(self, rows: Ids, symbols: Ids) -> Ids:
        """Rows (N,) of the histories ``rows`` (N,), extended by ``symbols`` (N,)."""
        found: Ids = self.follow[rows, symbols].astype(np.int64)
        missing = (found < 0).nonzero()[0]
        if len(missing):
            rows, symbols = rows[missing], symbols[missing]
            contexts = np.concatenate([self.contexts[rows, 1:], symbols[:, None]], axis=1)
            if self._fusion:
                states = self._after[rows, symbols].astype(np.int64)
            else:
                states = np.zeros((len(rows), 0), dtype=np.int64)
            with self._lock:
                found[missing] = self.rows(contexts, states)
                self.follow[rows, symbols] = found[missing]
        return found

    def _append(self, keys: Ids, first: int) -> None:
        """Compute the rows of ``keys``, which begin at row ``first``."""
        rows = slice(first, first + len(keys))
        # A larger array replaces a smaller one, which other threads may still read.
        for name in ("_keys", "_after", "predictions", "added", "complete", "follow"):
            array = getattr(self, name)
            if rows.stop > len(array):
                fill = -1 if name == "follow" else 0
                larger = np.full((2 * rows.stop, *array.shape[1:]), fill, dtype=array.dtype)
                larger[:first] = array[:first]
                setattr(self, name, larger)
        predictions = self._scorer.predict(keys[:, : self._tokens])
        self._keys[rows], self.predictions[rows] = keys, predictions
        if self._fusion is None:
            return
        after, added = self._fusion.expand(keys[:, self._tokens :])
        if self._fusion.prior_weight:
            added[:, 1:] -= np.float32(self._fusion.prior_weight) * self._prior(predictions)
        self._after[rows], self.added[rows] = after, added
        if self._fusion.confined:
            self.complete[rows] = self._fusion.accepts(after)

    def _prior(self, predictions: Floats) -> Floats:
        """The transducer's internal language model (N, V - 1): its output without audio and blank
        (internal language model estimation: Meng et al., arXiv 2011.01991)."""
        expected = self._scorer.score(np.zeros_like(predictions), predictions)[:, BLANK + 1 :]
        prior: Floats = expected - np.logaddexp.reduce(expected, axis=1, keepdims=True)
        return prior
