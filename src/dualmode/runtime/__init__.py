"""Runtimes: what turns mel frames into frames and scores tokens, behind one seam.

Everything above this room (searches, streams, the recogniser) knows a model through three
protocols, and passes and receives NumPy arrays, so it needs neither torch nor any other library
that a runtime is made with:

- :class:`Scorer`: predictor and joiner, seen from a search;
- :class:`Runtime`: one subnet, ready to run: a scorer with an encoder;
- :class:`RuntimeModel`: a model as one runtime loaded it; opens a :class:`Runtime` for a subnet.

How each is chosen: :func:`load_runtime` (``runtime="torch"``, the default for a model directory).
A runtime is a module with ``load(path, device) -> RuntimeModel``, named in ``RUNTIMES`` below. It
never sees text, and the rest never sees its weights.

    dualmode.runtime.pytorch   PyTorch, every subnet of a model directory
    dualmode.runtime.onnx      ONNX Runtime, the recognisers of an export; no torch
    dualmode.runtime.engine    the device engine, the recogniser of an artifact; no torch
    dualmode.runtime.arrays    what runtimes whose arrays are NumPy's share
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dualmode.config import Recipe
from dualmode.errors import ModelError
from dualmode.model.subnet import Context, Subnet
from dualmode.text import Tokens

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
State = tuple[Any, ...]
"""The past of B streams: arrays whose first dimension is the batch. Of which library they are is
the runtime's own affair; :meth:`Runtime.join` and :meth:`Runtime.split` stack and split them."""


class Scorer(Protocol):
    """A stateless predictor and a joiner, seen from a search.

    The context of a hypothesis is its last ``context_tokens`` tokens, oldest first; an utterance
    begins with blanks.
    """

    @property
    def context_tokens(self) -> int:
        """Tokens that the predictor sees."""
        ...

    def predict(self, context: Ids) -> Floats:
        """Contexts (B, context_tokens) -> predictions (B, J)."""
        ...

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        """Frames (B, J) and predictions (B, J) -> log-probabilities (B, V)."""
        ...


class Runtime(Scorer, Protocol):
    """One subnet of a model, ready to run.

    All of the past is in the state that is passed in and handed back: one runtime serves any
    number of streams, and may be called by several threads. Frames (40 ms) are projected to the
    joiner's width J, as the scorer takes them.
    """

    @property
    def context(self) -> Context:
        """What a frame sees: chunk, left context and look-ahead, or the whole utterance."""
        ...

    @property
    def chunks_a_step(self) -> int:
        """The most chunks that one call of :meth:`step` can take; 1 or more."""
        ...

    def encode(self, mels: Floats, lengths: Ids) -> tuple[Floats, Ids]:
        """Encode whole utterances.

        Args:
            mels: (B, M, 80) mel frames, of which ``lengths`` (B,) are real.
        Returns:
            frames (B, T, J), and how many of them (B,) are real.
        """
        ...

    def initial_state(self, batch: int) -> State:
        """The state of ``batch`` streams before their first sample.

        Raises:
            SubnetError: the subnet has full context, which cannot stream.
        """
        ...

    def step(self, mels: Floats, counts: Ids, state: State) -> tuple[Floats, State]:
        """Advance B streams by N chunks of C frames, 1 <= N <= ``chunks_a_step``.

        With the streams' state before and any split of the audio into steps, frames equal those
        of :meth:`encode`. The state that was passed in is not written into.

        Args:
            mels: (B, 4 (N C + R) + 3, 80): N chunks and their look-ahead of R frames; the next
                call begins 4 N C mel frames later. Zeros stand in past the end of a stream.
            counts: (B,) how many of the N C + R frames exist: all, except at a stream's end.
        Returns:
            frames (B, N C, J), of which the first ``min(counts, N C)`` are real, and the state to
            pass to the next call.
        """
        ...

    def join(self, states: Sequence[State]) -> State:
        """The state of all streams of several states, in their order."""
        ...

    def split(self, state: State) -> list[State]:
        """The state of each stream alone; none keeps the memory of the others alive."""
        ...


class RuntimeModel(Protocol):
    """A model as a runtime loaded it."""

    @property
    def recipe(self) -> Recipe:
        """What the model was trained by; says what ``device`` means."""
        ...

    @property
    def tokens(self) -> Tokens:
        """Its vocabulary."""
        ...

    def check(self, subnet: Subnet) -> None:
        """Nothing, if :meth:`open` could open ``subnet``.

        Raises:
            SubnetError: it could not; the message says what the model holds.
        """
        ...

    def open(self, subnet: Subnet) -> Runtime:
        """The runtime of a subnet.

        Raises:
            SubnetError: the model does not hold it.
        """
        ...

    def keep_only(self, subnet: Subnet) -> None:
        """Free what ``subnet`` does not need, if anything; other subnets are then refused."""
        ...


@dataclass(frozen=True)
class RuntimeKind:
    """A runtime by name: the module that loads it, and which paths it is the default for."""

    module: str
    fits: Callable[[Path], bool]


RUNTIMES: dict[str, RuntimeKind] = {
    "torch": RuntimeKind(
        "dualmode.runtime.pytorch", lambda path: (path / "model.safetensors").is_file()
    ),
    "onnx": RuntimeKind(
        "dualmode.runtime.onnx",
        lambda path: any((path / name / "encoder.onnx").is_file() for name in ("device", "server")),
    ),
    "engine": RuntimeKind(
        "dualmode.runtime.engine", lambda path: path.suffix == ".dual" and path.is_file()
    ),
}


def load_runtime(path: str | Path, runtime: str | None = None, device: str = "cpu") -> RuntimeModel:
    """Load a model.

    Args:
        path: a model directory, or what else a runtime understands.
        runtime: a name of ``RUNTIMES``; None takes the first that ``path`` is made for.
        device: where the network runs, as the runtime names it: ``cpu``, ``cuda``.

    Raises:
        ModelError: no such runtime, a library that it needs is missing, or ``path`` cannot be
            loaded by it.
    """
    place = Path(path)
    if runtime is None:
        runtime = next((name for name, kind in RUNTIMES.items() if kind.fits(place)), "torch")
    if runtime not in RUNTIMES:
        raise ModelError(f"no runtime {runtime!r}: choose one of {', '.join(RUNTIMES)}")
    try:
        module = import_module(RUNTIMES[runtime].module)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"the runtime {runtime} needs the package {error.name}: pip install {error.name}"
        ) from None
    loaded: RuntimeModel = module.load(place, device)
    return loaded
