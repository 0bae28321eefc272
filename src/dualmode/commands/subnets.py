"""Options for the subnet and the search, shared by several commands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dualmode.errors import SubnetError

if TYPE_CHECKING:
    from dualmode.model.subnet import ChunkedContext, Subnet
    from dualmode.recognizer import Recognizer

SubnetName = Literal["server", "device"]

SubnetOption = Annotated[
    SubnetName,
    typer.Option("--subnet", help="server: dense, full context. device: sparse, streaming."),
]
SearchOption = Annotated[
    Literal["greedy", "beam"],  # decoding.search.SearchName, which --help must not import
    typer.Option("--search", help="greedy is faster; beam keeps four hypotheses."),
]
SparsityOption = Annotated[
    float | None,
    typer.Option("--sparsity", help="A sparsity that the model was trained with; 0 is dense."),
]
ChunkOption = Annotated[
    int | None,
    typer.Option(
        "--chunk-ms", help="Chunk of device in milliseconds, a multiple of a frame (40 or 80)."
    ),
]
LookaheadOption = Annotated[
    int | None,
    typer.Option("--lookahead-ms", help="Look-ahead of device in milliseconds."),
]
LeftOption = Annotated[
    int | None,
    typer.Option("--left-ms", help="Left context of device in milliseconds."),
]
RunOnOption = Annotated[
    str, typer.Option("--run-on", metavar="cpu|cuda", help="Torch device that runs the network.")
]


def chosen_subnet(
    recognizer: Recognizer,
    name: str | None,
    *,
    sparsity: float | None = None,
    chunk_ms: int | None = None,
    lookahead_ms: int | None = None,
    left_ms: int | None = None,
) -> Subnet:
    """The named or default subnet, changed by the options.

    Raises:
        SubnetError: chunk options for full context, a time that is not a multiple of a frame, or
            a sparsity that the model was not trained with.
    """
    from dualmode.model.subnet import ChunkedContext

    subnet = recognizer.subnet(name)
    times = {"chunk": chunk_ms, "lookahead": lookahead_ms, "left": left_ms}
    frame_ms = recognizer.framing.frame_ms
    changed = {field: _frames(field, ms, frame_ms) for field, ms in times.items() if ms is not None}
    if changed and not isinstance(subnet.context, ChunkedContext):
        raise SubnetError(
            f"{name or 'the default'} has full context and no chunks: add --subnet device"
        )
    if isinstance(subnet.context, ChunkedContext):
        subnet = replace(subnet, context=_context(subnet.context, changed, frame_ms))
    if sparsity is not None:
        subnet = replace(subnet, sparsity=sparsity)
    return recognizer.subnet(subnet)


def _frames(option: str, milliseconds: int, frame_ms: int) -> int:
    if milliseconds % frame_ms:
        below = milliseconds // frame_ms * frame_ms
        raise SubnetError(
            f"--{option}-ms {milliseconds}: must be a multiple of {frame_ms}, the length of a "
            f"frame of this model: try {below or frame_ms}"
        )
    return milliseconds // frame_ms


def _context(context: ChunkedContext, changed: dict[str, int], frame_ms: int) -> ChunkedContext:
    try:
        return replace(context, **changed)
    except ValueError as error:
        raise SubnetError(f"no such context: {error} (in frames of {frame_ms} ms)") from None
