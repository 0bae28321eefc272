"""The state of a beam search: hypotheses, which can be joined and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dualmode.decoding.search import Scores
from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids

NEVER = -np.inf  # the score of a hypothesis that does not exist


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """A token and the tokens emitted before it, as a linked list that hypotheses share."""

    before: Emitted | None
    token: Token


Pasts = npt.NDArray[Any]  # of Emitted | None


class Guided(NamedTuple):
    """States and scores of P language parts for K hypotheses of B utterances.

    Attributes:
        states: (B, K, P) states of the parts.
        gained: (B, K) their scores of the hypotheses so far.
        regret: (B, K) if decoding is confined, the log-probability of the best symbols of all
            frames minus that of the hypothesis, in nats.
        speech: (B, K) if decoding is confined, the latest frame whose best symbol is a token,
            of a phrase or not; -1 before the first.
    """

    states: Ids
    gained: Scores
    regret: Scores
    speech: Ids

    @classmethod
    def start(cls, states: Ids, batch: int, width: int) -> Guided:
        """The values before the first token, with parts in ``states`` (P,)."""
        return cls(
            np.tile(states, (batch, width, 1)),
            np.zeros((batch, width)),
            np.zeros((batch, width)),
            np.full((batch, width), -1),
        )

    def of(self, rows: slice) -> Guided:
        """Copy the values of some utterances."""
        return Guided(
            self.states[rows].copy(),
            self.gained[rows].copy(),
            self.regret[rows].copy(),
            self.speech[rows].copy(),
        )

    def reordered(self, origin: Ids) -> Guided:
        """Copy the values of the hypotheses ``origin`` (B, K)."""
        return Guided(
            pick(self.states, origin),
            pick(self.gained, origin),
            pick(self.regret, origin),
            pick(self.speech, origin),
        )


@dataclass(frozen=True)
class BeamState:
    """K hypotheses for each of B utterances, best first. A search never modifies a state.

    Attributes:
        scores: (B, K) log-probabilities; -inf for hypotheses that do not exist.
        context: (B, K, context_tokens) last tokens.
        keys: (B, K, 2) int64 hashes of the tokens, and of all tokens but the last.
        frames: (B,) number of frames decoded so far.
        past: (B, K) the last :class:`Emitted` of each hypothesis, or None.
        guided: states of the language parts, if any.
    """

    scores: Scores
    context: Ids
    keys: Ids
    frames: Ids
    past: Pasts
    guided: Guided | None = None


def concatenated(states: Sequence[BeamState]) -> BeamState:
    """Concatenate the utterances of several states."""
    guided = [state.guided for state in states if state.guided is not None]
    return BeamState(
        np.concatenate([state.scores for state in states]),
        np.concatenate([state.context for state in states]),
        np.concatenate([state.keys for state in states]),
        np.concatenate([state.frames for state in states]),
        np.concatenate([state.past for state in states]),
        Guided(*(np.concatenate(arrays) for arrays in zip(*guided, strict=True)))
        if guided
        else None,
    )


def one_of(state: BeamState, row: int) -> BeamState:
    """Copy the state of one utterance."""
    here = slice(row, row + 1)
    return BeamState(
        state.scores[here].copy(),
        state.context[here].copy(),
        state.keys[here].copy(),
        state.frames[here].copy(),
        state.past[here].copy(),
        state.guided and state.guided.of(here),
    )


def in_order(state: BeamState) -> BeamState:
    """Sort the hypotheses, best first."""
    order = np.argsort(-state.scores, axis=1, kind="stable")
    if (order[:, 1:] > order[:, :-1]).all():
        return state
    guided = state.guided
    return replace(
        state,
        scores=pick(state.scores, order),
        context=pick(state.context, order),
        keys=pick(state.keys, order),
        past=pick(state.past, order),
        guided=guided and guided.reordered(order),
    )


def pick(values: npt.NDArray[Any], origin: Ids) -> npt.NDArray[Any]:
    """Select values (B, K, ...) of the hypotheses ``origin`` (B, K)."""
    picked: npt.NDArray[Any] = values[np.arange(len(values))[:, None], origin]
    return picked


class Trail:
    """Tokens emitted while frames are decoded, as a tree in arrays.

    Nodes are numbers. The first ones are the pasts of the initial hypotheses.
    """

    def __init__(self, pasts: Pasts) -> None:
        self._roots: list[Emitted | None] = pasts.ravel().tolist()
        self._count = len(self._roots)
        self._grown: list[tuple[Ids, Ids, Ids, Floats]] = []

    def grow(self, before: Ids, symbols: Ids, frames: Ids, log_probs: Floats) -> Ids:
        """Add tokens after the nodes ``before`` (N,); returns the new nodes (N,)."""
        self._grown.append((before, symbols, frames, log_probs))
        nodes = np.arange(self._count, self._count + len(before))
        self._count += len(before)
        return nodes

    def pasts(self, nodes: Ids) -> Pasts:
        """Convert ``nodes`` (...) to linked tokens, independent of the tree."""
        made = dict(enumerate(self._roots))
        columns = [np.concatenate(column).tolist() for column in zip(*self._grown, strict=True)]
        before, symbols, frames, log_probs = columns or [[], [], [], []]
        first = len(self._roots)
        for node in nodes.ravel().tolist():
            waiting = []
            while node not in made:
                waiting.append(node)
                node = before[node - first]
            past = made[node]
            for each in reversed(waiting):
                at = each - first
                past = Emitted(past, Token(symbols[at], frames[at], log_probs[at]))
                made[each] = past
        found = np.full(nodes.size, None, dtype=object)
        for place, node in enumerate(nodes.ravel().tolist()):
            found[place] = made[node]
        return found.reshape(nodes.shape)


def emitted_tokens(past: Emitted | None) -> tuple[Token, ...]:
    """All tokens of a hypothesis, oldest first."""
    tokens = []
    while past is not None:
        tokens.append(past.token)
        past = past.before
    return tuple(reversed(tokens))


def shared_beginning(hypotheses: list[tuple[Token, ...]]) -> int:
    """Number of leading tokens that all hypotheses share."""
    shared = 0
    for column in zip(*([token.id for token in tokens] for tokens in hypotheses), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared
