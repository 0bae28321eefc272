"""The runtime ``engine``: an artifact of ``dualmode export engine``, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dualmode_engine
import numpy as np

from dualmode.config import Recipe
from dualmode.errors import ModelError, SubnetError
from dualmode.features import MELS, Framing
from dualmode.model.subnet import ChunkedContext, Context, FullContext, Subnet, named_subnet
from dualmode.recipe_files import parse_recipe
from dualmode.runtime import Floats, Ids, State
from dualmode.runtime.arrays import encode_by_steps
from dualmode.text import UNKNOWN_ID, WORD_START, Tokens


class PieceTokens(Tokens):
    """A vocabulary of pieces without a tokeniser: it decodes tokens but cannot encode text."""

    def __init__(self, pieces: Sequence[str]) -> None:
        super().__init__(b"")
        # cached_property reads the instance's dictionary first, which a frozen dataclass has too.
        self.__dict__["pieces"] = list(pieces)
        self.__dict__["word_starts"] = [piece.startswith(WORD_START) for piece in pieces]

    def encode(self, text: str) -> list[int]:
        """Raises ModelError: an artifact does not contain a tokeniser."""
        raise ModelError("an artifact of the engine cannot encode text: load the model directory")

    def decode(self, ids: Any) -> str:
        """Text of token ids, without blank and ``<unk>``."""
        pieces = (self.pieces[number] for number in ids if number > UNKNOWN_ID)
        return "".join(pieces).replace(WORD_START, " ").strip()


class EngineModel:
    """The recogniser of an artifact; its recipe contains only values from the artifact."""

    def __init__(self, path: Path) -> None:
        try:
            self.artifact = dualmode_engine.Model(path)
        except dualmode_engine.EngineError as error:
            raise ModelError(f"{path}: {error}") from None
        self._runtime = EngineRuntime(self.artifact)
        self.tokens: Tokens = PieceTokens(self._runtime.model.pieces)
        self.recipe: Recipe = _recipe(self._runtime)
        self._name = self.recipe.training.subnets[0]

    def check(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        self.open(subnet)

    def open(self, subnet: Subnet) -> EngineRuntime:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        if subnet in (self._runtime.subnet, named_subnet(self._name, self.recipe)):
            return self._runtime
        raise SubnetError(
            f"the artifact contains {self._runtime.subnet}, not {subnet}: export it first"
        )

    def keep_only(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`; an artifact has only one subnet."""
        self.open(subnet)


class EngineRuntime:
    """The recogniser; see :class:`~dualmode.runtime.Runtime`. The state of a stream is an encoder
    of the engine, which each step copies."""

    chunks_a_step = 1

    def __init__(self, model: Any) -> None:
        self.model = model
        description = model.description
        self.context_tokens = int(description["context_tokens"])
        # An engine that does not name it reads only artifacts with frames of 40 ms.
        self.framing = Framing(description.get("frame_ms", 40))
        self.subnet = Subnet(_context(description), round(float(description["sparsity"]), 6))

    @property
    def context(self) -> Context:
        return self.subnet.context

    def predict(self, context: Ids) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        predictions: Floats = self.model.handle.predict(context.tolist())
        return predictions

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        scores: Floats = self.model.handle.score(
            np.ascontiguousarray(frames), np.ascontiguousarray(predictions)
        )
        return scores

    def encode(self, mels: Floats, lengths: Ids) -> tuple[Floats, Ids]:
        """See :class:`~dualmode.runtime.Runtime`."""
        if isinstance(self.context, ChunkedContext):
            return encode_by_steps(self, mels, lengths)
        rows = [
            self.model.handle.whole_frames(np.ascontiguousarray(one[:length]))
            for one, length in zip(mels, lengths.tolist(), strict=True)
        ]
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        width = self.model.description["joiner_width"]
        frames = np.zeros((len(rows), int(counts.max(initial=0)), width), np.float32)
        for place, row in zip(frames, rows, strict=True):
            place[: len(row)] = row
        return frames, counts

    def initial_state(self, batch: int) -> State:
        """See :class:`~dualmode.runtime.Runtime`."""
        if not isinstance(self.context, ChunkedContext):
            raise SubnetError(
                "a subnet with full context needs the whole utterance and cannot stream; use device"
            )
        return tuple(dualmode_engine.Encoder(self.model.handle) for _ in range(batch))

    def step(self, mels: Floats, counts: Ids, state: State) -> tuple[Floats, State]:
        """See :class:`~dualmode.runtime.Runtime`."""
        context = self.context
        assert isinstance(context, ChunkedContext)
        width = self.model.description["joiner_width"]
        frames = np.zeros((len(mels), context.chunk, width), np.float32)
        after = []
        for row, encoder in enumerate(state):
            moved = encoder.copy()
            # The encoder keeps the look-ahead; pass only the mel frames after it.
            known = self.framing.stride_mels * context.lookahead if moved.processed else 0
            given = np.ascontiguousarray(mels[row, known:]).reshape(-1, MELS)
            output = moved.step(given, int(counts[row]))
            frames[row, : len(output)] = output
            after.append(moved)
        return frames, tuple(after)

    def join(self, states: Sequence[State]) -> State:
        """See :class:`~dualmode.runtime.Runtime`."""
        return tuple(encoder for state in states for encoder in state)

    def split(self, state: State) -> list[State]:
        """See :class:`~dualmode.runtime.Runtime`."""
        return [(encoder,) for encoder in state]


def load(path: Path, device: str = "cpu") -> EngineModel:
    """Load an artifact.

    Raises:
        ModelError: it is missing or damaged, or ``device`` is not ``cpu``.
    """
    if device != "cpu":
        raise ModelError(f"the runtime engine computes on the CPU, not on {device}")
    return EngineModel(path)


def _context(description: dict[str, Any]) -> Context:
    if not description["streams"]:
        return FullContext()
    return ChunkedContext(
        description["chunk_frames"], description["left_frames"], description["lookahead_frames"]
    )


def _recipe(runtime: EngineRuntime) -> Recipe:
    description, subnet = runtime.model.description, runtime.subnet
    training: dict[str, Any] = {"subnets": ["server"]}
    if isinstance(subnet.context, ChunkedContext):
        context = subnet.context
        training = {
            "subnets": ["device"],
            "device_subnet": {
                "chunk_frames": context.chunk,
                "left_frames": context.left,
                "lookahead_frames": context.lookahead,
            },
        }
    tree = {
        "name": runtime.model.card.get("name", "artifact"),
        "model": {"frame_ms": runtime.framing.frame_ms},
        "pruning": {"sparsities": [subnet.sparsity or 0.7]},
        "data": {"max_seconds": description["longest_piece_s"]},
        "decoding": {"blank_penalty": description["blank_penalty"]},
        "training": training,
    }
    return parse_recipe(tree, "the artifact")
