"""Estimates n-gram models: interpolated modified Kneser-Ney, pruned to a size.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1998, with
pruning after Stolcke, "Entropy-based pruning of backoff language models", 1998, which removes the
n-grams with the least information. Whole orders are sorted and counted as arrays; a million words
take seconds. (KenLM's estimator has to be built from source; :mod:`dualmode.language.arpa` reads
its ARPA files.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dualmode.errors import LanguageError
from dualmode.language.ngram import BOUNDARY
from dualmode.language.spelling import Pieces, Spelling
from dualmode.text import UNKNOWN_ID

Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

BYTES_PER_NGRAM = 12  # an arc and its share of a node, rounded up


class Order(NamedTuple):
    """The n-grams of one order, sorted.

    Attributes:
        keys: (A,) the tokens of each n-gram as the digits of a number, oldest first.
        log_prob: (A,) log-probability, in nats, of the last token after the others.
        backoff: (A,) back-off weight, in nats, of this n-gram as a context.
    """

    keys: Longs
    log_prob: Doubles
    backoff: Doubles


@dataclass(frozen=True)
class Estimate:
    """Orders 1 to n of a model, to be converted to a :class:`dualmode.language.ngram.NGram`.

    Attributes:
        bits: number of bits of a token in a key.
        orders: n-grams of each order, unigrams first.
    """

    vocabulary: int
    fingerprint: str
    bits: int
    orders: tuple[Order, ...]


def estimate(
    texts: Iterable[list[int]], vocabulary: Pieces, order: int = 6, megabytes: float = 8.0
) -> Estimate:
    """Estimate a model from the tokens of texts.

    Args:
        texts: token ids of each text.
        vocabulary: the recogniser's tokens.
        order: n.
        megabytes: largest size of the file; n-grams with the least information are removed.

    Raises:
        LanguageError: there are no texts, or the order is not possible.
    """
    spelling = Spelling.of(vocabulary)
    bits = _bits(spelling.size)
    if not 1 <= order <= 62 // bits:
        raise LanguageError(
            f"an order of {order} is not possible: with {spelling.size} tokens it is 1 to "
            f"{62 // bits}"
        )
    flat, sentence = _flatten(texts)
    raw = [_counts(flat, sentence, length, spelling.size) for length in range(1, order + 1)]
    orders = _smoothed(raw, bits)
    keep = _chosen(orders, raw, bits, int(megabytes * 1e6 / BYTES_PER_NGRAM))
    return Estimate(spelling.size, spelling.fingerprint, bits, _pruned(orders, keep, bits))


def _bits(size: int) -> int:
    """Number of bits of a token in a key."""
    return max(1, (size - 1).bit_length())


def _flatten(texts: Iterable[list[int]]) -> tuple[Longs, Longs]:
    """All texts concatenated with boundaries, and the index of the text of each token."""
    rows = [np.array([BOUNDARY, *text, BOUNDARY]) for text in texts if text]
    if not rows:
        raise LanguageError("no text to estimate a language model from")
    flat = np.concatenate(rows)
    # <unk> stands for letters without tokens. Recognisers do not emit it, so nothing may follow it.
    sentence = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    known = flat != UNKNOWN_ID
    return flat[known].astype(np.int64), sentence[known]


def _counts(flat: Longs, sentence: Longs, length: int, size: int) -> tuple[Longs, Longs]:
    """Sorted keys of the n-grams of one length, and their numbers of occurrences."""
    if length == 1:
        first = np.r_[True, sentence[1:] != sentence[:-1]]
        # Every token is a unigram, even if it does not occur in the texts.
        counts = np.bincount(flat[~first], minlength=size)
        keys = np.delete(np.arange(size), UNKNOWN_ID)
        return keys, counts[keys]
    bits = _bits(size)
    windows = len(flat) - length + 1
    key = np.zeros(max(0, windows), dtype=np.int64)
    for offset in range(length):
        key = (key << bits) | flat[offset : offset + len(key)]
    inside = sentence[: len(key)] == sentence[length - 1 : length - 1 + len(key)]
    keys, counts = np.unique(key[inside], return_counts=True)
    return keys, counts


def _smoothed(raw: list[tuple[Longs, Longs]], bits: int) -> list[Order]:
    """Probabilities of all n-grams, interpolated with those of shorter contexts."""
    orders: list[Order] = []
    for number, (keys, counts) in enumerate(raw):
        adjusted = counts
        if number + 1 < len(raw):
            adjusted = _continuations(keys, counts, raw[number + 1][0], number + 1, bits)
        context, group = _grouped(keys >> bits)
        totals = np.bincount(group, adjusted)
        discount = _discounts(adjusted)[np.minimum(adjusted, 3)]
        left = np.bincount(group, discount) / totals
        if orders:
            below = orders[-1]
            lower = np.exp(below.log_prob[_find(below.keys, _suffix(keys, number, bits))])
        else:
            lower = np.full(len(keys), 1 / len(keys))
        prob = (adjusted - discount) / totals[group] + left[group] * lower
        if orders:
            at = _find(orders[-1].keys, context)
            orders[-1].backoff[at] = np.log(left)
        orders.append(Order(keys, np.log(prob), np.zeros(len(keys))))
    return orders


def _continuations(keys: Longs, counts: Longs, longer: Longs, length: int, bits: int) -> Longs:
    """Kneser-Ney counts: the number of different tokens before each n-gram.

    N-grams at the beginning of a text, which have no token before them, keep their counts.
    """
    suffix, times = np.unique(_suffix(longer, length, bits), return_counts=True)
    adjusted = np.zeros_like(counts)
    adjusted[_find(keys, suffix)] = times
    begins = (keys >> (bits * (length - 1))) == BOUNDARY
    if length > 1:
        adjusted[begins] = counts[begins]
    return adjusted


def _suffix(keys: Longs, length: int, bits: int) -> Longs:
    """Keys without their oldest token: the last ``length`` tokens."""
    return keys & ((1 << (bits * length)) - 1)


def _grouped(context: Longs) -> tuple[Longs, Longs]:
    """The distinct contexts of sorted n-grams, and the context of each n-gram."""
    new = np.r_[True, context[1:] != context[:-1]]
    return context[new], np.cumsum(new) - 1


def _find(keys: Longs, wanted: Longs) -> Longs:
    """Indices of ``wanted`` in the sorted ``keys``, which must contain all of them."""
    at = np.searchsorted(keys, wanted)
    assert (keys[np.minimum(at, len(keys) - 1)] == wanted).all()
    return at


def _discounts(counts: Longs) -> Doubles:
    """Discounts of counts of 0, 1, 2, and 3 or more (Chen and Goodman's formula)."""
    n1, n2, n3, n4 = (max(1, int((counts == number).sum())) for number in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    wanted = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    # Counts of counts of tiny corpora are unreliable, so discounts are limited.
    return np.array([0.0, *np.clip(wanted, 0.1, (0.9, 1.8, 2.7))])


def _chosen(
    orders: list[Order], raw: list[tuple[Longs, Longs]], bits: int, most: int
) -> list[npt.NDArray[np.bool_]]:
    """Select n-grams to keep: unigrams, those with the most information, and their contexts."""
    worth = [np.full(len(orders[0].keys), np.inf)]
    for number in range(1, len(orders)):
        keys = orders[number].keys
        below = orders[number - 1]
        prefix, suffix = _find(below.keys, keys >> bits), _suffix(keys, number, bits)
        without = below.backoff[prefix] + below.log_prob[_find(below.keys, suffix)]
        gain = orders[number].log_prob - without
        worth.append(raw[number][1] * np.abs(gain))
    keep = [np.ones(len(order.keys), dtype=bool) for order in orders]
    total = sum(len(order.keys) for order in orders)
    share = most
    # The contexts of selected n-grams are added, so select fewer until all of them fit.
    while total > most:
        values = np.concatenate(worth)
        least = np.partition(values, len(values) - share)[len(values) - share]
        keep = [value >= least for value in worth]
        for number in range(len(orders) - 1, 0, -1):
            kept, shorter = orders[number].keys[keep[number]], orders[number - 1].keys
            keep[number - 1][_find(shorter, kept >> bits)] = True
            keep[number - 1][_find(shorter, _suffix(kept, number, bits))] = True
        total = sum(int(kept.sum()) for kept in keep)
        share = max(len(orders[0].keys), int(share * 0.95))
        if share == len(orders[0].keys) and total > most:
            break
    return keep


def _pruned(orders: list[Order], keep: list[npt.NDArray[np.bool_]], bits: int) -> tuple[Order, ...]:
    """The kept n-grams, with back-off weights that normalise the probabilities."""
    kept = [
        Order(order.keys[chosen], order.log_prob[chosen], np.zeros(int(chosen.sum())))
        for order, chosen in zip(orders, keep, strict=True)
    ]
    for number in range(1, len(kept)):
        keys, log_prob, _ = kept[number]
        below = kept[number - 1]
        if not len(keys):
            continue
        context, group = _grouped(keys >> bits)
        lower = below.log_prob[_find(below.keys, _suffix(keys, number, bits))]
        left = 1 - np.bincount(group, np.exp(log_prob))
        lower_left = 1 - np.bincount(group, np.exp(lower))
        weight = np.maximum(left, 1e-9) / np.maximum(lower_left, 1e-9)
        below.backoff[_find(below.keys, context)] = np.log(weight)
    return tuple(kept)
