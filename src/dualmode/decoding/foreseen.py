"""The predictor asked for many contexts at once, so that a beam search seldom has to wait for it.

A predictor sees few tokens and costs a call, whatever the number of contexts. A beam begins new
hypotheses at nearly every frame; the first context that ends in some token is a reason to compute
what follows every token after it.
"""

from __future__ import annotations

from threading import Lock

import numpy as np

from dualmode.runtime import Floats, Ids, Scorer

MOST_BYTES = 32e6  # of all predictions of a model; a larger one is asked context by context


class ForeseenPredictions:
    """A :class:`~dualmode.runtime.Scorer` that computes predictions ahead and keeps them.

    May be used by several threads.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._lock = Lock()
        self._blocks: dict[tuple[int, ...], Floats] = {}
        prediction = scorer.predict(np.zeros((1, scorer.context_tokens), dtype=np.int64))
        self._vocabulary = scorer.score(np.zeros_like(prediction), prediction).shape[1]
        contexts = self._vocabulary**scorer.context_tokens
        self._worth = contexts * prediction.nbytes <= MOST_BYTES

    @property
    def context_tokens(self) -> int:
        """See :class:`~dualmode.runtime.Scorer`."""
        return self._scorer.context_tokens

    def predict(self, context: Ids) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        if not self._worth:
            return self._scorer.predict(context)
        beginnings = [tuple(row) for row in context[:, :-1].tolist()]
        missing = list(dict.fromkeys(b for b in beginnings if b not in self._blocks))
        if missing:
            self._foresee(missing)
        last = context[:, -1].tolist()
        return np.stack([self._blocks[b][token] for b, token in zip(beginnings, last, strict=True)])

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        return self._scorer.score(frames, predictions)

    def _foresee(self, beginnings: list[tuple[int, ...]]) -> None:
        every = np.arange(self._vocabulary)
        contexts = np.empty((len(beginnings), len(every), self.context_tokens), dtype=np.int64)
        contexts[..., :-1] = np.array(beginnings, dtype=np.int64)[:, None]
        contexts[..., -1] = every
        predictions = self._scorer.predict(contexts.reshape(-1, self.context_tokens))
        blocks = predictions.reshape(len(beginnings), len(every), -1)
        with self._lock:
            self._blocks.update(zip(beginnings, blocks, strict=True))
