"""Products of an ONNX graph in int8: weights by output channel, activations as they come."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dualmode.errors import ExportError


def quantize_graph(source: Path, out: Path) -> None:
    """Write a graph with its matrix products in int8 (DynamicQuantizeLinear and MatMulInteger).

    Each output of a weight has its own scale: with one scale a weight, some Conformers lose much
    accuracy. Weights use 7 of their 8 bits, because the int8 instructions of processors without
    VNNI saturate when they add two products of 8 bits.

    Raises:
        ExportError: the packages that quantising needs are missing.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise ExportError("int8 needs more packages: pip install 'dualmode[onnx]'") from None
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    # It advises a preparation that the exporter has already done.
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            source,
            part,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    os.replace(part, out)
