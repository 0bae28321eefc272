"""The arithmetic of one frame of a beam search: merging and selecting hypotheses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualmode.decoding.beam_state import NEVER
from dualmode.decoding.search import Scores
from dualmode.runtime import Ids
from dualmode.text import BLANK

Flags = npt.NDArray[np.bool_]

_FEW = 16  # up to this number, repeated argmax is faster than argpartition


def merge(candidates: Scores, floor: Scores, last: Ids, keys: Ids, before: Ids) -> None:
    """Merge "g extended by v" and "h and blank" if both have the same tokens.

    There is at most one such g for each h, because hypotheses are distinct. Candidates (N, V) are
    modified in place: the more probable one gets the sum of both probabilities, the other zero.

    Args:
        candidates: (N, V) scores.
        floor: (N,) candidates below it are ignored.
        last: (N,) the last token of each hypothesis.
        keys, before: (B, K) hashes of its tokens with and without the last one; unique if the
            hypothesis or the token does not exist.
    """
    pairs = (before[:, :, None] == keys[:, None, :]).ravel().nonzero()[0]
    if not len(pairs):
        return
    width, flat = keys.shape[1], candidates.ravel()
    h, place = np.divmod(pairs, width)
    g = h // width * width + place
    stay = h * candidates.shape[1] + BLANK
    grow = g * candidates.shape[1] + last[h]
    stayed, grown, lowest = flat[stay], flat[grow], floor[h]
    stayed[stayed < lowest] = NEVER
    grown[grown < lowest] = NEVER
    stronger = grown > stayed
    flat[np.where(stronger, stay, grow)] = NEVER
    flat[np.where(stronger, grow, stay)] = np.logaddexp(stayed, grown)


def largest(values: Scores, count: int) -> tuple[Ids, Scores]:
    """The largest of values (B, X), in descending order: indices (B, count) into the flat array,
    and the values. Ties are sorted by column, but which ties are omitted is only defined for small
    counts. ``values`` may be overwritten."""
    begin = np.arange(0, values.size, values.shape[1])
    if count > _FEW:
        columns = _sorted(values, count)
        return columns + begin[:, None], np.take_along_axis(values, columns, axis=1)
    flat = values.reshape(-1)
    indices = np.empty((count, len(values)), dtype=np.int64)
    found = np.empty((count, len(values)))
    for place in range(count):
        at = values.argmax(axis=1) + begin
        indices[place], found[place] = at, flat[at]
        if place + 1 < count:
            flat[at] = NEVER
    return indices.T, found.T


def _sorted(values: Scores, count: int) -> Ids:
    split = values.shape[1] - count
    chosen = np.sort(np.argpartition(values, split, axis=1)[:, split:], axis=1)
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1, kind="stable")
    columns: Ids = np.take_along_axis(chosen, order, axis=1)
    return columns


def keep_complete(values: Scores, complete: Flags, rows: Ids, indices: Ids, found: Scores) -> None:
    """If no selected candidate may end, replace the last one by the best candidate that may, so
    that incomplete phrases do not displace the complete one.

    Args:
        values: (B, K V) scores of candidates.
        complete: (R, V) whether a text may end after each token, for rows of histories.
        rows: (B K,) the history of each hypothesis.
        indices, found: as :func:`largest` returns them; they are changed in place.
    """
    origin, token = np.divmod(indices, complete.shape[1])
    ends = complete[rows[origin], token] & (found > NEVER)
    lacking = np.flatnonzero(~ends.any(axis=1))
    if not len(lacking):
        return
    mine = complete[rows.reshape(len(values), -1)[lacking]].reshape(len(lacking), -1)
    ending = np.where(mine, values[lacking], NEVER)
    best = ending.argmax(axis=1)
    score = ending[np.arange(len(lacking)), best]
    there = score > NEVER
    indices[lacking[there], -1] = (lacking * values.shape[1] + best)[there]
    found[lacking[there], -1] = score[there]
