"""Subnets are values: how far a recogniser sees, and how sparse its weights are."""

from __future__ import annotations

from dataclasses import dataclass

FRAME_MS = 40  # one encoder frame: four mel frames of 10 ms


@dataclass(frozen=True)
class FullContext:
    """Every frame sees the whole utterance."""


@dataclass(frozen=True)
class ChunkedContext:
    """Frames are seen in chunks; all numbers in frames of 40 ms.

    Attributes:
        chunk: what a stream advances by.
        left: frames before the chunk that each layer attends to.
        lookahead: frames after the chunk that the chunk, and only it, may see.
    """

    chunk: int
    left: int
    lookahead: int

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.left < 0 or self.lookahead < 0:
            raise ValueError(f"need chunk >= 1, left >= 0, lookahead >= 0, not {self}")

    @property
    def window(self) -> int:
        """Frames that one step of a stream computes: chunk and look-ahead."""
        return self.chunk + self.lookahead

    @property
    def step_mels(self) -> int:
        """Mel frames that one step reads: ``4 * window + 3``; it advances by ``4 * chunk``."""
        return 4 * self.window + 3

    @property
    def chunk_ms(self) -> int:
        return self.chunk * FRAME_MS

    @property
    def lookahead_ms(self) -> int:
        return self.lookahead * FRAME_MS


Context = FullContext | ChunkedContext


@dataclass(frozen=True)
class Subnet:
    """A recogniser inside the supernet: ``sparsity`` 0 is dense, else a target that has masks."""

    context: Context
    sparsity: float = 0.0

    @property
    def streams(self) -> bool:
        return isinstance(self.context, ChunkedContext)


SERVER = Subnet(FullContext(), 0.0)
