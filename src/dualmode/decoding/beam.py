"""Modified beam search, batched over utterances and beams, for whole utterances and for streams.

A frame emits at most one symbol (Kang et al., "Fast and parallel decoding for transducer",
arXiv 2211.00484). The probability of a token sequence is the sum over the frames that may have
emitted its tokens: before the best are chosen, a hypothesis that was extended joins one that
already holds the same tokens, by log-add.

What is known of the language joins here: a :class:`~dualmode.language.knowledge.Fusion` adds a
score to every token. It depends on the tokens before it alone, so the sum over frames stays what
it is, and it is looked up once for a hypothesis: when its last token was emitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dualmode.decoding.beam_state import (
    NEVER,
    BeamState,
    Emitted,
    concatenated,
    emitted_tokens,
    one_of,
    pick,
    shared_beginning,
)
from dualmode.decoding.beam_step import Flags, in_order, keep_complete, largest, merge
from dualmode.decoding.greedy import BLOCK_FRAMES
from dualmode.decoding.guide import Guide
from dualmode.decoding.outcome import Hypothesis, Outcome
from dualmode.decoding.search import Scores, penalized
from dualmode.decoding.transcript import Token
from dualmode.language.knowledge import Fusion
from dualmode.runtime import Floats, Ids, Scorer
from dualmode.text import BLANK

_HASH_FACTOR = np.int64(6364136223846793005)  # Knuth's MMIX multiplier; int64 wraps around


@dataclass(frozen=True)
class BeamSearch:
    """Keep the ``width`` most probable token sequences, one symbol a frame.

    ``blank_penalty`` is subtracted from blank's logit when hypotheses are compared; the
    confidences of tokens are taken without it. ``fusion`` is what is known of the language.

    Hypotheses that are ``gap`` nats less probable than the best are dropped at every frame. Most
    frames are then quiet: nothing but blank is within the gap, and whole rows of them are decoded
    by one sum. Frames are scored in blocks under the same predictions, as greedy search does.
    """

    scorer: Scorer
    width: int = 4
    blank_penalty: float = 0.0
    fusion: Fusion | None = None
    gap: float = 10.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")

    def start(self, batch: int) -> BeamState:
        """The state before the first frame of ``batch`` utterances."""
        shape = (batch, self.width)
        scores = np.full(shape, NEVER)
        scores[:, 0] = 0.0
        context = np.full((*shape, self.scorer.context_tokens), BLANK, dtype=np.int64)
        predictions = self.scorer.predict(context.reshape(batch * self.width, -1))
        predictions = predictions.reshape(*shape, -1)
        return BeamState(
            scores,
            context,
            predictions,
            np.zeros((*shape, 2), dtype=np.int64),
            np.zeros(batch, dtype=np.int64),
            np.full(shape, None, dtype=object),
            self._guide.start(predictions) if self._guide else None,
        )

    @property
    def confined(self) -> bool:
        """Whether an utterance or segment is one of some phrases."""
        return self.fusion is not None and self.fusion.confined

    @cached_property
    def _guide(self) -> Guide | None:
        return Guide(self.fusion, self.scorer) if self.fusion else None

    def advance(self, state: BeamState, frames: Floats, lengths: Ids) -> BeamState:
        """Decode frames (B, T, J), of which ``lengths`` (B,) are real; ``state`` is kept as is."""
        frame_of, start = state.frames, np.zeros_like(lengths)
        while (start < lengths).any():
            state, start = self._block(state, frames, start, lengths)
        return replace(in_order(state), frames=frame_of + lengths)

    def best(self, state: BeamState) -> list[tuple[Token, ...]]:
        """The most probable tokens so far, utterance by utterance."""
        return [
            emitted_tokens(past) if score > NEVER else ()
            for past, score in zip(state.past[:, 0], state.scores[:, 0], strict=True)
        ]

    def last_frames(self, state: BeamState) -> list[int | None]:
        """The frame of the latest token of the best hypothesis, or of one that no phrase has."""
        tokens = [past.token.frame if past else -1 for past in state.past[:, 0]]
        heard = state.guided.heard[:, 0].tolist() if state.guided else tokens
        latest = [max(pair) for pair in zip(tokens, heard, strict=True)]
        return [frame if frame >= 0 else None for frame in latest]

    def stable(self, state: BeamState) -> list[int]:
        """How many tokens of :meth:`best` all hypotheses share."""
        return [
            shared_beginning([emitted_tokens(past) for past in pasts[scores > NEVER]])
            for pasts, scores in zip(state.past, state.scores, strict=True)
        ]

    def finish(self, state: BeamState) -> BeamState:
        """Add what the end of a text costs; with phrases, keep those that were said to the end,
        and none if they fit too badly."""
        if self._guide is None or state.guided is None:
            return state
        scores, guided = self._guide.finish(state.scores, state.guided)
        state = in_order(replace(state, scores=scores, guided=guided))
        if not self.confined or self.fusion is None:
            return state
        below = self._margins(state) < self.fusion.threshold
        return replace(state, scores=np.where(below[:, None], NEVER, state.scores))

    def outcomes(self, state: BeamState, count: int = 1) -> list[Outcome]:
        """The ``count`` best hypotheses of a finished state, utterance by utterance."""
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
            heard = state.guided is not None and bool(state.guided.heard[row].max() >= 0)
            margin = float(margins[row]) if self.confined else None
            rejected = self.confined and heard and not hypotheses
            found.append(Outcome(hypotheses, margin, rejected))
        return found

    def _margins(self, state: BeamState) -> Scores:
        """(B,) what the best hypothesis lost at each of its tokens, on the mean, as a negative
        number; -inf where no hypothesis is complete."""
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
        # Copies of the best: only the first is alive, the others wait at -inf.
        first = np.zeros((1, self.width), dtype=np.int64)
        scores = np.full((1, self.width), NEVER)
        scores[0, 0] = 0.0
        pasts = np.full((1, self.width), None, dtype=object)
        pasts[0, 0] = past
        context, predictions = pick(state.context, first), pick(state.predictions, first)
        guided = state.guided
        if self._guide is not None and guided is not None:
            fresh = restart or self.confined
            guided = self._guide.start(predictions) if fresh else guided.reordered(first)
        keys = pick(state.keys, first)
        return BeamState(scores, context, predictions, keys, state.frames, pasts, guided)

    def join(self, states: Sequence[BeamState]) -> BeamState:
        """One state of all utterances; see :class:`Search`."""
        if len(states) == 1:
            return states[0]
        return concatenated(states)

    def split(self, state: BeamState) -> list[BeamState]:
        """The state of each utterance; see :class:`Search`."""
        return [one_of(state, row) for row in range(len(state.frames))]

    def _block(
        self, state: BeamState, frames: Floats, start: Ids, lengths: Ids
    ) -> tuple[BeamState, Ids]:
        """Decode the quiet frames from ``start`` (B,) on, at most a block, and one that is not.

        Returns:
            the state, and where each utterance stands.
        """
        batch, width = state.scores.shape
        rows, ahead = np.arange(batch), np.arange(BLOCK_FRAMES)
        at = np.minimum(start[:, None] + ahead, frames.shape[1] - 1)
        block = np.repeat(frames[rows[:, None], at][:, None], width, axis=1)
        given = np.repeat(state.predictions[:, :, None], BLOCK_FRAMES, axis=2)
        size = frames.shape[2]
        log_probs = self.scorer.score(block.reshape(-1, size), given.reshape(-1, size))
        log_probs = log_probs.reshape(batch, width, BLOCK_FRAMES, -1)
        heard = compared = penalized(log_probs, self.blank_penalty)
        if state.guided is not None:
            compared = heard + state.guided.added[:, :, None]
        left = np.minimum(lengths - start, BLOCK_FRAMES)
        stay = state.scores[..., None] + np.cumsum(compared[..., BLANK], axis=2)
        quiet = self._quiet(state, stay, compared) & (ahead < left[:, None])
        run = np.logical_and.accumulate(quiet, axis=1).sum(axis=1)
        after = np.where((run > 0)[:, None], stay[rows, :, np.maximum(run, 1) - 1], state.scores)
        guided = state.guided
        if guided is not None and self.confined:
            guided = guided.waited(heard, run, state.frames)
        state = replace(state, scores=after, frames=state.frames + run, guided=guided)
        busy = run < left
        if busy.any():
            now = np.minimum(run, BLOCK_FRAMES - 1)
            at_now = (log_probs[rows, :, now], heard[rows, :, now], compared[rows, :, now])
            state = self._frame(state, *at_now, busy)
        return state, start + run + busy

    def _quiet(self, state: BeamState, stay: Scores, compared: Scores) -> Flags:
        """(B, F) whether blank alone is within the gap, for every hypothesis that there is.

        Args:
            stay: (B, K, F) scores if that frame and those before it are blank.
            compared: (B, K, F, V) log-probabilities.
        """
        best = stay.max(axis=1)
        before = stay - compared[..., BLANK]
        grown = before + compared[..., BLANK + 1 :].max(axis=3)
        alive = (state.scores > NEVER)[..., None]
        floor = (best - self._gap)[:, None]
        kept = stay >= floor
        if self.confined and state.guided is not None:
            kept |= state.guided.complete[:, :, BLANK, None]
        quiet: Flags = (kept & (grown < floor) | ~alive).all(axis=1)
        return quiet

    @property
    def _gap(self) -> float:
        # Where few tokens may follow, a phrase that begins weakly has no rival in the list.
        return 2 * self.gap if self.confined else self.gap

    def _frame(
        self, state: BeamState, log_probs: Floats, heard: Scores, compared: Scores, alive: Flags
    ) -> BeamState:
        """Decode one frame of the utterances that are ``alive`` (B,).

        Args:
            log_probs, heard: (B, K, V) of the frame, without and with the penalty of blanks.
            compared: (B, K, V) what hypotheses are compared by.
        """
        scores, origin, token = self._choose(state, compared, alive[:, None])
        rows = np.arange(len(alive))[:, None]
        past = state.past[rows, origin]
        for row, column in zip(*np.nonzero(token != BLANK), strict=True):
            symbol = int(token[row, column])
            log_prob = float(log_probs[row, origin[row, column], symbol])
            emitted = Token(symbol, int(state.frames[row]), log_prob)
            past[row, column] = Emitted(past[row, column], emitted)
        context, predictions, keys = self._extend(state, origin, token)
        guided = state.guided
        if self._guide is not None and guided is not None:
            guided = self._guide.extend(guided, predictions, origin, token)
            if self.confined:
                guided = guided.chose(heard, origin, token, state.frames, alive)
        return replace(
            state,
            scores=scores,
            context=context,
            predictions=predictions,
            keys=keys,
            past=past,
            guided=guided,
            frames=state.frames + alive,
        )

    def _choose(self, state: BeamState, log_probs: Scores, alive: Flags) -> tuple[Scores, Ids, Ids]:
        """Extend hypotheses by a frame and keep the best.

        Args:
            log_probs: (B, K, V) of the frame, what the language adds included.
            alive: (B, 1) whether the utterance has this frame.
        Returns:
            (B, K) new scores, which hypothesis each extends, and by what.
        """
        last = state.context[..., -1]
        candidates = state.scores[..., None] + log_probs
        floor = candidates.max(axis=(1, 2), keepdims=True) - self._gap
        low = candidates < floor
        if self.confined and state.guided is not None:
            low[..., BLANK] &= ~state.guided.complete[..., BLANK]  # an answer, whatever follows
        candidates[low] = NEVER
        joined = merge(candidates, state.scores, last, state.keys)
        flat = candidates.reshape(len(candidates), -1)
        index = largest(flat, self.width)
        if self.confined and state.guided is not None and self.width > 1:
            keep_complete(flat, state.guided.complete.reshape(flat.shape), index)
        origin, token = np.divmod(index, log_probs.shape[2])
        rows = np.arange(len(flat))[:, None]
        # A merged hypothesis keeps the history of whichever of the two was more probable.
        source = joined[rows, origin]
        merged = (token == BLANK) & (source >= 0)
        token = np.where(merged, last[rows, origin], token)
        origin = np.where(merged, source, origin)
        top = np.where(alive, flat[rows, index], state.scores)
        return (
            top,
            np.where(alive, origin, np.arange(self.width)),
            np.where(alive & (top > NEVER), token, BLANK),
        )

    def _extend(self, state: BeamState, origin: Ids, token: Ids) -> tuple[Ids, Floats, Ids]:
        context, predictions = pick(state.context, origin), pick(state.predictions, origin)
        keys = pick(state.keys, origin)
        grown = token != BLANK
        if grown.any():
            symbols, earlier = token[grown], keys[grown][:, 0]
            context[grown] = np.concatenate([context[grown][:, 1:], symbols[:, None]], axis=1)
            predictions[grown] = self.scorer.predict(context[grown])
            keys[grown] = np.stack([earlier * _HASH_FACTOR + symbols + 1, earlier], axis=1)
        return context, predictions, keys
