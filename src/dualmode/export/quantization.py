"""Dynamic int8 quantisation of the matrix products of an ONNX graph, per output channel."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dualmode.errors import ExportError


def quantize_graph(source: Path, out: Path) -> None:
    """Write a graph with its matrix products in int8 (DynamicQuantizeLinear and MatMulInteger).

    Each output channel has its own scale, because some Conformers lose much accuracy with one
    scale per weight. Weights use 7 of 8 bits, because the int8 instructions of processors without
    VNNI saturate when they add two 8-bit products.

    Raises:
        ExportError: the packages that quantising needs are missing.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise ExportError("int8 needs more packages: pip install 'dualmode[onnx]'") from None
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    # It recommends a preparation that the exporter has already done.
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
