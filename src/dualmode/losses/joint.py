"""Log-probabilities of the next token and of blank, the two values of a lattice node.

Both functions compute in float32 (float64 for float64 scores), also under autocast. They store as
little as possible for the backward pass, because logits dominate the memory of a transducer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dualmode.text import BLANK

# Logits reduced at a time: temporaries stay inside the processor's cache, or small on a GPU.
_CHUNK_CPU = 1 << 18
_CHUNK_GPU = 1 << 24

# Floor of the additive joiner's normaliser relative to the product of both maxima. Its inverse
# still fits float32 with room for the factor of a gradient scaler.
_NORMALISER_FLOOR = 1e-30


def simple_log_probs(
    simple_frames: Tensor,
    simple_predictions: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the additive joiner ``simple_frames + simple_predictions``.

    Its normaliser at all nodes is one matrix product of exponentials, so that nothing of size
    (B, T, U + 1, V) ever exists.

    Args:
        simple_frames: (B, T, V).
        simple_predictions: (B, U + 1, V).
        targets: (B, U) int64 token ids.
        frame_lengths: (B,) frames of every utterance.
        token_lengths: (B,) tokens of every utterance.

    Returns:
        Log-probabilities (B, T, U + 1) of the next token and of blank, float32 or float64;
        meaningless outside the utterance, where the lattice ignores them.
    """
    with torch.autocast(simple_frames.device.type, enabled=False):
        token, blank = _SimpleLogProbs.apply(  # type: ignore[no-untyped-call]
            simple_frames,
            simple_predictions,
            next_tokens(targets, token_lengths),
            length_mask(simple_frames.shape[1], frame_lengths),
            length_mask(simple_predictions.shape[1], token_lengths + 1),
        )
    return token, blank


def gathered_log_probs(
    logits: Tensor, tokens: Tensor, inside: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (...) of ``tokens`` (...) and of blank under ``logits`` (..., V).

    Where ``inside`` (...) is false the gradient is zero, even for logits that are not finite.
    """
    with torch.autocast(logits.device.type, enabled=False):
        token, blank = _LogProbs.apply(  # type: ignore[no-untyped-call]
            logits.reshape(-1, logits.shape[-1]),
            tokens.reshape(-1),
            None if inside is None else inside.reshape(-1),
        )
    return token.view(tokens.shape), blank.view(tokens.shape)


class _LogProbs(torch.autograd.Function):
    """Two entries of a log-softmax; only the logits are kept for the backward pass.

    ``log_softmax`` and two ``gather`` would hold a second tensor as large as the logits until
    the backward pass, and there build a third of zeros beside the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, inside: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, tokens, inside)
        dtype = _compute_dtype(logits)
        token, blank = logits.new_empty((2, len(logits)), dtype=dtype).unbind(0)
        for part in _chunks(logits):
            log_probs = torch.log_softmax(logits[part], dim=1, dtype=dtype)
            token[part] = log_probs.gather(1, tokens[part, None])[:, 0]
            blank[part] = log_probs[:, BLANK]
        return token, blank

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_token: Tensor, grad_blank: Tensor) -> tuple[Tensor | None, ...]:
        logits, tokens, inside = ctx.saved_tensors
        grad = torch.empty_like(logits)
        scale = -(grad_token + grad_blank).unsqueeze(1)
        direct = logits.dtype == scale.dtype
        for part in _chunks(logits):
            out = torch.softmax(
                logits[part], dim=1, dtype=scale.dtype, out=grad[part] if direct else None
            )
            out *= scale[part]
            out.scatter_add_(1, tokens[part, None], grad_token[part, None])
            out[:, BLANK] += grad_blank[part]
            if inside is not None:
                out.masked_fill_(~inside[part, None], 0.0)
            if not direct:
                grad[part] = out
        return grad, None, None


class _SimpleLogProbs(torch.autograd.Function):
    """Additive joiner: keeps two tensors of exponentials and works in place on one more."""

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        predictions: Tensor,
        tokens: Tensor,
        frame_inside: Tensor,
        prediction_inside: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.dtypes = frames.dtype, predictions.dtype
        dtype = _compute_dtype(frames)
        frames, predictions = frames.to(dtype), predictions.to(dtype)
        frame_exp, frame_top = _shifted_exp(frames, frame_inside)
        prediction_exp, prediction_top = _shifted_exp(predictions, prediction_inside)
        total = torch.bmm(frame_exp, prediction_exp.mT).clamp_(min=_NORMALISER_FLOOR)
        ctx.save_for_backward(frame_exp, prediction_exp, total, tokens)
        normaliser = total.log() + frame_top + prediction_top.mT
        index = tokens.unsqueeze(1).expand_as(total)
        token = frames.gather(2, index) + predictions.gather(2, tokens.unsqueeze(2)).mT
        blank = frames[..., BLANK, None] + predictions[:, None, :, BLANK]
        return token - normaliser, blank - normaliser

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_token: Tensor, grad_blank: Tensor) -> tuple[Tensor | None, ...]:
        frame_exp, prediction_exp, total, tokens = ctx.saved_tensors
        with torch.autocast(total.device.type, enabled=False):
            share = (grad_token + grad_blank).div_(total).neg_()
            grad_frames = torch.bmm(share, prediction_exp).mul_(frame_exp)
            grad_frames.scatter_add_(2, tokens.unsqueeze(1).expand_as(total), grad_token)
            grad_frames[..., BLANK] += grad_blank.sum(2)
            grad_predictions = torch.bmm(share.mT, frame_exp).mul_(prediction_exp)
            grad_predictions.scatter_add_(2, tokens.unsqueeze(2), grad_token.sum(1).unsqueeze(2))
            grad_predictions[..., BLANK] += grad_blank.sum(1)
        frame_dtype, prediction_dtype = ctx.dtypes
        return grad_frames.to(frame_dtype), grad_predictions.to(prediction_dtype), None, None, None


def _shifted_exp(scores: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(scores - top)`` (B, N, V), zero in padding, and the maxima ``top`` (B, N, 1)."""
    top = scores.amax(dim=2, keepdim=True)
    return (scores - top).exp_().masked_fill_(~inside.unsqueeze(2), 0.0), top


def _chunks(logits: Tensor) -> list[slice]:
    size = _CHUNK_CPU if logits.device.type == "cpu" else _CHUNK_GPU
    step = max(size // logits.shape[1], 1)
    return [slice(first, first + step) for first in range(0, len(logits), step)]


def _compute_dtype(scores: Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def length_mask(count: int, lengths: Tensor) -> Tensor:
    """(B, count) whether a position lies inside its utterance."""
    return torch.arange(count, device=lengths.device) < lengths.unsqueeze(1)


def next_tokens(targets: Tensor, token_lengths: Tensor) -> Tensor:
    """(B, U + 1) id of the token after ``u`` tokens, blank where there is none."""
    lengths = token_lengths.to(targets.device).unsqueeze(1)
    following = functional.pad(targets, (0, 1), value=BLANK)
    return following.masked_fill(
        torch.arange(following.shape[1], device=targets.device) >= lengths, BLANK
    )
