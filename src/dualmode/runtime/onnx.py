"""The runtime ``onnx``: an export of ``dualmode export sherpa-onnx``, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from dualmode.config import Recipe
from dualmode.errors import ModelError, RecipeError, SubnetError, TextError
from dualmode.features import Framing
from dualmode.model.subnet import ChunkedContext, Context, FullContext, Subnet, named_subnet
from dualmode.recipe_files import load_recipe
from dualmode.runtime import Floats, Ids, State
from dualmode.runtime.arrays import encode_by_steps, join_arrays, log_softmax, split_arrays
from dualmode.text import BLANK, Tokens

NAMES = ("device", "server")
ABSENT = -1e9  # marks a mel frame that does not exist; no log-mel is this low


class OnnxModel:
    """The recognisers of one export.

    Args:
        folder: contains config.yaml, tokens.model, and a folder ``device``, ``server`` or both.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.recipe: Recipe = load_recipe(folder / "config.yaml")
            self.tokens = Tokens.load(folder)
        except (RecipeError, TextError) as error:
            raise ModelError(f"{folder} is not an export of a model: {error}") from None
        framing = Framing(self.recipe.model.frame_ms)
        self._runtimes = {
            name: OnnxRuntime(folder / name, framing)
            for name in NAMES
            if is_recogniser(folder / name)
        }
        if not self._runtimes:
            raise ModelError(f"{folder} has neither device nor server: export the model again")

    def check(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        self.open(subnet)

    def open(self, subnet: Subnet) -> OnnxRuntime:
        """See :class:`~dualmode.runtime.RuntimeModel`.

        Only exported recognisers can be opened; the recipe's device means the exported one.
        """
        for name, runtime in self._runtimes.items():
            if subnet == runtime.subnet or subnet == named_subnet(name, self.recipe):
                return runtime
        held = "; ".join(f"{name}: {one.subnet}" for name, one in self._runtimes.items())
        raise SubnetError(f"the export does not contain {subnet}, only {held}: export it first")

    def keep_only(self, subnet: Subnet) -> None:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        kept = self.open(subnet)
        self._runtimes = {n: one for n, one in self._runtimes.items() if one is kept}


class OnnxRuntime:
    """One recogniser: the sessions of its encoder, predictor and joiner.

    The graphs give frames of 40 ms: those of 80 ms are repeated, and the copies are dropped here.
    """

    chunks_a_step = 1

    def __init__(self, folder: Path, framing: Framing) -> None:
        self.framing = framing
        self._copies = framing.shortest_frames
        self._encoder = _session(folder / "encoder.onnx")
        self._predictor = _session(folder / "decoder.onnx")
        self._joiner = _session(folder / "joiner.onnx")
        properties = self._encoder.get_modelmeta().custom_metadata_map
        predictor = self._predictor.get_modelmeta().custom_metadata_map
        try:
            self.context_tokens = int(predictor["context_size"])
            self.subnet = Subnet(_context(properties, framing), float(properties["sparsity"]))
            penalty = self._joiner.get_modelmeta().custom_metadata_map["blank_penalty"]
        except (KeyError, ValueError) as error:
            raise ModelError(
                f"{folder}: not written by dualmode, or by an older version: {error}"
            ) from None
        # The exported joiner subtracts the penalty, but the searches here subtract it themselves.
        self._blank_penalty = np.float32(penalty)

    @property
    def context(self) -> Context:
        return self.subnet.context

    def predict(self, context: Ids) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        predictions: Floats = _run(self._predictor, context.astype(np.int64))[0]
        return predictions

    def score(self, frames: Floats, predictions: Floats) -> Floats:
        """See :class:`~dualmode.runtime.Scorer`."""
        logits: Floats = _run(self._joiner, frames, predictions)[0]
        if self._blank_penalty:
            logits[:, BLANK] += self._blank_penalty
        return log_softmax(logits)

    def encode(self, mels: Floats, lengths: Ids) -> tuple[Floats, Ids]:
        """See :class:`~dualmode.runtime.Runtime`."""
        if isinstance(self.context, ChunkedContext):
            return encode_by_steps(self, mels, lengths)
        frames, counts = _run(self._encoder, mels, lengths.astype(np.int64))
        frames, counts = frames[:, :: self._copies], counts // self._copies
        return frames[:, : int(counts.max(initial=0))], counts

    def initial_state(self, batch: int) -> State:
        """See :class:`~dualmode.runtime.Runtime`."""
        if not isinstance(self.context, ChunkedContext):
            raise SubnetError(
                "a subnet with full context needs the whole utterance and cannot stream; use device"
            )
        *states, processed = self._encoder.get_inputs()[1:]
        zeros = [np.zeros((batch, *state.shape[1:]), np.float32) for state in states]
        return (*zeros, np.zeros((batch, *processed.shape[1:]), np.int64))

    def step(self, mels: Floats, counts: Ids, state: State) -> tuple[Floats, State]:
        """See :class:`~dualmode.runtime.Runtime`."""
        framing = self.framing
        present = np.where(counts > 0, framing.overlap_mels + framing.stride_mels * counts, 0)
        absent = np.arange(mels.shape[1]) >= present[:, None]
        if absent.any():
            mels = np.where(absent[..., None], np.float32(ABSENT), mels)
        frames, *after = _run(self._encoder, mels, *state)
        return frames[:, :: self._copies], tuple(after)

    def join(self, states: Sequence[State]) -> State:
        """See :class:`~dualmode.runtime.Runtime`."""
        return join_arrays(states)

    def split(self, state: State) -> list[State]:
        """See :class:`~dualmode.runtime.Runtime`."""
        return split_arrays(state)


def load(path: Path, device: str = "cpu") -> OnnxModel:
    """Load an export.

    Raises:
        ModelError: it is missing, incomplete or corrupt, or ``device`` is not ``cpu``.
    """
    if device != "cpu":
        raise ModelError(f"the runtime onnx computes on the CPU, not on {device}")
    return OnnxModel(path)


def is_recogniser(folder: Path) -> bool:
    """Whether a folder holds an exported recogniser."""
    return (folder / "encoder.onnx").is_file()


def _context(properties: dict[str, str], framing: Framing) -> Context:
    if "decode_chunk_len" not in properties:
        return FullContext()
    chunk = int(properties["decode_chunk_len"]) // framing.stride_mels
    window = framing.frames(int(properties["T"]))
    return ChunkedContext(chunk, int(properties["left_context_len"]), window - chunk)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no common base class
        raise ModelError(f"{path} cannot be loaded: {error}") from None


def _run(
    session: onnxruntime.InferenceSession,
    *arrays: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> list[Any]:
    names = [given.name for given in session.get_inputs()]
    outputs: list[Any] = session.run(None, dict(zip(names, arrays, strict=True)))
    return outputs
