"""Export a subnet of a supernet as an artifact of the device engine.

Large tensors are int8: linear maps, the second and third convolution and the embedding. Small ones
(norms, biases, scales, the depthwise and the first convolution) have 16 bits. With ``fp32`` all
have 32 bits, for tests that compare tokens exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor as Parameter
from torch.nn import functional as F

from dualmode import __version__
from dualmode.audio import SAMPLE_RATE_HZ
from dualmode.decoding.pieces import LONGEST_S
from dualmode.decoding.stream import TAIL_S
from dualmode.export.artifact import (
    Artifact,
    Block,
    Encoding,
    Role,
    Settings,
    Tensor,
    matrix_fp32,
    matrix_int8,
    rows_int8,
    values,
)
from dualmode.features import MELS
from dualmode.model.directory import LoadedModel
from dualmode.model.layers import ConformerLayer, Norms
from dualmode.model.masks import PrunableLinear
from dualmode.model.subnet import ChunkedContext, Subnet
from dualmode.model.transducer import transducer_mask

Weights = Literal["int8", "fp32"]
Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Exported:
    """Sizes of an exported artifact.

    Attributes:
        dense_fp32_bytes: size of the same recogniser with dense 32-bit weights.
    """

    path: Path
    total_bytes: int
    dense_fp32_bytes: int

    @property
    def share(self) -> float:
        """Size relative to the dense recogniser in 32 bits."""
        return self.total_bytes / self.dense_fp32_bytes


def export_engine(
    loaded: LoadedModel, subnet: Subnet, out: Path, *, weights: Weights = "int8"
) -> Exported:
    """Write one recogniser for the device engine.

    Raises:
        SubnetError: the model does not contain the subnet.
        ModelError: the file cannot be written.
    """
    artifact = engine_artifact(loaded, subnet, weights=weights)
    dense = sum(4 * t.rows * t.columns + 4 * _biases(t) for t in artifact.tensors)
    return Exported(out, artifact.write(out), dense)


def engine_artifact(loaded: LoadedModel, subnet: Subnet, *, weights: Weights = "int8") -> Artifact:
    """Create the artifact of one recogniser. Raises SubnetError like :func:`export_engine`."""
    with torch.no_grad():
        tensors = tuple(_Exporter(loaded, subnet, weights).tensors())
    parameters = sum(t.rows * t.columns + _biases(t) for t in tensors)
    card = {
        "name": loaded.recipe.name,
        "made_by": f"dualmode {__version__}",
        "parameters": parameters,
        "sparsity": subnet.sparsity,
        "weights": weights,
    }
    return Artifact(_settings(loaded, subnet), tuple(loaded.tokens.pieces), card, tensors)


def _biases(tensor: Tensor) -> int:
    return tensor.rows if tensor.encoding in (Encoding.MATRIX_I8, Encoding.MATRIX_F32) else 0


def _settings(loaded: LoadedModel, subnet: Subnet) -> Settings:
    model, context = loaded.recipe.model, subnet.context
    chunked = context if isinstance(context, ChunkedContext) else None
    return Settings(
        width=model.width,
        layers=model.layers,
        heads=model.heads,
        feed_forward=model.feed_forward,
        kernel_frames=model.kernel_frames,
        subsampling_channels=model.subsampling_channels,
        predictor_width=model.predictor_width,
        context_tokens=model.context_tokens,
        joiner_width=model.joiner_width,
        vocabulary=loaded.tokens.size,
        streams=int(chunked is not None),
        chunk=chunked.chunk if chunked else 0,
        left=chunked.left if chunked else 0,
        lookahead=chunked.lookahead if chunked else 0,
        sample_rate_hz=SAMPLE_RATE_HZ,
        frame_shift=160,
        frame_length=400,
        fft_length=512,
        mels=MELS,
        low_hz=20.0,
        high_hz=7600.0,
        preemphasis=0.97,
        blank_penalty=loaded.recipe.decoding.blank_penalty,
        sparsity=subnet.sparsity,
        tail_s=TAIL_S,
        longest_piece_s=max(2.0, min(LONGEST_S, loaded.recipe.data.max_seconds)),
        frame_ms=model.frame_ms,
    )


class _Exporter:
    """Exports the tensors of a supernet in the order of computation."""

    def __init__(self, loaded: LoadedModel, subnet: Subnet, weights: Weights) -> None:
        self._model = loaded.model
        self._active = loaded.model.active_weights(subnet)
        self._int8 = weights == "int8"

    def tensors(self) -> Iterator[Tensor]:
        model = self._model
        subsampling, pruning = model.encoder.subsampling, model.pruning
        yield self._values(Role.MEAN, 0, subsampling.mean[None], exact=True)
        yield self._values(Role.DEVIATION, 0, subsampling.deviation[None], exact=True)
        first, second, out = subsampling.first, subsampling.second, subsampling.out
        yield self._values(Role.FIRST_CONVOLUTION, 0, first.weight.flatten(1))
        yield self._values(Role.FIRST_CONVOLUTION_BIAS, 0, _bias(first)[None])
        yield self._matrix(Role.SECOND_CONVOLUTION, 0, second.weight.flatten(1), _bias(second))
        if (third := subsampling.third) is not None:
            yield self._matrix(Role.THIRD_CONVOLUTION, 0, third.weight.flatten(1), _bias(third))
        # The order is (bin, channel) in torch, (channel, bin) in the engine.
        channels = second.weight.shape[0]
        turned = out.weight.reshape(len(out.weight), -1, channels).transpose(1, 2).flatten(1)
        yield self._matrix(Role.SUBSAMPLING_OUT, 0, turned, _bias(out))
        for number, layer in enumerate(model.encoder.layers):
            assert isinstance(layer, ConformerLayer)
            yield from self._layer(number, layer)
        yield self._norm(Role.FINAL_NORM, 0, model.encoder.norm)
        mask = transducer_mask(pruning, self._active.mask)
        yield self._linear(Role.FROM_FRAMES, 0, model.joiner.from_frames, mask)
        embedding = model.predictor.embedding.weight
        yield self._rows(Role.EMBEDDING, 0, embedding)
        yield self._linear(Role.MIX, 0, model.predictor.mix, mask)
        yield self._linear(Role.FROM_PREDICTIONS, 0, model.joiner.from_predictions, mask)
        yield self._linear(Role.OUT, 0, model.joiner.out, mask)

    def _layer(self, number: int, layer: ConformerLayer) -> Iterator[Tensor]:
        mask = self._active.mask
        first, second = layer.first, layer.second
        attention, convolution = layer.attention, layer.convolution
        yield self._norm(Role.FIRST_NORM, number, first.norm)
        yield self._linear(Role.FIRST_EXPAND, number, first.expand, mask)
        yield self._linear(Role.FIRST_CONTRACT, number, first.contract, mask)
        yield self._norm(Role.ATTENTION_NORM, number, attention.norm)
        yield self._linear(Role.PROJECT, number, attention.project, mask)
        yield self._linear(Role.ATTENTION_OUT, number, attention.out, mask)
        yield self._norm(Role.CONVOLUTION_NORM, number, convolution.norm)
        yield self._linear(Role.GATE, number, convolution.gate, mask)
        depthwise = convolution.depthwise
        yield self._values(Role.DEPTHWISE, number, depthwise.weight.flatten(1))
        yield self._values(Role.DEPTHWISE_BIAS, number, _bias(depthwise)[None])
        yield self._linear(Role.CONVOLUTION_OUT, number, convolution.out, mask)
        yield self._norm(Role.SECOND_NORM, number, second.norm)
        yield self._linear(Role.SECOND_EXPAND, number, second.expand, mask)
        yield self._linear(Role.SECOND_CONTRACT, number, second.contract, mask)

    def _norm(self, role: Role, layer: int, norms: Norms) -> Tensor:
        chosen = min(self._active.norm, len(norms.gain) - 1)
        return self._values(role, layer, torch.stack([norms.gain[chosen], norms.bias[chosen]]))

    def _values(self, role: Role, layer: int, tensor: Parameter, *, exact: bool = False) -> Tensor:
        encoding, payload = values(_array(tensor), half=self._int8 and not exact)
        return Tensor(role, layer, encoding, Block.DENSE, *_shape(tensor), payload)

    def _rows(self, role: Role, layer: int, tensor: Parameter) -> Tensor:
        if not self._int8:
            return self._values(role, layer, tensor)
        payload = rows_int8(_array(tensor))
        return Tensor(role, layer, Encoding.ROWS_I8, Block.DENSE, *_shape(tensor), payload)

    def _linear(self, role: Role, layer: int, linear: PrunableLinear, mask: int | None) -> Tensor:
        bias = linear.bias
        assert bias is not None
        if mask is None:
            return self._matrix(role, layer, linear.weight, bias)
        kept, block = self._blocks(linear, mask)
        return self._matrix(role, layer, linear.effective_weight(mask), bias, kept, block)

    def _blocks(self, linear: PrunableLinear, mask: int) -> tuple[Kept, Block]:
        """The mask in blocks that the engine supports: its own, or 8 x 1 blocks that cover it."""
        own = {(8, 4): Block.B8X4, (16, 1): Block.B16X1}.get(linear.block)
        if own is not None and self._int8:
            return linear.blocks[mask].numpy(), own
        full = linear.expand(linear.blocks[mask])
        padded = F.pad(full, (0, 0, 0, -full.shape[0] % 8))
        return padded.reshape(-1, 8, full.shape[1]).any(dim=1).numpy(), Block.B8X1

    def _matrix(
        self,
        role: Role,
        layer: int,
        weight: Parameter,
        bias: Parameter,
        kept: Kept | None = None,
        block: Block = Block.DENSE,
    ) -> Tensor:
        arrays = _array(weight), _array(bias)
        if self._int8:
            encoding, payload = Encoding.MATRIX_I8, matrix_int8(*arrays, kept, block)
        else:
            encoding, payload = Encoding.MATRIX_F32, matrix_fp32(*arrays, kept)
        return Tensor(role, layer, encoding, block, *_shape(weight), payload)


def _bias(module: torch.nn.Conv2d | torch.nn.Linear) -> Parameter:
    assert module.bias is not None
    return module.bias


def _shape(tensor: Parameter) -> tuple[int, int]:
    rows, columns = tensor.shape
    return rows, columns


def _array(tensor: Parameter) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().cpu().float().contiguous().numpy()
    return array
