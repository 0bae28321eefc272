"""Block masks: which weights a sparse subnet keeps, and how they are drawn from scores of blocks.

A block is ``block_outputs`` consecutive outputs x ``block_inputs`` inputs of a linear map, by
default 8 x 1: the contents of one SIMD register of a sparse kernel. A mask has one boolean per
block, True where the block is kept. There is one mask for each target sparsity; all are cut from
the same ranking, so a sparser mask is a subset of a denser one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Observer = Callable[[Tensor, Tensor], None]
"""Sees the inputs (..., inputs) and the masked weight (outputs, inputs) of a pass."""


class PrunableLinear(nn.Module):
    """A linear map that runs dense or through one of its masks.

    Args:
        inputs, outputs: widths.
        bias: whether there is a bias (biases are never pruned).
        targets: number of masks.
        block: (outputs, inputs) of a block; ragged blocks at the edges are allowed.

    Attributes:
        observer: called in every pass through a mask that computes gradients. It may not change
            what it sees.
    """

    blocks: Tensor
    observer: Observer | None = None

    def __init__(
        self, inputs: int, outputs: int, *, targets: int, block: tuple[int, int], bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.xavier_uniform_(self.weight)
        self.block = block
        shape = (targets, math.ceil(outputs / block[0]), math.ceil(inputs / block[1]))
        self.register_buffer("blocks", torch.ones(shape, dtype=torch.bool))

    def forward(self, x: Tensor, mask: int | None) -> Tensor:
        """Map (..., inputs) to (..., outputs) with mask number ``mask``; None runs dense."""
        weight = self.effective_weight(mask)
        if self.observer is not None and mask is not None and torch.is_grad_enabled():
            self.observer(x, weight)
        return F.linear(x, weight, self.bias)

    def effective_weight(self, mask: int | None) -> Tensor:
        """The weight (outputs, inputs) after masking."""
        if mask is None:
            return self.weight
        outputs, inputs = self.weight.shape
        kept = self.blocks[mask].to(self.weight.dtype)
        height, width = self.block
        if outputs % height == 0 and width == 1:
            blocked = self.weight.view(-1, height, inputs) * kept[:, None, :]
            return blocked.view(outputs, inputs)
        return self.weight * self.expand(kept)

    def expand(self, kept: Tensor) -> Tensor:
        """Expand a mask over blocks to one over weights (outputs, inputs)."""
        height, width = self.block
        full = kept.repeat_interleave(height, 0).repeat_interleave(width, 1)
        return full[: self.weight.shape[0], : self.weight.shape[1]]

    def scores(self, input_squares: Tensor | None = None) -> Tensor:
        """L2 norm of each block (block rows, block columns), in float64.

        Args:
            input_squares: (inputs,) mean square of each input. If given, each weight is multiplied
                by the root mean square of its input (Wanda, Sun et al., arXiv 2306.11695).
        """
        squares = self.weight.detach().double().square()
        if input_squares is not None:
            squares = squares * input_squares
        return self.block_sums(squares).sqrt()

    def block_sums(self, values: Tensor) -> Tensor:
        """Sums (block rows, block columns) of values (outputs, inputs) over each block. Computed in
        float64, so that a ranking does not depend on the order of summation."""
        outputs, inputs = self.weight.shape
        height, width = self.block
        padded = F.pad(values.double(), (0, -inputs % width, 0, -outputs % height))
        rows, columns = self.blocks.shape[1:]
        return padded.view(rows, height, columns, width).sum(dim=(1, 3))


def prunable(module: nn.Module) -> dict[str, PrunableLinear]:
    """All prunable linear maps inside ``module``, by name."""
    return {n: m for n, m in module.named_modules() if isinstance(m, PrunableLinear)}


def pruned_counts(
    scores: Sequence[Tensor], sparsity: float, allocation: str, layer_cap: float
) -> list[int]:
    """Number of blocks to remove from each layer, so that the total meets the target exactly.

    ``uniform`` removes the same share of every layer. ``global`` ranks all blocks together, after
    dividing by the mean score of each layer so that layers of different scale are comparable, and
    removes at most ``layer_cap`` of a layer.
    """
    sizes = [s.numel() for s in scores]
    if allocation == "uniform":
        return [round(sparsity * size) for size in sizes]
    total = round(sparsity * sum(sizes))
    capped = []
    for score, size in zip(scores, sizes, strict=True):
        relative = score.flatten() / score.mean().clamp_min(1e-30)
        eligible = relative.sort().values[: int(layer_cap * size)]
        capped.append(eligible)
    owners = torch.cat([torch.full((len(e),), i) for i, e in enumerate(capped)])
    weakest = torch.cat(capped).argsort(stable=True)[:total]
    return torch.bincount(owners[weakest.cpu()], minlength=len(sizes)).tolist()


@torch.no_grad()
def draw_masks(
    layers: Sequence[PrunableLinear],
    sparsities: Sequence[float],
    *,
    scores: Sequence[Tensor] | None = None,
    allocation: str = "uniform",
    layer_cap: float = 0.95,
) -> None:
    """Draw every mask, mask ``i`` with ``sparsities[i]``. Blocks are ranked by the ``scores`` of
    each layer (block rows, block columns), by default the norms of the current weights.

    All targets share one ranking, so masks are nested if ``sparsities`` do not decrease.
    """
    if scores is None:
        scores = [layer.scores() for layer in layers]
    orders = [score.flatten().argsort(stable=True) for score in scores]
    for index, sparsity in enumerate(sparsities):
        counts = pruned_counts(scores, sparsity, allocation, layer_cap)
        for layer, order, count in zip(layers, orders, counts, strict=True):
            mask = layer.blocks[index].view(-1)
            mask.fill_(True)
            mask[order[:count]] = False


def measured_sparsity(layers: Sequence[PrunableLinear], index: int) -> float:
    """Share of all blocks that mask ``index`` removes."""
    removed = sum(int((~layer.blocks[index]).sum()) for layer in layers)
    return removed / sum(layer.blocks[index].numel() for layer in layers)


def pack_bits(mask: Tensor) -> Tensor:
    """A boolean tensor as uint8, eight to a byte, lowest bit first."""
    flat = mask.flatten().to(torch.uint8)
    flat = F.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    weights = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8)
    return (flat.cpu() * weights).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo :func:`pack_bits` for a tensor of ``shape``.

    Raises:
        ValueError: there are more or fewer bytes than that.
    """
    if packed.numel() != -(-math.prod(shape) // 8):
        raise ValueError(f"{packed.numel()} bytes cannot be a mask of {tuple(shape)} blocks")
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten()[: math.prod(shape)].bool().view(*shape)
