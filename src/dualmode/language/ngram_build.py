"""Converts the n-grams of a model to the flat arrays of a search."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualmode.language.ngram import BOUNDARY, NGram
from dualmode.language.ngram_estimate import Estimate

Longs = npt.NDArray[np.int64]


def build(estimate: Estimate) -> NGram:
    """Build the arrays of a model: nodes sorted by order, arcs by node.

    A context without continuations has no node: the next node of an arc is the longest suffix of
    the history that has continuations.
    """
    bits, orders = estimate.bits, estimate.orders
    contexts = [np.zeros(1, dtype=np.int64)]
    for order in orders[1:]:
        contexts.append(np.unique(order.keys >> bits))
    offsets = np.concatenate([[0], np.cumsum([len(keys) for keys in contexts])])

    def node_of(keys: Longs, length: int) -> Longs:
        """Nodes of contexts of ``length`` tokens, or of their longest suffixes that have one."""
        nodes = np.zeros(len(keys), dtype=np.int64)
        open_ = np.ones(len(keys), dtype=bool)
        for shorter in range(min(length, len(contexts) - 1), 0, -1):
            known = contexts[shorter]
            suffix = keys & ((1 << (bits * shorter)) - 1)
            at = np.minimum(np.searchsorted(known, suffix), max(0, len(known) - 1))
            hit = open_ & (known[at] == suffix) if len(known) else np.zeros_like(open_)
            nodes[hit] = offsets[shorter] + at[hit]
            open_ &= ~hit
        return nodes

    shorter, backoff = [np.zeros(1, dtype=np.int64)], [np.zeros(1)]
    begin, token, log_prob, into = [], [], [], []
    arcs = 0
    for length, order in enumerate(orders):
        keys = contexts[length]
        if length:
            shorter.append(node_of(keys, length - 1))
            below = orders[length - 1]
            backoff.append(below.backoff[np.searchsorted(below.keys, keys)])
        begin.append(arcs + np.searchsorted(order.keys >> bits, keys))
        token.append(order.keys & ((1 << bits) - 1))
        log_prob.append(order.log_prob)
        after = node_of(order.keys, length + 1)
        # Nothing follows the end: only the unigram of the boundary continues, to a beginning.
        after[(token[-1] == BOUNDARY) & (length > 0)] = 0
        into.append(after)
        arcs += len(order.keys)
    return NGram(
        order=len(orders),
        fingerprint=estimate.fingerprint,
        shorter=np.concatenate(shorter).astype(np.int32),
        backoff=np.concatenate(backoff).astype(np.float32),
        begin=np.concatenate([*begin, [arcs]]).astype(np.int32),
        token=np.concatenate(token).astype(np.uint16),
        log_prob=np.concatenate(log_prob).astype(np.float32),
        into=np.concatenate(into).astype(np.int32),
        vocabulary=estimate.vocabulary,
        settings={},
    )
