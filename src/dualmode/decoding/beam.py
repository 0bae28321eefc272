"""Modified beam search, batched over utterances and beams, for whole utterances and for streams.

A frame emits at most one symbol (Kang et al., "Fast and parallel decoding for transducer",
arXiv 2211.00484). The probability of a token sequence is the sum over the frames that may have
emitted its tokens: before the best are chosen, a hypothesis that was extended joins one that
already holds the same tokens, by log-add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dualmode.decoding.scorer import BLANK, Scorer
from dualmode.decoding.transcript import Token

_HASH_FACTOR = 6364136223846793005  # Knuth's MMIX multiplier; int64 wraps around
_NEVER = float("-inf")


class History(NamedTuple):
    """What made the hypotheses: F frames of back pointers; all but ``frame`` (B, F, K).

    Attributes:
        origin: which hypothesis of the frame before was extended.
        token: what it was extended by; blank for nothing.
        log_prob: log-probability of that token there.
        frame: (B, F) number of the frame.
    """

    origin: Tensor
    token: Tensor
    log_prob: Tensor
    frame: Tensor


@dataclass(frozen=True)
class BeamState:
    """K hypotheses for each of B utterances, best first. A search never writes into a state.

    Attributes:
        scores: (B, K) log-probabilities; -inf where there is no hypothesis (yet).
        context: (B, K, context_tokens) last tokens.
        predictions: (B, K, J) what the predictor makes of them.
        keys: (B, K, 2) int64 hashes of the tokens, and of all tokens but the last.
        frames: (B,) frames decoded so far.
        history: back pointers to the tokens since ``prefix``.
        prefix: tokens that all hypotheses of an utterance begin with.
    """

    scores: Tensor
    context: Tensor
    predictions: Tensor
    keys: Tensor
    frames: Tensor
    history: History
    prefix: tuple[tuple[Token, ...], ...]


@dataclass(frozen=True)
class BeamSearch:
    """Keep the ``width`` most probable token sequences, one symbol a frame."""

    scorer: Scorer
    width: int = 4

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")

    @torch.inference_mode()
    def start(self, batch: int, device: torch.device | str = "cpu") -> BeamState:
        """The state before the first frame of ``batch`` utterances."""
        shape = (batch, self.width)
        scores = torch.full(shape, _NEVER, device=device)
        scores[:, 0] = 0.0
        context = torch.full(
            (*shape, self.scorer.context_tokens), BLANK, dtype=torch.int64, device=device
        )
        return BeamState(
            scores,
            context,
            self._predict(context),
            torch.zeros((*shape, 2), dtype=torch.int64, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
            _empty_history(batch, self.width, device),
            ((),) * batch,
        )

    @torch.inference_mode()
    def advance(self, state: BeamState, frames: Tensor, lengths: Tensor) -> BeamState:
        """Decode frames (B, T, J), of which ``lengths`` (B,) are real; ``state`` is kept as is."""
        lengths = lengths.to(frames.device)
        scores, keys = state.scores, state.keys
        context, predictions = state.context, state.predictions
        steps = []
        for at in range(int(lengths.max()) if len(lengths) else 0):
            given = predictions.flatten(0, 1)
            frame = frames[:, at].repeat_interleave(self.width, dim=0)
            log_probs = self.scorer.score(frame, given).view(*scores.shape, -1)
            scores, origin, token = self._choose(
                scores, log_probs, context[..., -1], keys, (lengths > at).unsqueeze(1)
            )
            context, predictions, keys = self._extend(context, predictions, keys, origin, token)
            chosen = origin * log_probs.shape[2] + token
            steps.append((origin, token, log_probs.flatten(1).gather(1, chosen)))
        return replace(
            state,
            scores=scores,
            context=context,
            predictions=predictions,
            keys=keys,
            frames=state.frames + lengths,
            history=_append(state.history, steps, state.frames),
        )

    def best(self, state: BeamState) -> list[tuple[Token, ...]]:
        """The most probable tokens so far, utterance by utterance."""
        return [prefix + _trace(state.history, row, 0) for row, prefix in enumerate(state.prefix)]

    def stable(self, state: BeamState) -> list[int]:
        """How many tokens of :meth:`best` all hypotheses share."""
        return [len(prefix) + self._shared(state, row) for row, prefix in enumerate(state.prefix)]

    def commit(self, state: BeamState, tokens: int) -> BeamState:
        """Keep only the best hypothesis of a single stream; see :class:`Search`."""
        fresh = self.start(1, state.scores.device)
        # Copies of the best: only the first is alive, the others wait at -inf.
        first = torch.zeros_like(state.keys[..., 0])
        return replace(
            fresh,
            context=_pick(state.context, first),
            predictions=_pick(state.predictions, first),
            keys=_pick(state.keys, first),
            frames=state.frames,
            prefix=(self.best(state)[0][tokens:],),
        )

    def _predict(self, context: Tensor) -> Tensor:
        return self.scorer.predict(context.flatten(0, 1)).view(*context.shape[:2], -1)

    def _choose(
        self, scores: Tensor, log_probs: Tensor, last: Tensor, keys: Tensor, alive: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Extend hypotheses by a frame and keep the best.

        Args:
            scores, last: (B, K) hypotheses and their last tokens.
            log_probs: (B, K, V) of the frame.
            keys: (B, K, 2) as in the state.
            alive: (B, 1) whether the utterance has this frame.
        Returns:
            (B, K) new scores, which hypothesis each extends, and by what.
        """
        candidates = scores.unsqueeze(2) + log_probs
        candidates, joined = _merge(candidates, scores, last, keys)
        top, index = candidates.flatten(1).topk(self.width, dim=1)
        origin = index.div(log_probs.shape[2], rounding_mode="floor")
        token = index.remainder(log_probs.shape[2])
        # A merged hypothesis keeps the history of whichever of the two was more probable.
        source = joined.gather(1, origin)
        merged = (token == BLANK) & (source >= 0)
        token = torch.where(merged, last.gather(1, origin), token)
        origin = torch.where(merged, source, origin)
        stay = torch.arange(self.width, device=scores.device).expand_as(origin)
        return (
            torch.where(alive, top, scores),
            torch.where(alive, origin, stay),
            torch.where(alive, token, BLANK),
        )

    def _extend(
        self, context: Tensor, predictions: Tensor, keys: Tensor, origin: Tensor, token: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        context, predictions = _pick(context, origin), _pick(predictions, origin)
        keys = _pick(keys, origin)
        grown = token != BLANK
        if not bool(grown.any()):
            return context, predictions, keys
        longer = torch.cat([context[..., 1:], token.unsqueeze(2)], dim=2)
        context = torch.where(grown.unsqueeze(2), longer, context)
        predictions[grown] = self.scorer.predict(context[grown])
        new = torch.stack([keys[..., 0] * _HASH_FACTOR + token + 1, keys[..., 0]], dim=2)
        return context, predictions, torch.where(grown.unsqueeze(2), new, keys)

    def _shared(self, state: BeamState, row: int) -> int:
        alive = int((state.scores[row] > _NEVER).sum())
        traces = [[t.id for t in _trace(state.history, row, k)] for k in range(alive)]
        shared = 0
        for column in zip(*traces, strict=False):
            if len(set(column)) > 1:
                break
            shared += 1
        return shared


def _merge(candidates: Tensor, scores: Tensor, last: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Join "g extended by v" to "h and blank" where both hold the same tokens.

    There is at most one such g for an h, as hypotheses differ from each other.

    Returns:
        candidates (B, K, V) with the joined probability at h's blank and none at g's v; and
        (B, K) which g made h's blank more probable than h itself did, or -1.
    """
    alive = scores > _NEVER
    same = (keys[:, :, 1].unsqueeze(2) == keys[:, :, 0].unsqueeze(1)) & (last != BLANK).unsqueeze(2)
    same &= alive.unsqueeze(2) & alive.unsqueeze(1)
    found, parent = same.max(dim=2)
    batch = torch.arange(len(scores), device=scores.device).unsqueeze(1).expand_as(parent)
    extended = torch.where(found, candidates[batch, parent, last], _NEVER)
    stayed = candidates[..., BLANK]
    joined = torch.where(extended > stayed, parent, -1)
    candidates = candidates.clone()
    candidates[..., BLANK] = torch.logaddexp(stayed, extended)
    candidates[batch[found], parent[found], last[found]] = _NEVER
    return candidates, joined


def _pick(values: Tensor, origin: Tensor) -> Tensor:
    """Values (B, K, D) of the hypotheses ``origin`` (B, K)."""
    return values.gather(1, origin.unsqueeze(2).expand(-1, -1, values.shape[2]))


def _empty_history(batch: int, width: int, device: torch.device | str) -> History:
    integers = torch.zeros((batch, 0, width), dtype=torch.int64, device=device)
    return History(
        integers,
        integers,
        torch.zeros((batch, 0, width), device=device),
        torch.zeros((batch, 0), dtype=torch.int64, device=device),
    )


def _append(
    history: History, steps: list[tuple[Tensor, Tensor, Tensor]], frames: Tensor
) -> History:
    if not steps:
        return history
    origin, token, log_prob = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
    number = frames.unsqueeze(1) + torch.arange(len(steps), device=frames.device)
    new = History(origin, token, log_prob, number)
    return History(*(torch.cat(pair, dim=1) for pair in zip(history, new, strict=True)))


def _trace(history: History, row: int, hypothesis: int) -> tuple[Token, ...]:
    """Follow the back pointers of one hypothesis to its tokens."""
    origin, token = history.origin[row].tolist(), history.token[row].tolist()
    log_prob, frame = history.log_prob[row].tolist(), history.frame[row].tolist()
    tokens = []
    at = hypothesis
    for step in range(len(origin) - 1, -1, -1):
        if token[step][at] != BLANK:
            tokens.append(Token(token[step][at], frame[step], log_prob[step][at]))
        at = origin[step][at]
    return tuple(reversed(tokens))
