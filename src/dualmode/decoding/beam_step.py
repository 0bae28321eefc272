"""The arithmetic of one step of a beam: joining, choosing and ordering hypotheses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dualmode.decoding.beam_state import NEVER, BeamState, pick
from dualmode.decoding.search import Scores
from dualmode.runtime import Ids
from dualmode.text import BLANK

Flags = npt.NDArray[np.bool_]


def in_order(state: BeamState) -> BeamState:
    """Best hypotheses first."""
    order = np.argsort(-state.scores, axis=1, kind="stable")
    if (order[:, 1:] > order[:, :-1]).all():
        return state
    guided = state.guided
    return replace(
        state,
        scores=np.take_along_axis(state.scores, order, axis=1),
        context=pick(state.context, order),
        predictions=pick(state.predictions, order),
        keys=pick(state.keys, order),
        past=np.take_along_axis(state.past, order, axis=1),
        guided=guided and guided.reordered(order),
    )


def merge(candidates: Scores, scores: Scores, last: Ids, keys: Ids) -> Ids:
    """Join "g extended by v" to "h and blank" where both hold the same tokens.

    There is at most one such g for an h, as hypotheses differ from each other. Candidates
    (B, K, V) are changed in place: h's blank gets the joined probability and g's v none.

    Returns:
        (B, K) which g made h's blank more probable than h itself did, or -1.
    """
    alive = scores > NEVER
    same = (keys[:, :, None, 1] == keys[:, None, :, 0]) & (last != BLANK)[:, :, None]
    same &= alive[:, :, None] & alive[:, None, :]
    joined = np.full(scores.shape, -1)
    for row, h in zip(*np.nonzero(same.any(axis=2)), strict=True):
        g = int(same[row, h].argmax())
        extended = candidates[row, g, last[row, h]]
        stayed = candidates[row, h, BLANK]
        if extended > stayed:
            joined[row, h] = g
        candidates[row, h, BLANK] = np.logaddexp(stayed, extended)
        candidates[row, g, last[row, h]] = NEVER
    return joined


def keep_complete(values: Scores, complete: Flags, index: Ids) -> None:
    """Put the best candidate that may end in the last place of ``index`` (B, K) where no candidate
    of it may: phrases that go on must not crowd out the one that was said."""
    ends = np.where(complete, values, NEVER)
    best = ends.argmax(axis=1)
    rows = np.arange(len(values))
    lacking = ~complete[rows[:, None], index].any(axis=1) & (ends[rows, best] > NEVER)
    index[lacking, -1] = best[lacking]


def largest(values: Scores, count: int) -> Ids:
    """Columns (B, count) of the largest of values (B, X), largest first; ties by column."""
    split = values.shape[1] - count
    chosen = np.sort(np.argpartition(values, split, axis=1)[:, split:], axis=1)
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1, kind="stable")
    largest: Ids = np.take_along_axis(chosen, order, axis=1)
    return largest
