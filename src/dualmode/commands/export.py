"""``dualmode export``: writes models for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dualmode.commands.subnets import (
    ChunkOption,
    LeftOption,
    LookaheadOption,
    SparsityOption,
    SubnetName,
    chosen_subnet,
)

if TYPE_CHECKING:
    from dualmode.model.directory import LoadedModel
    from dualmode.model.subnet import Subnet
    from dualmode.recognizer import Recognizer

app = typer.Typer(no_args_is_help=True, help="Write a model for another runtime.")


@app.command("sherpa-onnx")
def sherpa_onnx(
    model: Annotated[Path, typer.Argument(help="A model directory, or a shipped model.")],
    out: Annotated[Path, typer.Argument(help="A folder for the graphs.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write encoders and joiners in int8.")
    ] = False,
    sparsity: SparsityOption = None,
    chunk_ms: ChunkOption = None,
    lookahead_ms: LookaheadOption = None,
    left_ms: LeftOption = None,
) -> None:
    """Write device as a streaming and server as an offline transducer for stock sherpa-onnx.

    Needs more packages: pip install 'dualmode[onnx]'. OUT/README.md has the commands to run the
    result.

    \b
    Examples:
      dualmode export sherpa-onnx runs/quickstart/model exported
      dualmode export sherpa-onnx MODEL OUT --int8 --chunk-ms 320
    """
    from dualmode.export.sherpa_onnx import export_sherpa_onnx
    from dualmode.model.directory import CARD
    from dualmode.model.shipped import model_folder

    loaded, recognizer = _opened(model)
    subnets: dict[str, Subnet] = {
        name: recognizer.subnet(name) for name in loaded.recipe.training.subnets
    }
    if "device" in subnets:
        subnets["device"] = chosen_subnet(
            recognizer,
            "device",
            sparsity=sparsity,
            chunk_ms=chunk_ms,
            lookahead_ms=lookahead_ms,
            left_ms=left_ms,
        )
    card = model_folder(model) / CARD
    exported = export_sherpa_onnx(
        loaded,
        out,
        subnets,
        int8=int8,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )
    for one in exported:
        size = sum(path.stat().st_size for path in one.folder.glob("*.onnx"))
        typer.echo(f"{one.folder}  {size / 1e6:.1f} MB")
    typer.echo(f"{out / 'README.md'} has the commands to run it")


@app.command("engine")
def engine(
    model: Annotated[Path, typer.Argument(help="A model directory, or a shipped model.")],
    out: Annotated[Path, typer.Argument(help="The file to write, for example device.dual.")],
    subnet: Annotated[
        SubnetName, typer.Option("--subnet", help="The recogniser to export.")
    ] = "device",
    sparsity: SparsityOption = None,
    chunk_ms: ChunkOption = None,
    lookahead_ms: LookaheadOption = None,
    left_ms: LeftOption = None,
    weights: Annotated[
        Literal["int8", "fp32"],
        typer.Option("--weights", help="fp32 is exact and about four times as large."),
    ] = "int8",
) -> None:
    """Write one recogniser as a single file for the device engine, which needs no torch.

    \b
    Examples:
      dualmode export engine runs/quickstart/model device.dual
      dualmode export engine MODEL fast.dual --chunk-ms 160 --lookahead-ms 80
      dualmode export engine MODEL server.dual --subnet server
    """
    from dualmode.export.engine import export_engine

    loaded, recognizer = _opened(model)
    chosen = chosen_subnet(
        recognizer,
        subnet,
        sparsity=sparsity,
        chunk_ms=chunk_ms,
        lookahead_ms=lookahead_ms,
        left_ms=left_ms,
    )
    exported = export_engine(loaded, chosen, out, weights=weights)
    typer.echo(f"{out}  {exported.total_bytes:,} bytes, {exported.share:.3f} of dense fp32")


def _opened(model: Path) -> tuple[LoadedModel, Recognizer]:
    """The model to export, and its recogniser, which resolves subnets."""
    from dualmode.model.directory import load_model
    from dualmode.recognizer import Recognizer
    from dualmode.runtime.pytorch import TorchModel

    loaded = load_model(model)
    return loaded, Recognizer(TorchModel(loaded.model, loaded.tokens, loaded.recipe))
