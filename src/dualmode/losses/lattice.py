"""The transducer lattice: sum over all alignments, exact gradients, node posteriors.

One recursion serves the full lattice and the pruned one (Kuang et al. 2022,
"Pruned RNN-T for fast, memory-efficient ASR training", arXiv 2206.13236). A lattice is a *band*:
of frame ``t`` it contains the nodes ``(t, u)`` with ``u = starts[t] + k`` and ``0 <= k < S``, where
``u`` counts the tokens emitted so far. A token moves from ``u`` to ``u + 1`` and stays on its
frame, blank moves to the next frame, and the blank at ``u = U`` of the last frame closes the
alignment. The full lattice is the band ``S = U + 1`` that starts at 0 on every frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

IMPOSSIBLE = -1e5
"""Log-probability (nats) that stands for "cannot happen": zero after exp, and still finite."""


def lattice_loss(
    token: Tensor,
    blank: Tensor,
    frame_lengths: Tensor,
    token_lengths: Tensor,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Negative log-probability of the targets, summed over all alignments inside the band.

    The recursion runs in float64 for any input type: on rows this short it costs the same
    time as float32, and sums over thousands of edges keep their digits. Arguments are trusted;
    the functions of :mod:`dualmode.losses.transducer_loss` check theirs.

    Args:
        token: (B, T, S) log-probability, in nats, of emitting the next token at a node. Values
            below :data:`IMPOSSIBLE` count as that; values outside the lattice are ignored.
        blank: (B, T, S) log-probability of blank.
        frame_lengths: (B,) frames of every utterance, 1 to T.
        token_lengths: (B,) tokens of every utterance.
        starts: (B, T) first ``u`` of the band on every frame: 0 at first, rising by at most S - 1
            a frame, and reaching ``U`` with its last row. None means 0 everywhere.

    Returns:
        The loss (B,) in nats, differentiable in ``token`` and ``blank``, and the posterior
        probability (B, T, S) that an alignment passes a node, which carries no gradient and is
        zero outside the lattice.
    """
    wanted = torch.is_grad_enabled() and (token.requires_grad or blank.requires_grad)
    with torch.autocast(token.device.type, enabled=False):
        loss, occupancy = _LatticeLoss.apply(  # type: ignore[no-untyped-call]
            token, blank, frame_lengths, token_lengths, starts, wanted
        )
    return loss, occupancy


def effective_band(band: int, frame_lengths: Tensor, token_lengths: Tensor) -> int:
    """Number of nodes per frame that the pruned loss uses for a batch.

    It is at most U + 1 of the longest targets, and large enough for every utterance to reach its
    last token while the band rises by less than its width from frame to frame.

    Args:
        band: Requested number of nodes per frame, at least 1.
        frame_lengths: (B,) frames of every utterance, at least 1.
        token_lengths: (B,) tokens of every utterance.

    Raises:
        ValueError: ``band`` is below 1.
    """
    if band < 1:
        raise ValueError(f"band must be at least 1, got {band}")
    steepest = (token_lengths + frame_lengths - 1) // frame_lengths
    longest, needed = map(int, torch.stack([token_lengths.max(), steepest.max()]).tolist())
    return max(min(band, longest + 1), needed + 1)


@torch.no_grad()
def pruning_bounds(
    occupancy: Tensor, frame_lengths: Tensor, token_lengths: Tensor, band: int
) -> Tensor:
    """Choose the band that keeps most of the node posteriors of each frame.

    Args:
        occupancy: (B, T, U + 1) posterior probability of every node.
        frame_lengths: (B,) frames of every utterance, at least 1.
        token_lengths: (B,) tokens of every utterance, at most U.
        band: Nodes per frame, from :func:`effective_band`.

    Returns:
        (B, T) int64 first ``u`` of the band: 0 on the first frame, never falling, rising by less
        than ``band`` a frame, never beyond what reaches the last token, and reaching it on the
        last frame.
    """
    _, frames, positions = occupancy.shape
    band = min(band, positions)
    mass = functional.pad(occupancy.double().cumsum(2), (1, 0))
    mass = mass[..., band:] - mass[..., :-band]
    highest = (token_lengths - band + 1).clamp(min=0).unsqueeze(1)
    slot = torch.arange(mass.shape[2], device=mass.device)
    best = mass.masked_fill(slot > highest.unsqueeze(2), -1.0).argmax(dim=2)

    time = torch.arange(frames, device=mass.device)
    climb = (band - 1) * time
    to_go = (frame_lengths.unsqueeze(1) - 1 - time).clamp(min=0)
    best = torch.minimum(best, climb)
    best = torch.maximum(best, highest - (band - 1) * to_go)
    # Halfway between the monotone envelopes above and below: one stray frame moves neither side.
    above = best.cummax(dim=1).values
    below = best.flip(1).cummin(dim=1).values.flip(1)
    monotone = (above + below) // 2
    # Where it would climb too fast it starts to climb earlier.
    return (monotone - climb).flip(1).cummax(dim=1).values.flip(1) + climb


class _LatticeLoss(torch.autograd.Function):
    """Computes the gradients together with the loss, because both need the same two sweeps."""

    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        blank: Tensor,
        frame_lengths: Tensor,
        token_lengths: Tensor,
        starts: Tensor | None,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        edges = _Edges(token, blank, frame_lengths, token_lengths, starts)
        batch, frames, _ = token.shape
        rows, arrivals = _sweep(edges)
        forward, backward = rows[:, :batch], rows[:, batch:].flip(0, 2)
        # The closing row has one live node, and the cumulative sum carries it to the last column.
        total = forward[frames, :, -1:]
        start = forward[:frames] - total
        inside = edges.inside.T.unsqueeze(2)

        def posterior(log_weight: Tensor) -> Tensor:
            return (log_weight.exp_() * inside).transpose(0, 1).to(token.dtype).contiguous()

        occupancy = posterior(start + backward[:frames])
        if wanted:
            through_token = torch.full_like(start, -torch.inf)
            through_token[..., :-1] = start[..., :-1] + backward[:frames, :, 1:]
            through_blank = start + arrivals[:, batch:].flip(0, 2)
            ctx.save_for_backward(posterior(through_token), posterior(through_blank))
        ctx.mark_non_differentiable(occupancy)
        return -total[:, 0].to(token.dtype), occupancy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        through_token, through_blank = ctx.saved_tensors
        scale = -grad[:, None, None]
        return through_token * scale, through_blank * scale, None, None, None, None


class _Edges:
    """Edge weights in the gauge where emitting a token is free.

    With ``P[t, k]`` the sum of the token log-probabilities of frame ``t`` left of ``k``, the
    potentials ``alpha - P`` and ``beta + P`` see tokens of weight 0 and blanks of weight
    ``blank + P[t] - P[t + 1]``. So a row of either recursion is one cumulative log-sum-exp, the
    forward and the backward sweep share their weights, and nothing outside an utterance (tokens
    0, blanks impossible) reaches the sums inside it. Frames after the end of an utterance pass
    its result on unchanged, so that all utterances close on row T.

    Attributes:
        inside: (B, T) whether a frame belongs to its utterance.
        leaving: (T, B, S) weight of the blank that leaves a node.
        arriving: (T, B, S) weight of the blank that arrives at node k of row t + 1.
        rise: (T, B, 1) rise of the band from row t to row t + 1, or None where it never rises.
        closing: (B, S) 0 at the node that closes the utterance, else -inf.
    """

    def __init__(
        self,
        token: Tensor,
        blank: Tensor,
        frame_lengths: Tensor,
        token_lengths: Tensor,
        starts: Tensor | None,
    ) -> None:
        batch, frames, width = token.shape
        device = token.device
        time = torch.arange(frames, device=device)
        slot = torch.arange(width, device=device)
        last = (frame_lengths - 1).unsqueeze(1)
        self.inside = time <= last
        if starts is None:
            first, rise = torch.zeros_like(last).expand(batch, frames), None
        else:
            first = torch.where(self.inside, starts, starts.gather(1, last))
            rise = torch.diff(first, dim=1, append=first[:, -1:]).unsqueeze(2)
        left = token_lengths[:, None, None] - (first.unsqueeze(2) + slot)
        inside = self.inside.unsqueeze(2)

        emits = inside & (left > 0) & (slot < width - 1)
        emitted = torch.where(emits, token.double().clamp(min=IMPOSSIBLE), 0.0)
        prefix = torch.zeros((batch, frames + 1, width), dtype=torch.float64, device=device)
        torch.cumsum(emitted[..., :-1], dim=2, out=prefix[:, :frames, 1:])
        step = blank.double().clamp(min=IMPOSSIBLE) + prefix[:, :-1]
        if rise is None:
            step -= prefix[:, 1:]
            advances = inside & (left >= 0)
        else:
            step -= prefix[:, 1:].gather(2, (slot - rise).clamp(min=0))
            advances = inside & (left >= 0) & (slot >= rise)
        closes = left == 0
        advances &= closes | (time != last).unsqueeze(2)
        leaving = torch.where(advances, step, -torch.inf)
        leaving = torch.where(inside | ~closes, leaving, 0.0)

        self.leaving = arriving = leaving.transpose(0, 1)
        self.rise = None
        if rise is not None:
            source = slot + rise
            arriving = leaving.gather(2, source.clamp(max=width - 1))
            arriving = torch.where(source < width, arriving, -torch.inf).transpose(0, 1)
            self.rise = rise.transpose(0, 1)
        self.arriving = arriving
        self.closing = torch.where(closes[:, -1], 0.0, -torch.inf).double()


def _sweep(edges: _Edges) -> tuple[Tensor, Tensor]:
    """Runs the forward recursion and the backward one, mirrored in time and slots, as one batch.

    Returns:
        The potentials (T + 1, 2B, S) of each row, and the contributions (T, 2B, S) that arrive by
        blank in each row after the first. The forward sweep is the first half of the batch.
    """
    arrivals = torch.cat([edges.arriving, edges.leaving.flip(0, 2)], dim=1)
    frames, count, width = arrivals.shape
    rows = arrivals.new_empty((frames + 1, count, width))
    rows[0, : count // 2] = 0.0
    rows[0, count // 2 :] = edges.closing.flip(1)
    row = rows[0]
    # Views made in bulk and results written in place: this loop is all overhead on short rows.
    if edges.rise is None:
        for arrival, following in zip(arrivals.unbind(0), rows[1:].unbind(0), strict=True):
            torch.logcumsumexp(arrival.add_(row), dim=1, out=following)
            row = following
        return rows, arrivals
    rises = torch.cat([edges.rise, edges.rise.flip(0)], dim=1)
    source = (torch.arange(width, device=rises.device) + rises).clamp(max=width - 1)
    moved = torch.empty_like(row)
    for arrival, following, index in zip(
        arrivals.unbind(0), rows[1:].unbind(0), source.unbind(0), strict=True
    ):
        torch.gather(row, 1, index, out=moved)
        torch.logcumsumexp(arrival.add_(moved), dim=1, out=following)
        row = following
    return rows, arrivals
