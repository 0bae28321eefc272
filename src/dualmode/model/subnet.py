"""Subnets are values: the context of a recogniser, and the sparsity of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from dualmode.config import Recipe
from dualmode.errors import SubnetError


@dataclass(frozen=True)
class FullContext:
    """Every frame attends to the whole utterance."""


@dataclass(frozen=True)
class ChunkedContext:
    """Context of a recogniser that streams. All values are in frames of the model.

    Attributes:
        chunk: frames by which a stream advances.
        left: frames before the chunk that each layer attends to.
        lookahead: frames after the chunk that this chunk alone may use.

    Raises:
        ValueError: ``chunk`` is below 1, or another value is negative.
    """

    chunk: int
    left: int
    lookahead: int

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.left < 0 or self.lookahead < 0:
            raise ValueError(f"need chunk >= 1, left >= 0, lookahead >= 0, not {self}")

    @property
    def window(self) -> int:
        """Frames computed by one step of a stream: chunk and look-ahead."""
        return self.chunk + self.lookahead


Context = FullContext | ChunkedContext


@dataclass(frozen=True)
class Subnet:
    """A recogniser of the supernet. ``sparsity`` is 0 (dense) or one of the trained targets."""

    context: Context
    sparsity: float = 0.0

    @property
    def streams(self) -> bool:
        return isinstance(self.context, ChunkedContext)


SERVER = Subnet(FullContext(), 0.0)
"""The dense recogniser with full context."""


def chunked_context(subnet: Subnet) -> ChunkedContext:
    """The context of a subnet that streams.

    Raises:
        SubnetError: it has full context.
    """
    if not isinstance(subnet.context, ChunkedContext):
        raise SubnetError("server needs the whole utterance; stream with device")
    return subnet.context


def device_subnet(recipe: Recipe) -> Subnet:
    """The device recogniser of a recipe: its context and its sparsity."""
    device = recipe.training.device_subnet
    context = ChunkedContext(device.chunk_frames, device.left_frames, device.lookahead_frames)
    return Subnet(context, recipe.device_sparsity)


def named_subnet(name: str, recipe: Recipe) -> Subnet:
    """``server`` or ``device`` of a recipe.

    Raises:
        SubnetError: any other name, or a recogniser that the recipe did not train.
    """
    if name in {"server", "device"} and name not in recipe.training.subnets:
        raise SubnetError(
            f"this model has no {name}: it was trained as {recipe.training.subnets[0]} only"
        )
    if name == "server":
        return SERVER
    if name == "device":
        return device_subnet(recipe)
    raise SubnetError(f"no subnet {name!r}: choose server or device")


def trained_subnets(recipe: Recipe) -> dict[str, Subnet]:
    """The recognisers that a recipe trains in every step, by name; the first is the teacher."""
    return {name: named_subnet(name, recipe) for name in recipe.training.subnets}
