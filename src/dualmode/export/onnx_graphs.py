"""The parts of a recogniser as ONNX graphs, with the inputs and outputs of sherpa-onnx.

Frames last 40 ms, from which sherpa-onnx derives times and endpoints. A model with frames of 80 ms
is exported with each frame repeated: greedy search, which emits at most one symbol a frame in
sherpa-onnx, may then emit two on a frame of the model, as a transducer does.

sherpa-onnx passes tensors by position, so their order matters and their names do not. Pruned
weights of a sparse subnet are written as zeros.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualmode.errors import ExportError
from dualmode.model.encoder import EncoderState
from dualmode.model.layers import LayerState
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.model.supernet import Supernet
from dualmode.model.transducer import TransducerScorer
from dualmode.text import BLANK

OPSET = 18  # the newest opset of the exporter that ONNX Runtime 1.14 supports
ABSENT_BELOW = -1e8
STATES_PER_LAYER = 4  # key, value, convolution, and an empty one for a fusion convolution


class OnlineEncoder(nn.Module):
    """One step of a stream: mel frames and states in, frames of the joiner's width and states out.

    States are those of sherpa-onnx's streaming ``ebranchformer``, per layer: keys and values
    (N, H, L, D / H), inputs of the depthwise convolution (N, D, reach), and an empty
    (N, 2 D, 0); then the number of frames processed (N,), int64.

    Mel frames below ``ABSENT_BELOW``, a value that audio never reaches, mark frames beyond the end
    of a stream. sherpa-onnx does not use them, since it never runs a partial chunk.
    """

    def __init__(self, net: Supernet, subnet: Subnet, context: ChunkedContext) -> None:
        super().__init__()
        self.net, self.subnet, self.context = net, subnet, context

    def forward(self, mels: Tensor, states: list[Tensor], processed: Tensor) -> tuple[Tensor, ...]:
        """Map mel frames (N, T, 80) of C + R frames, and states, to frames and new states."""
        layers = tuple(
            LayerState(key.transpose(1, 2), value.transpose(1, 2), conv.transpose(1, 2))
            for key, value, conv, _ in _per_layer(states)
        )
        present = mels[..., 0] > ABSENT_BELOW
        counts = self.net.encoder.framing.frame_counts(present.sum(dim=1))
        mels = torch.where(present.unsqueeze(-1), mels, 0.0)
        frames, after = self.net.stream(mels, counts, EncoderState(processed, layers), self.subnet)
        outputs = [repeated(self.net, frames)]
        for new, (_, _, _, fusion) in zip(after.layers, _per_layer(states), strict=True):
            outputs += [new.key.transpose(1, 2), new.value.transpose(1, 2)]
            outputs += [new.conv.transpose(1, 2), fusion + 0.0]
        return (*outputs, after.processed)

    def initial_states(self, batch: int) -> list[Tensor]:
        """States of ``batch`` streams before their first frame, without the count of frames."""
        encoder = self.net.encoder
        attended = (batch, encoder.heads, self.context.left, encoder.width // encoder.heads)
        shapes = (attended, attended, (batch, encoder.width, encoder.reach))
        layer = [torch.zeros(shape) for shape in (*shapes, (batch, 2 * encoder.width, 0))]
        return [state.clone() for _ in encoder.layers for state in layer]


def _per_layer(states: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    for start in range(0, len(states), STATES_PER_LAYER):
        yield states[start : start + STATES_PER_LAYER]


class OfflineEncoder(nn.Module):
    """Whole utterances: (N, M, 80) and lengths (N,) in, (N, T, J) and lengths out."""

    def __init__(self, net: Supernet, subnet: Subnet) -> None:
        super().__init__()
        self.net, self.subnet = net, subnet

    def forward(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map mel frames to frames; those beyond the length of an utterance are undefined."""
        # Padding guarantees at least one frame, so the graph needs no branch.
        padded = F.pad(mels, (0, 0, 0, self.net.encoder.framing.reach_mels))
        frames, counts = self.net.recognize(padded, lengths, self.subnet)
        return repeated(self.net, frames), counts * self.net.encoder.framing.shortest_frames


def repeated(net: Supernet, frames: Tensor) -> Tensor:
    """Frames (N, T, J) of a model as frames of 40 ms."""
    count = net.encoder.framing.shortest_frames
    return frames if count == 1 else frames.repeat_interleave(count, dim=1)


class PredictorGraph(nn.Module):
    """The predictor, projected: last tokens (N, context) int64 -> predictions (N, J)."""

    def __init__(self, scorer: TransducerScorer) -> None:
        super().__init__()
        self.predictor, self.joiner, self.mask = scorer.predictor, scorer.joiner, scorer.mask

    def forward(self, context: Tensor) -> Tensor:
        """Predict from tokens; negative ids, which sherpa-onnx uses at the start, mean blank."""
        predictions = self.predictor(context.clamp_min(0), self.mask)
        output: Tensor = self.joiner.from_predictions(predictions, self.mask)
        return output


class JoinerGraph(nn.Module):
    """The joiner: frames (N, J) and predictions (N, J) -> logits (N, V).

    The recipe's blank penalty is subtracted in the graph, so that runtimes need no setting for it.
    """

    penalty: Tensor

    def __init__(self, scorer: TransducerScorer, vocabulary: int, blank_penalty: float) -> None:
        super().__init__()
        self.joiner, self.mask = scorer.joiner, scorer.mask
        penalty = torch.zeros(vocabulary)
        penalty[BLANK] = blank_penalty
        self.register_buffer("penalty", penalty)

    def forward(self, frames: Tensor, predictions: Tensor) -> Tensor:
        """Logits (N, V)."""
        logits: Tensor = self.joiner(frames, predictions, self.mask)
        return logits - self.penalty


def with_baked_mask(net: Supernet, subnet: Subnet) -> tuple[Supernet, Subnet]:
    """A copy of ``net`` on the CPU with its pruned weights zeroed, and its subnet to run."""
    baked = copy.deepcopy(net).cpu().eval().requires_grad_(False)
    mask = net.active_weights(subnet).mask
    if mask is not None:
        for layer in baked.prunable():
            layer.weight.copy_(layer.effective_weight(mask))
    return baked, replace(subnet, sparsity=0.0)


def write_graph(
    module: nn.Module,
    arguments: tuple[Tensor | list[Tensor], ...],
    path: Path,
    *,
    names: tuple[Sequence[str], Sequence[str]],
    dynamic: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, str | int],
) -> None:
    """Trace ``module`` with example arguments and write it atomically as one ONNX file.

    Args:
        arguments: example arguments of ``module``; dynamic axes must have a size of at least 2.
        names: names of inputs and of outputs, in order.
        dynamic: dynamic axes of each input, with their names.
        metadata: properties of the ONNX model.

    Raises:
        ExportError: the packages that writing ONNX needs are missing.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ExportError(
            "writing ONNX needs more packages: pip install 'dualmode[onnx]'"
        ) from None
    inputs = iter(names[0])
    axes = {
        axis: torch.export.Dim(axis, min=1, max=1 << 20)
        for sizes in dynamic.values()
        for axis in sizes.values()
    }

    def shapes(argument: Tensor | list[Tensor]) -> object:
        if isinstance(argument, list):
            return [shapes(one) for one in argument]
        return {axis: axes[name] for axis, name in dynamic.get(next(inputs), {}).items()}

    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=tuple(shapes(argument) for argument in arguments),
            input_names=list(names[0]),
            output_names=list(names[1]),
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.clear()
    program.model.metadata_props.update({key: str(value) for key, value in metadata.items()})
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    program.save(part, external_data=False)
    os.replace(part, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings about unneeded packages and its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
