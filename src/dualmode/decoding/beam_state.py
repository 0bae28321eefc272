"""The hypotheses of a beam search: a value that can be joined, split and looked into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.decoding.guide import Guided
from dualmode.decoding.search import Scores
from dualmode.decoding.transcript import Token
from dualmode.runtime import Floats, Ids

NEVER = -np.inf  # the score of a hypothesis that there is not


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """A token, and what the hypothesis had emitted before it. Hypotheses share their past."""

    before: Emitted | None
    token: Token


Pasts = npt.NDArray[Any]  # of Emitted | None


@dataclass(frozen=True)
class BeamState:
    """K hypotheses for each of B utterances, best first. A search never writes into a state.

    Attributes:
        scores: (B, K) log-probabilities; -inf where there is no hypothesis (yet).
        context: (B, K, context_tokens) last tokens.
        predictions: (B, K, J) the predictor's output for them.
        keys: (B, K, 2) int64 hashes of the tokens, and of all tokens but the last.
        frames: (B,) frames decoded so far.
        past: (B, K) the last :class:`Emitted` of each, or None.
        guided: what the language adds, if anything is known of it.
    """

    scores: Scores
    context: Ids
    predictions: Floats
    keys: Ids
    frames: Ids
    past: Pasts
    guided: Guided | None = None


def concatenated(states: Sequence[BeamState]) -> BeamState:
    """One state of all utterances of several states."""
    guided = [state.guided for state in states if state.guided is not None]
    return BeamState(
        np.concatenate([state.scores for state in states]),
        np.concatenate([state.context for state in states]),
        np.concatenate([state.predictions for state in states]),
        np.concatenate([state.keys for state in states]),
        np.concatenate([state.frames for state in states]),
        np.concatenate([state.past for state in states]),
        Guided(*(np.concatenate(arrays) for arrays in zip(*guided, strict=True)))
        if guided
        else None,
    )


def one_of(state: BeamState, row: int) -> BeamState:
    """The state of one utterance alone; it keeps no memory of the others alive."""
    here = slice(row, row + 1)
    return BeamState(
        state.scores[here].copy(),
        state.context[here].copy(),
        state.predictions[here].copy(),
        state.keys[here].copy(),
        state.frames[here].copy(),
        state.past[here].copy(),
        state.guided and state.guided.of(here),
    )


def pick(values: npt.NDArray[Any], origin: Ids) -> npt.NDArray[Any]:
    """Values (B, K, D) of the hypotheses ``origin`` (B, K)."""
    picked: npt.NDArray[Any] = values[np.arange(len(values))[:, None], origin]
    return picked


def emitted_tokens(past: Emitted | None) -> tuple[Token, ...]:
    """All tokens of a hypothesis, oldest first."""
    tokens = []
    while past is not None:
        tokens.append(past.token)
        past = past.before
    return tuple(reversed(tokens))


def shared_beginning(hypotheses: list[tuple[Token, ...]]) -> int:
    """How many tokens all hypotheses begin with."""
    shared = 0
    for column in zip(*([token.id for token in tokens] for tokens in hypotheses), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared
