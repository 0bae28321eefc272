"""The artifact of the device engine, a little-endian file; see docs/formats/engine_artifact.md.

This module writes and reads the file; :mod:`dualmode.export.engine` creates it from a supernet.
Constants equal those of ``engine/src/artifact.h``.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualmode.errors import ModelError
from dualmode.whole_files import replace_bytes

MAGIC = b"DUALMODE"
VERSIONS = (1, 2)  # version 2 has the length of a frame; frames of 40 ms are written as version 1
ALIGNMENT = 64
_HEADER = struct.Struct("<8sIIQ10I")
_TENSOR = struct.Struct("<4H2I2Q")

Floats = npt.NDArray[np.float32]


class Role(IntEnum):
    """The role of a tensor in the network."""

    MEAN = 1
    DEVIATION = 2
    FIRST_CONVOLUTION = 3
    FIRST_CONVOLUTION_BIAS = 4
    SECOND_CONVOLUTION = 5
    SUBSAMPLING_OUT = 6
    THIRD_CONVOLUTION = 7
    FIRST_NORM = 16
    FIRST_EXPAND = 17
    FIRST_CONTRACT = 18
    ATTENTION_NORM = 19
    PROJECT = 20
    ATTENTION_OUT = 21
    CONVOLUTION_NORM = 22
    GATE = 23
    DEPTHWISE = 24
    DEPTHWISE_BIAS = 25
    CONVOLUTION_OUT = 26
    SECOND_NORM = 27
    SECOND_EXPAND = 28
    SECOND_CONTRACT = 29
    FINAL_NORM = 48
    FROM_FRAMES = 49
    EMBEDDING = 50
    MIX = 51
    FROM_PREDICTIONS = 52
    OUT = 53


class Encoding(IntEnum):
    """The layout of a tensor's payload."""

    VALUES_F32 = 1
    VALUES_F16 = 2
    ROWS_I8 = 3
    MATRIX_F32 = 4
    MATRIX_I8 = 5


class Block(IntEnum):
    """The shape of a block of weights, which is kept or pruned as a whole."""

    DENSE = 0
    B8X1 = 1
    B8X4 = 2
    B16X1 = 3


BLOCK_SIZES = {Block.B8X1: (8, 1), Block.B8X4: (8, 4), Block.B16X1: (16, 1)}


@dataclass(frozen=True)
class Settings:
    """Sizes, context, features and decoding, in the order of the file."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    kernel_frames: int
    subsampling_channels: int
    predictor_width: int
    context_tokens: int
    joiner_width: int
    vocabulary: int
    streams: int
    chunk: int
    left: int
    lookahead: int
    sample_rate_hz: int
    frame_shift: int
    frame_length: int
    fft_length: int
    mels: int
    low_hz: float
    high_hz: float
    preemphasis: float
    blank_penalty: float
    sparsity: float
    tail_s: float
    longest_piece_s: float
    frame_ms: int

    @property
    def version(self) -> int:
        """Version of the format that can hold them."""
        return 1 if self.frame_ms == 40 else 2

    def pack(self) -> bytes:
        """Serialise as 19 unsigned integers and 7 floats of 32 bits; in version 2, one more
        integer."""
        *settings, frame_ms = (getattr(self, f.name) for f in fields(self))
        packed = struct.pack("<19I7f", *settings)
        return packed if self.version == 1 else packed + struct.pack("<I", frame_ms)

    @classmethod
    def unpack(cls, data: bytes, version: int) -> Settings:
        """Undo :meth:`pack`."""
        frame_ms = struct.pack("<I", 40) if version == 1 else b""
        return cls(*struct.unpack("<19I7fI", data + frame_ms))


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: role, sizes and payload."""

    role: Role
    layer: int
    encoding: Encoding
    block: Block
    rows: int
    columns: int
    payload: bytes


@dataclass(frozen=True)
class Artifact:
    """The contents of the file."""

    settings: Settings
    pieces: tuple[str, ...]
    card: dict[str, Any]
    tensors: tuple[Tensor, ...]

    def to_bytes(self) -> bytes:
        """Serialise the file."""
        settings = self.settings.pack()
        pieces = b"".join(struct.pack("<H", len(p)) + p for p in map(_utf8, self.pieces))
        card = json.dumps(self.card, ensure_ascii=False, separators=(",", ":")).encode()
        table_bytes = _TENSOR.size * len(self.tensors)
        body = bytearray(_HEADER.size)
        places = []
        for part in (settings, pieces, card, bytes(table_bytes)):
            body += bytes(-len(body) % 4)
            places += [len(body), len(part)]
            body += part
        table_at, places[-1] = places[-2], len(self.tensors)
        for number, t in enumerate(self.tensors):
            body += bytes(-len(body) % ALIGNMENT)
            entry = (t.role, t.layer, t.encoding, t.block, t.rows, t.columns)
            at = table_at + number * _TENSOR.size
            _TENSOR.pack_into(body, at, *entry, len(body), len(t.payload))
            body += t.payload
        _HEADER.pack_into(body, 0, MAGIC, self.settings.version, 0, len(body), *places, 0, 0)
        struct.pack_into("<I", body, 12, zlib.crc32(memoryview(body)[16:]))
        return bytes(body)

    def write(self, path: Path) -> int:
        """Write the file atomically; returns its size in bytes.

        Raises:
            ModelError: it cannot be written.
        """
        data = self.to_bytes()
        try:
            replace_bytes(path, data)
        except OSError as error:
            raise ModelError(f"{path} cannot be written: {error}") from None
        return len(data)


def read_artifact(path: Path) -> Artifact:
    """Read a file written by :meth:`Artifact.write`.

    Raises:
        ModelError: it is missing, damaged, or has another version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if len(data) < _HEADER.size or data[:8] != MAGIC:
        raise ModelError(f"{path} is not an artifact: create one with dualmode export engine")
    _, version, checksum, size, *places = _HEADER.unpack_from(data)
    if version not in VERSIONS:
        read = " and ".join(map(str, VERSIONS))
        raise ModelError(f"{path} has format version {version}, but dualmode reads {read}")
    if size != len(data) or checksum != zlib.crc32(memoryview(data)[16:]):
        raise ModelError(f"{path} is truncated or damaged: export it again, or copy it again")
    parts = [data[at : at + count] for at, count in zip(places[:6:2], places[1:6:2], strict=True)]
    settings = Settings.unpack(parts[0], version)
    table_at, count = places[6:8]
    entries = [_TENSOR.unpack_from(data, table_at + i * _TENSOR.size) for i in range(count)]
    tensors = (
        Tensor(Role(r), n, Encoding(e), Block(b), rows, columns, data[at : at + length])
        for r, n, e, b, rows, columns, at, length in entries
    )
    return Artifact(settings, _pieces(parts[1]), json.loads(parts[2]), tuple(tensors))


def pad(payload: bytes) -> bytes:
    """Append zeros up to the alignment."""
    return payload + bytes(-len(payload) % ALIGNMENT)


def values(values: Floats, *, half: bool) -> tuple[Encoding, bytes]:
    """Serialise values as floats of 16 or 32 bits."""
    encoding = Encoding.VALUES_F16 if half else Encoding.VALUES_F32
    return encoding, values.astype("<f2" if half else "<f4").tobytes()


def quantize_rows(weight: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int8]]:
    """Quantise a weight to scales (rows,) and integers (rows, columns) from -127 to 127.

    Scales are rounded up to 16 bits before the integers are computed, so that this rounding adds
    no error.
    """
    exact = np.abs(weight).max(axis=1, initial=0.0) / 127.0
    scale = np.maximum(exact, 1e-7).astype(np.float16)
    scale = np.where(scale < exact, np.nextafter(scale, np.float16(np.inf)), scale)
    integers = np.rint(weight / scale.astype(np.float32)[:, None])
    return scale.astype("<f2"), np.clip(integers, -127, 127).astype(np.int8)


def rows_int8(weight: Floats) -> bytes:
    """Serialise rows as int8 with one scale per row."""
    scale, integers = quantize_rows(weight)
    return pad(scale.tobytes()) + integers.tobytes()


def matrix_int8(
    weight: Floats, bias: Floats, kept: npt.NDArray[np.bool_] | None, block: Block
) -> bytes:
    """Serialise a linear map in quads: groups of 8 or 16 outputs, four kept columns at a time.

    Args:
        weight: (outputs, inputs); pruned weights are ignored.
        bias: (outputs,).
        kept: mask (block rows, block columns); None for dense.
        block: shape of the blocks of ``kept``.
    """
    tall, wide = BLOCK_SIZES.get(block, (8, 4))
    groups = -(-weight.shape[0] // tall)
    full = np.zeros((groups * tall, -(-weight.shape[1] // wide) * wide), np.float32)
    full[: weight.shape[0], : weight.shape[1]] = weight
    if kept is not None:
        full *= kept.repeat(tall, axis=0).repeat(wide, axis=1)
    scale, integers = quantize_rows(full)
    head = scale[: weight.shape[0]].tobytes() + bias.astype("<f2").tobytes()
    grouped = integers.reshape(groups, tall, -1)
    quads = []
    for group in range(groups):
        columns = grouped[group]
        if kept is not None:
            columns = columns[:, kept[group].repeat(wide)]
        padded = np.pad(columns, ((0, 0), (0, -columns.shape[1] % 4)))
        quads.append(padded.reshape(tall, -1, 4).transpose(1, 0, 2).tobytes())
    return pad(head) + _bitmap(kept) + b"".join(quads)


def matrix_fp32(weight: Floats, bias: Floats, kept: npt.NDArray[np.bool_] | None) -> bytes:
    """Serialise a linear map as floats, in blocks of 8 x 1; arguments as in matrix_int8."""
    groups = -(-weight.shape[0] // 8)
    full = np.zeros((groups * 8, weight.shape[1]), "<f4")
    full[: weight.shape[0]] = weight
    grouped = full.reshape(groups, 8, -1).transpose(0, 2, 1)
    blocks = grouped.reshape(-1, 8) if kept is None else grouped[kept]
    return pad(bias.astype("<f4").tobytes()) + _bitmap(kept) + blocks.tobytes()


def _bitmap(kept: npt.NDArray[np.bool_] | None) -> bytes:
    if kept is None:
        return b""
    return pad(np.packbits(kept, axis=1, bitorder="little").tobytes())


def _utf8(text: str) -> bytes:
    return text.encode()


def _pieces(data: bytes) -> tuple[str, ...]:
    pieces, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<H", data, at)
        pieces.append(data[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return tuple(pieces)


def payload_bytes(tensors: Sequence[Tensor]) -> int:
    """Total size of tensors in bytes, without padding."""
    return sum(len(t.payload) for t in tensors)
