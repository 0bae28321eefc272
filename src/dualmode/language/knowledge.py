"""The interface between beam search and language parts, and the combination of several parts."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

NEVER = np.float32(-np.inf)
_ROWS_KEPT = 2048  # cached expansions of states, V x 12 bytes each


class Expansion(NamedTuple):
    """The result of appending every token to N histories.

    Attributes:
        states: (N, V) the state after each token.
        scores: (N, V) score of each token, in nats; -inf forbids it. Column 0, blank, is 0, as it
            appends no token.
    """

    states: Integers
    scores: Floats


class Knowledge(Protocol):
    """Scores token histories. The state of a history is one integer."""

    @property
    def start(self) -> int:
        """The state of the empty history."""
        ...

    def expand(self, states: Integers) -> Expansion:
        """Append every token to the histories of ``states`` (N,)."""
        ...

    def final(self, states: Integers) -> Floats:
        """Scores (N,) of ending; -inf for histories that must not end."""
        ...


class FusedExpansion(NamedTuple):
    """An :class:`Expansion` of P parts: states (N, V, P), scores (N, V)."""

    states: Integers
    scores: Floats


@dataclass(frozen=True)
class Fusion:
    """Combines several parts by adding their weighted scores.

    The state of a history is P integers, one per part.

    Args:
        parts: the parts.
        weights: weight of the scores of each part.
        token_bonus: score added for every token, to balance the scores of a language model.
        prior_weight: weight of the transducer's internal language model, which is subtracted.
        confined: whether the first part accepts only certain texts.
        threshold: if confined, the least margin of an accepted text, in nats per token.
    """

    parts: tuple[Knowledge, ...]
    weights: tuple[float, ...]
    token_bonus: float = 0.0
    prior_weight: float = 0.0
    confined: bool = False
    threshold: float = -np.inf
    _rows: OrderedDict[tuple[int, int], tuple[Integers, Floats]] = field(
        default_factory=OrderedDict, repr=False, compare=False
    )

    def same(self, other: Fusion) -> bool:
        """Whether the other fusion has identical parts and the same settings."""
        parts = [id(part) for part in self.parts] == [id(part) for part in other.parts]
        return parts and replace(self, parts=()) == replace(other, parts=())

    def start(self) -> Integers:
        """(P,) the state of the empty history."""
        return np.array([part.start for part in self.parts], dtype=np.int64)

    def expand(self, states: Integers) -> FusedExpansion:
        """Append every token to the histories of ``states`` (N, P)."""
        found = [self._expand_part(column, states[:, column]) for column in range(len(self.parts))]
        total = np.zeros(found[0][1].shape, dtype=np.float32)
        for weight, (_, scores) in zip(self.weights, found, strict=True):
            if weight:  # 0 times -inf is not a number
                total += np.float32(weight) * scores
        total[:, 1:] += np.float32(self.token_bonus)
        return FusedExpansion(np.stack([after for after, _ in found], axis=2), total)

    def final(self, states: Integers) -> Floats:
        """Scores (N,) of ending in ``states`` (N, P)."""
        total = np.zeros(len(states), dtype=np.float32)
        for column, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            if weight:
                total += weight * part.final(states[:, column])
        return total

    def accepts(self, states: Integers) -> npt.NDArray[np.bool_]:
        """Whether (...) the first part allows a text to end in ``states`` (..., P)."""
        first = states[..., 0]
        accepted = self.parts[0].final(first.ravel()) > NEVER
        return accepted.reshape(first.shape)

    def _expand_part(self, column: int, states: Integers) -> tuple[Integers, Floats]:
        """Expansions by one part, with a cache of recent states."""
        rows = self._rows
        keys = [(column, state) for state in states.tolist()]
        found = {key: row for key in keys if (row := rows.get(key)) is not None}
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:
            asked = np.array([state for _, state in missing], dtype=np.int64)
            expansion = self.parts[column].expand(asked)
            for at, key in enumerate(missing):
                found[key] = rows[key] = (expansion.states[at], expansion.scores[at])
            while len(rows) > _ROWS_KEPT:
                rows.popitem(last=False)
        return (
            np.stack([found[key][0] for key in keys]),
            np.stack([found[key][1] for key in keys]),
        )
