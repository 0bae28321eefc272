"""Pruned transducer loss (Kuang et al. 2022, arXiv 2206.13236) in plain PyTorch.

A cheap additive joiner is evaluated on the full lattice. Its posteriors select a band of a few
nodes on every frame, and only there is the full joiner evaluated. The lattice itself is
described in :mod:`dualmode.losses.lattice`. Frames are encoder output frames, ``u`` counts the
tokens emitted so far, blank has id 0, and all log-probabilities are natural (nats).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dualmode.losses.joint import (
    gathered_log_probs,
    length_mask,
    next_tokens,
    simple_log_probs,
)
from dualmode.losses.lattice import IMPOSSIBLE, effective_band, lattice_loss, pruning_bounds
from dualmode.text import BLANK

Reduction = Literal["none", "sum", "mean"]

_FRAME_GRID = 256  # the joiner's input is padded to a multiple, to limit the number of shapes

Joiner = Callable[[Tensor, Tensor], Tensor]
"""Maps frames (B, T, 1, J) and predictions (B, T, S, J) to logits (B, T, S, V).

It must map every position independently: padding is dropped before the call, so the first two
dimensions may differ from those of the batch.
"""


@dataclass(frozen=True)
class TransducerLoss:
    """Both terms of the pruned transducer loss, and the inputs of the pruned term.

    Attributes:
        simple: Loss of the additive joiner over the full lattice, (B,) or reduced.
        pruned: Loss of the real joiner over the band, (B,) or reduced.
        starts: (B, T) int64, first ``u`` of the band on every frame; carries no gradient.
        token_log_probs: (B, T, S) log-probability of the next token under the real joiner, with
            its gradient; :data:`IMPOSSIBLE` where there is none or outside the utterance.
        blank_log_probs: (B, T, S) the same of blank.
    """

    simple: Tensor
    pruned: Tensor
    starts: Tensor
    token_log_probs: Tensor
    blank_log_probs: Tensor


def pruned_transducer_loss(
    frames: Tensor,
    predictions: Tensor,
    join: Joiner,
    simple_frames: Tensor,
    simple_predictions: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
    *,
    band: int = 5,
    starts: Tensor | None = None,
    reduction: Reduction = "mean",
) -> TransducerLoss:
    """Pruned transducer loss of a batch.

    Train on a weighted sum of ``simple`` and ``pruned``: the additive joiner selects the band, so
    it has to be trained as well. The contents of padding, even NaN, have no effect.

    Args:
        frames: (B, T, J) encoder output, already projected for the joiner.
        predictions: (B, U + 1, J) predictor output after 0 to U tokens, already projected.
        join: The real joiner.
        simple_frames: (B, T, V) scores of the additive joiner that come from the encoder.
        simple_predictions: (B, U + 1, V) its scores that come from the predictor.
        targets: (B, U) int64 token ids from 1 to V - 1.
        frame_lengths: (B,) frames of every utterance, 1 to T.
        token_lengths: (B,) tokens of every utterance, 0 to U.
        band: Nodes kept per frame. Fewer if the lattice is narrower, more if an utterance has
            so many tokens for its frames that no alignment would fit (see
            :func:`~dualmode.losses.lattice.effective_band`).
        starts: (B, T) band to use instead of computing it, of the same effective width.
        reduction: "mean" is the mean over utterances.

    Raises:
        ValueError: Shapes, types, lengths, ids or ``starts`` do not fit together.
    """
    batch, positions = _check_targets(targets)
    _check_scores("frames", frames, (batch, None, None))
    _, count, width = frames.shape
    _check_scores("predictions", predictions, (batch, positions, width))
    _check_scores("simple_frames", simple_frames, (batch, count, None))
    vocabulary = simple_frames.shape[2]
    _check_scores("simple_predictions", simple_predictions, (batch, positions, vocabulary))
    frame_lengths, token_lengths, host_lengths = _check_lengths(
        targets, frame_lengths, token_lengths, count, vocabulary, frames.device
    )
    band = effective_band(band, *host_lengths)
    if starts is not None:
        _check_starts(starts, band, count, frame_lengths, token_lengths)

    token, blank = simple_log_probs(
        simple_frames, simple_predictions, targets, frame_lengths, token_lengths
    )
    simple, occupancy = lattice_loss(token, blank, frame_lengths, token_lengths)
    if starts is None:
        starts = pruning_bounds(occupancy, frame_lengths, token_lengths, band)
    token, blank = band_log_probs(
        frames, predictions, join, targets, starts, band, token_lengths, frame_lengths
    )
    pruned, _ = lattice_loss(token, blank, frame_lengths, token_lengths, starts)
    return TransducerLoss(
        simple=_reduce(simple, reduction),
        pruned=_reduce(pruned, reduction),
        starts=starts.detach(),
        token_log_probs=token,
        blank_log_probs=blank,
    )


def full_transducer_loss(
    logits: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    """Transducer loss over the full lattice (Graves 2012, arXiv 1211.3711).

    Args:
        logits: (B, T, U + 1, V) unnormalised scores of the joiner at every node.
        targets: (B, U) int64 token ids from 1 to V - 1.
        frame_lengths: (B,) frames of every utterance, 1 to T.
        token_lengths: (B,) tokens of every utterance, 0 to U.
        reduction: "mean" is the mean over utterances.

    Returns:
        The loss in nats, (B,) or reduced.

    Raises:
        ValueError: Shapes, types, lengths or ids do not fit together.
    """
    batch, positions = _check_targets(targets)
    _check_scores("logits", logits, (batch, None, positions, None))
    _, count, _, vocabulary = logits.shape
    frame_lengths, token_lengths, _ = _check_lengths(
        targets, frame_lengths, token_lengths, count, vocabulary, logits.device
    )
    tokens = next_tokens(targets, token_lengths).unsqueeze(1).expand(-1, count, -1)
    inside = length_mask(count, frame_lengths)[:, :, None]
    inside = inside & length_mask(positions, token_lengths + 1)[:, None, :]
    token, blank = gathered_log_probs(logits, tokens, inside)
    loss, _ = lattice_loss(token, blank, frame_lengths, token_lengths)
    return _reduce(loss, reduction)


def band_log_probs(
    frames: Tensor,
    predictions: Tensor,
    join: Joiner,
    targets: Tensor,
    starts: Tensor,
    band: int,
    token_lengths: Tensor,
    frame_lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Evaluate a joiner on a given band, for example that of another recogniser.

    Args:
        frames: (B, T, J) encoder output, already projected for the joiner.
        predictions: (B, U + 1, J) predictor output, already projected.
        join: The joiner.
        targets: (B, U) int64 token ids.
        starts: (B, T) first ``u`` of the band on every frame.
        band: Nodes per frame S; ``TransducerLoss.token_log_probs.shape[2]`` is the width that
            belongs to its ``starts``.
        token_lengths: (B,) tokens of every utterance.
        frame_lengths: (B,) frames of every utterance, or None if all have T. If given, the
            joiner is not evaluated on padding, which saves time and memory.

    Returns:
        Log-probabilities (B, T, S) of the next token and of blank with their gradients, float32
        or float64; :data:`IMPOSSIBLE` outside the utterance, and for the token after the last.

    Raises:
        ValueError: ``starts`` does not fit ``frames``, or ``join`` returned a wrong shape.
    """
    batch, count, width = frames.shape
    _check_shape("starts", starts, (batch, count))
    device = frames.device
    lengths = token_lengths.to(device).view(batch, 1, 1)
    positions = starts.to(device).unsqueeze(2) + torch.arange(band, device=device)
    exists = (positions >= 0) & (positions <= lengths)
    if frame_lengths is not None:
        exists = exists & length_mask(count, frame_lengths.to(device)).unsqueeze(2)
    nodes = torch.minimum(positions.clamp(min=0), lengths)
    tokens = next_tokens(targets, lengths[:, 0, 0]).gather(1, nodes.flatten(1)).view_as(nodes)
    nodes = nodes + predictions.shape[1] * torch.arange(batch, device=device).view(batch, 1, 1)

    used, real = None, 0
    if frame_lengths is not None:
        used = exists.flatten(0, 1).any(dim=1).nonzero()[:, 0]
    if used is None or len(used) == batch * count:
        shape, used = (batch, count, band), None
        frames = frames.unsqueeze(2)
    else:
        real = len(used)
        used = functional.pad(used, (0, -real % _FRAME_GRID))  # with frame 0, which always exists
        shape = (1, len(used), band)
        frames = frames.flatten(0, 1).index_select(0, used).view(1, -1, 1, width)
        nodes, tokens = (each.flatten(0, 1).index_select(0, used) for each in (nodes, tokens))
    # An embedding look-up, since its backward is the fastest way to sum rows on either device.
    chosen = functional.embedding(nodes.view(shape), predictions.flatten(0, 1))
    logits = join(frames, chosen)
    _check_scores("logits of the joiner", logits, (*shape, None))
    token, blank = gathered_log_probs(logits, tokens.view(shape), None)

    def scattered(values: Tensor, where: Tensor) -> Tensor:
        if used is not None:
            rest = values.new_zeros((batch * count, band))
            values = rest.index_copy(0, used[:real], values[0, :real]).view(batch, count, band)
        return torch.where(where, values, IMPOSSIBLE)

    return scattered(token, exists & (positions < lengths)), scattered(blank, exists)


def _reduce(loss: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f"reduction must be none, sum or mean, got {reduction!r}")


def _check_shape(name: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    """Raises unless the shape matches; None in ``shape`` stands for any size."""
    fits = [
        wanted is None or wanted == size for wanted, size in zip(shape, tensor.shape, strict=False)
    ]
    if tensor.ndim != len(shape) or not all(fits):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(tensor.shape)}")


def _check_scores(name: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    _check_shape(name, tensor, shape)
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}")


def _check_targets(targets: Tensor) -> tuple[int, int]:
    """Returns the sizes B and U + 1 that follow from the targets."""
    _check_shape("targets", targets, (None, None))
    if targets.dtype != torch.int64:
        raise ValueError(f"targets must be int64, got {targets.dtype}")
    if len(targets) == 0:
        raise ValueError("the batch is empty")
    return targets.shape[0], targets.shape[1] + 1


def _check_lengths(
    targets: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
    frames: int,
    vocabulary: int,
    device: torch.device,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Checks lengths and token ids. Returns the lengths as int64 on ``device``, and copies of both
    on the host."""
    batch, longest = targets.shape
    for name, lengths in (("frame_lengths", frame_lengths), ("token_lengths", token_lengths)):
        _check_shape(name, lengths, (batch,))
        if lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise ValueError(f"{name} must hold integers, got {lengths.dtype}")
    frame_lengths = frame_lengths.to(device, torch.int64)
    token_lengths = token_lengths.to(device, torch.int64)
    used = length_mask(longest, token_lengths)
    known = (((targets > BLANK) & (targets < vocabulary)) | ~used).all()
    # One copy to the host serves all checks and the width of the band.
    host = torch.cat([frame_lengths, token_lengths, known.long().view(1)]).cpu()
    host_lengths = host[:batch], host[batch:-1]
    _check_all(
        {
            f"frame_lengths must lie between 1 and T = {frames}": (
                (host_lengths[0] >= 1) & (host_lengths[0] <= frames)
            ),
            f"token_lengths must lie between 0 and U = {longest}": (
                (host_lengths[1] >= 0) & (host_lengths[1] <= longest)
            ),
            f"targets must lie between 1 and V - 1 = {vocabulary - 1}": host[-1] > 0,
        }
    )
    return frame_lengths, token_lengths, host_lengths


def _check_starts(
    starts: Tensor, band: int, frames: int, frame_lengths: Tensor, token_lengths: Tensor
) -> None:
    _check_shape("starts", starts, (len(frame_lengths), frames))
    if starts.dtype != torch.int64:
        raise ValueError(f"starts must be int64, got {starts.dtype}")
    rise = starts.diff(dim=1)
    missing = token_lengths - starts.gather(1, frame_lengths.unsqueeze(1) - 1)[:, 0]
    _check_all(
        {
            "starts must be 0 on the first frame": starts[:, 0] == 0,
            f"starts must rise by 0 to {band - 1} a frame": (
                ((rise >= 0) & (rise < band)) | ~length_mask(frames - 1, frame_lengths - 1)
            ),
            f"the band of {band} must hold the last token on the last frame": (
                (missing >= 0) & (missing < band)
            ),
        }
    )


def _check_all(conditions: dict[str, Tensor]) -> None:
    """Raises for the first condition that fails; reads the device once for all of them."""
    held = torch.stack([condition.all() for condition in conditions.values()]).tolist()
    for message, good in zip(conditions, held, strict=True):
        if not good:
            raise ValueError(message)
