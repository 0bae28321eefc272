"""The arithmetic of one frame of a beam: joining and choosing hypotheses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualmode.decoding.beam_state import NEVER
from dualmode.decoding.search import Scores
from dualmode.runtime import Ids
from dualmode.text import BLANK

Flags = npt.NDArray[np.bool_]

_FEW = 16  # up to so many are found one by one: a pass of argmax costs a tenth of argpartition


def merge(candidates: Scores, floor: Scores, last: Ids, keys: Ids, before: Ids) -> None:
    """Join "g extended by v" and "h and blank" where both hold the same tokens.

    There is at most one such g for an h, as hypotheses differ from each other. Candidates
    (N, V) are changed in place: the more probable of the two gets the joined probability, and
    the other none.

    Args:
        floor: (N,) candidates below it count as none.
        last: (N,) the last token of each hypothesis.
        keys, before: (B, K) hashes of its tokens with and without that, which are equal to no
            other where there is none.
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
    """Where the largest of values (B, X) are, largest first, as indices (B, count) into the flat
    array, and those values. Ties are in order of their columns; which ties are left out is only
    determined for few. Values may be overwritten where they were."""
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


def keep_complete(values: Scores, complete: Flags, indices: Ids, found: Scores) -> None:
    """Put the best candidate that may end in the last place of what :func:`largest` found where no
    candidate of it may: phrases that go on must not crowd out the one that was said."""
    ends = complete.ravel()[indices] & (found > NEVER)
    lacking = np.flatnonzero(~ends.any(axis=1))
    if not len(lacking):
        return
    ending = np.where(complete[lacking], values[lacking], NEVER)
    best = ending.argmax(axis=1)
    score = ending[np.arange(len(lacking)), best]
    there = score > NEVER
    indices[lacking[there], -1] = (lacking * values.shape[1] + best)[there]
    found[lacking[there], -1] = score[there]
