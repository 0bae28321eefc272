"""Runtimes: implementations of the network behind one interface.

Searches, streams and the recogniser use a model through three protocols. They exchange NumPy
arrays, so they depend neither on torch nor on any other library of a runtime:

- :class:`Scorer`: predictor and joiner;
- :class:`Runtime`: one subnet, ready to run: a scorer with an encoder;
- :class:`RuntimeModel`: a loaded model, which opens a :class:`Runtime` for a subnet.

:func:`load_runtime` selects a runtime by name or by the kind of path. A runtime is a module with
``load(path, device) -> RuntimeModel``, listed in ``RUNTIMES`` below. Runtimes do not process text.

    dualmode.runtime.pytorch   PyTorch, every subnet of a model directory
    dualmode.runtime.onnx      ONNX Runtime, the recognisers of an export; no torch
    dualmode.runtime.engine    the device engine, the recogniser of an artifact; no torch
    dualmode.runtime.arrays    functions shared by the runtimes that use NumPy arrays
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
from dualmode.features import Framing
from dualmode.model.subnet import Context, Subnet
from dualmode.text import Tokens

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
State = tuple[Any, ...]
"""The past of B streams: arrays, of a library that the runtime chooses, whose first dimension is
the batch. :meth:`Runtime.join` and :meth:`Runtime.split` stack and split them."""


class Scorer(Protocol):
    """A stateless predictor and a joiner, as searches use them.

    The context of a hypothesis is its last ``context_tokens`` tokens, oldest first; an utterance
    begins with blanks.
    """

    @property
    def context_tokens(self) -> int:
        """Number of tokens that the predictor depends on."""
        ...

    def predict(self, context: Ids) -> Floats:
        """Contexts (B, context_tokens) -> predictions (B, J)."""
        ...

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        """Frames (B, J) and predictions (B, J) -> log-probabilities (B, V)."""
        ...


class Runtime(Scorer, Protocol):
    """One subnet of a model, ready to run.

    The past is passed in and returned as a state, so one runtime serves any number of streams and
    may be called by several threads. Frames are projected to the joiner's width J, the input of the
    scorer.
    """

    @property
    def context(self) -> Context:
        """The context of a frame: chunk, left context and look-ahead, or the whole utterance."""
        ...

    @property
    def framing(self) -> Framing:
        """How its frames lie on mel frames."""
        ...

    @property
    def chunks_a_step(self) -> int:
        """Largest number of chunks in one call of :meth:`step`, at least 1."""
        ...

    def encode(self, mels: Floats, lengths: Ids) -> tuple[Floats, Ids]:
        """Encode whole utterances.

        Args:
            mels: (B, M, 80) mel frames.
            lengths: (B,) numbers of valid mel frames.
        Returns:
            frames (B, T, J), and the numbers of valid frames (B,).
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

        However the audio is divided into steps, the frames equal those of :meth:`encode`. The
        state that is passed in is not modified.

        Args:
            mels: (B, M, 80) with ``M = framing.mels_read(N C + R)``: N chunks and their look-ahead
                of R frames; the next call begins N C frames later. Beyond the end of a stream, pass
                zeros.
            counts: (B,) how many of the N C + R frames exist: all, except at the end of a stream.
        Returns:
            frames (B, N C, J), the first ``min(counts, N C)`` of them valid, and the state to
            pass to the next call.
        """
        ...

    def join(self, states: Sequence[State]) -> State:
        """Concatenate the states of several batches of streams, in order."""
        ...

    def split(self, state: State) -> list[State]:
        """Split into one state per stream; none keeps the memory of the others alive."""
        ...


class RuntimeModel(Protocol):
    """A model loaded by a runtime."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the model, which defines ``device``."""
        ...

    @property
    def tokens(self) -> Tokens:
        """The vocabulary of the model."""
        ...

    def check(self, subnet: Subnet) -> None:
        """Check that :meth:`open` can open ``subnet``.

        Raises:
            SubnetError: it cannot; the message says what the model contains.
        """
        ...

    def open(self, subnet: Subnet) -> Runtime:
        """The runtime of a subnet.

        Raises:
            SubnetError: the model does not contain it.
        """
        ...

    def keep_only(self, subnet: Subnet) -> None:
        """Free memory that ``subnet`` does not need; opening another subnet then fails."""
        ...


@dataclass(frozen=True)
class RuntimeKind:
    """An entry of ``RUNTIMES``: the module of a runtime, and the paths it is the default for."""

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
        path: a model directory, an export or an artifact.
        runtime: a name of ``RUNTIMES``; None selects the default for ``path``.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the runtime is unknown, a library that it needs is missing, or it cannot load
            ``path``.
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
