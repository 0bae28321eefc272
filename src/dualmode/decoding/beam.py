"""Modified beam search, batched over utterances and beams, for whole utterances and for streams.

A frame emits at most one symbol (Kang et al., "Fast and parallel decoding for transducer",
arXiv 2211.00484). The probability of a token sequence is the sum over its alignments: before the
best hypotheses are selected, those with the same tokens are merged by log-add.

Knowledge of the text is added by a :class:`~dualmode.language.knowledge.Fusion`, which scores every
next token. The score depends only on earlier tokens, so it does not affect the sum over alignments,
and it is looked up together with the predictor's output; see :mod:`dualmode.decoding.histories`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dualmode.decoding.beam_run import BeamRun
from dualmode.decoding.beam_state import (
    NEVER,
    BeamState,
    Emitted,
    Guided,
    concatenated,
    emitted_tokens,
    in_order,
    one_of,
    pick,
    shared_beginning,
)
from dualmode.decoding.histories import Histories
from dualmode.decoding.outcome import Hypothesis, Outcome
from dualmode.decoding.search import Scores
from dualmode.decoding.transcript import Token
from dualmode.language.knowledge import Fusion
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK


@dataclass(frozen=True)
class BeamSearch:
    """Keeps the ``width`` most probable token sequences, with one symbol per frame.

    ``blank_penalty`` is subtracted from the logit of blank when hypotheses are compared;
    confidences are computed without it. ``fusion`` is the knowledge of the text.

    Hypotheses that are ``gap`` nats less probable than the best are dropped at every frame. During
    silence only blank is within the gap, and several frames are decoded by one sum.

    A search caches results for token histories, which does not affect transcripts. It may be used
    by several threads.
    """

    scorer: Scorer
    width: int = 4
    blank_penalty: float = 0.0
    fusion: Fusion | None = None
    gap: float = 10.0
    _known: list[Histories] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")

    def start(self, batch: int) -> BeamState:
        """The state before the first frame of ``batch`` utterances."""
        shape = (batch, self.width)
        scores = np.full(shape, NEVER)
        scores[:, 0] = 0.0
        return BeamState(
            scores,
            np.full((*shape, self.scorer.context_tokens), BLANK, dtype=np.int64),
            np.zeros((*shape, 2), dtype=np.int64),
            np.zeros(batch, dtype=np.int64),
            np.full(shape, None, dtype=object),
            Guided.start(self.fusion.start(), batch, self.width) if self.fusion else None,
        )

    @property
    def confined(self) -> bool:
        """Whether decoding is confined to phrases."""
        return self.fusion is not None and self.fusion.confined

    def advance(self, state: BeamState, frames: Floats, lengths: Ids) -> BeamState:
        """Decode frames (B, T, J) with ``lengths`` (B,); ``state`` is not modified."""
        run = BeamRun(
            self.scorer,
            self._histories(),
            state,
            frames,
            lengths,
            blank_penalty=self.blank_penalty,
            # With few possible tokens, a phrase with an improbable beginning has no competitors.
            gap=2 * self.gap if self.confined else self.gap,
            confined=self.confined,
        )
        return run.decode()

    def _histories(self) -> Histories:
        """The table of histories, which is replaced when it has grown too large."""
        known = self._known[-1] if self._known else None
        if known is None or known.full:
            known = Histories(self.scorer, self.fusion)
            self._known[:] = [known]
        return known

    def best(self, state: BeamState) -> list[tuple[Token, ...]]:
        """The most probable tokens of each utterance so far."""
        return [
            emitted_tokens(past) if score > NEVER else ()
            for past, score in zip(state.past[:, 0], state.scores[:, 0], strict=True)
        ]

    def last_frames(self, state: BeamState) -> list[int | None]:
        """The frame of the latest token of the best hypothesis, or of a token in no phrase."""
        tokens = [past.token.frame if past else -1 for past in state.past[:, 0]]
        speech = state.guided.speech[:, 0].tolist() if state.guided else tokens
        latest = [max(pair) for pair in zip(tokens, speech, strict=True)]
        return [frame if frame >= 0 else None for frame in latest]

    def stable(self, state: BeamState) -> list[int]:
        """Number of leading tokens of :meth:`best` that all hypotheses share."""
        return [
            shared_beginning([emitted_tokens(past) for past in pasts[scores > NEVER]])
            for pasts, scores in zip(state.past, state.scores, strict=True)
        ]

    def finish(self, state: BeamState) -> BeamState:
        """Add the scores of ending the text; with phrases, keep complete ones above the
        threshold."""
        if self.fusion is None or state.guided is None:
            return state
        states = state.guided.states
        final = self.fusion.final(states.reshape(-1, states.shape[2])).reshape(state.scores.shape)
        guided = state.guided._replace(gained=state.guided.gained + final)
        state = in_order(replace(state, scores=state.scores + final, guided=guided))
        if not self.confined:
            return state
        below = self._margins(state) < self.fusion.threshold
        return replace(state, scores=np.where(below[:, None], NEVER, state.scores))

    def outcomes(self, state: BeamState, count: int = 1) -> list[Outcome]:
        """The ``count`` best hypotheses of each utterance of a finished state."""
        gained = state.guided.gained if state.guided else np.zeros_like(state.scores)
        margins = self._margins(state) if self.confined else np.zeros(len(state.scores))
        found = []
        for row, scores in enumerate(state.scores):
            hypotheses = tuple(
                Hypothesis(emitted_tokens(past), float(score), float(score - added))
                for past, score, added in zip(
                    state.past[row, :count], scores[:count], gained[row], strict=False
                )
                if score > NEVER
            )
            speech = state.guided is not None and bool(state.guided.speech[row].max() >= 0)
            margin = float(margins[row]) if self.confined else None
            rejected = self.confined and speech and not hypotheses
            found.append(Outcome(hypotheses, margin, rejected))
        return found

    def _margins(self, state: BeamState) -> Scores:
        """Margins (B,) of the best hypotheses: their negative regret divided by their number of
        tokens; -inf if no hypothesis is complete."""
        assert state.guided is not None
        assert self.fusion is not None
        final = self.fusion.accepts(state.guided.states[:, 0])
        lengths = np.array([max(1, len(emitted_tokens(past))) for past in state.past[:, 0]])
        margins: Scores = np.where(final, -state.guided.regret[:, 0] / lengths, NEVER)
        return margins

    def commit(self, state: BeamState, tokens: int, restart: bool = False) -> BeamState:
        """Keep only the best hypothesis of a single stream; see :class:`Search`."""
        past: Emitted | None = None
        for token in self.best(state)[0][tokens:]:
            past = Emitted(past, token)
        # Copies of the best hypothesis; all but the first have the score -inf.
        first = np.zeros((1, self.width), dtype=np.int64)
        scores = np.full((1, self.width), NEVER)
        scores[0, 0] = 0.0
        pasts = np.full((1, self.width), None, dtype=object)
        pasts[0, 0] = past
        context, keys, guided = pick(state.context, first), pick(state.keys, first), state.guided
        if self.fusion is not None and guided is not None:
            fresh = restart or self.confined
            begin = Guided.start(self.fusion.start(), 1, self.width)
            guided = begin if fresh else guided.reordered(first)
        return BeamState(scores, context, keys, state.frames, pasts, guided)

    def join(self, states: Sequence[BeamState]) -> BeamState:
        """One state of all utterances; see :class:`Search`."""
        if len(states) == 1:
            return states[0]
        return concatenated(states)

    def split(self, state: BeamState) -> list[BeamState]:
        """The state of each utterance; see :class:`Search`."""
        return [one_of(state, row) for row in range(len(state.frames))]
