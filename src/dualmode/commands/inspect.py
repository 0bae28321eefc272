"""``dualmode inspect``."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from dualmode.model.inspection import Inspection

_HOW_COUNTED = (
    "Sizes include only the weights that recognition needs, without training heads and the norms "
    "of the other recogniser. int8: linear maps have one byte per weight and one fp32 scale "
    "per output; convolutions, embedding, norms and biases remain fp32. Indices: 2 bytes for the "
    "column of each kept block, and 4 for the start of each row of blocks and for the end."
)


def inspect(
    model: Annotated[
        Path, typer.Argument(help="A model directory, or an artifact of the engine (X.dual).")
    ],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the tables as JSON.")
    ] = None,
) -> None:
    """Show the parameters of a model, the sparsity of each layer, and the size of each recogniser.

    \b
    Examples:
      dualmode inspect runs/quickstart/model
      dualmode inspect MODEL --json model.json
      dualmode inspect device.dual
    """
    from dualmode.display import make_console
    from dualmode.whole_files import check_writable, replace_text

    check_writable(json)
    if model.suffix == ".dual":
        tree = _artifact(model)
        make_console().print(_artifact_table(tree))
        if json is not None:
            replace_text(json, jsonlib.dumps(tree, indent=2) + "\n")
        return
    from dualmode.model.directory import load_model
    from dualmode.model.inspection import inspect_model

    loaded = load_model(model)
    inspection = inspect_model(loaded.model)
    console = make_console()
    console.print(_parts(inspection))
    console.print(_layers(inspection))
    console.print(_footprints(inspection))
    console.print(_HOW_COUNTED, style="dim")
    if json is not None:
        replace_text(json, jsonlib.dumps(inspection.to_dict(), indent=2) + "\n")


def _artifact(path: Path) -> dict[str, Any]:
    """The contents of an artifact of the engine."""
    from dataclasses import asdict

    from dualmode.export.artifact import read_artifact

    artifact = read_artifact(path)
    tensors = [
        {
            "role": tensor.role.name.lower(),
            "layer": tensor.layer,
            "encoding": tensor.encoding.name.lower(),
            "block": tensor.block.name.lower().removeprefix("b"),
            "rows": tensor.rows,
            "columns": tensor.columns,
            "bytes": len(tensor.payload),
        }
        for tensor in artifact.tensors
    ]
    return {
        "bytes": path.stat().st_size,
        "card": artifact.card,
        "settings": asdict(artifact.settings),
        "tensors": tensors,
    }


def _artifact_table(tree: dict[str, Any]) -> Table:
    from rich.table import Table

    card = " ".join(f"{key}={value}" for key, value in tree["card"].items())
    table = Table(title=f"{tree['bytes']:,} bytes  {card}", title_justify="left")
    for header in ("tensor", "encoding", "blocks"):
        table.add_column(header)
    for header in ("rows x columns", "bytes", "bits per weight"):
        table.add_column(header, justify="right")
    for tensor in tree["tensors"]:
        weights = tensor["rows"] * tensor["columns"]
        table.add_row(
            f"{tensor['role']} {tensor['layer']}",
            tensor["encoding"],
            tensor["block"],
            f"{tensor['rows']} x {tensor['columns']}",
            f"{tensor['bytes']:,}",
            f"{8 * tensor['bytes'] / weights:.2f}",
        )
    return table


def _parts(inspection: Inspection) -> Table:
    from rich.table import Table

    title = f"{inspection.parameters:,} parameters, frames of {inspection.frame_ms} ms"
    table = Table(title=title, title_justify="left")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    for name, count in inspection.parts.items():
        table.add_row(name, f"{count:,}")
    return table


def _layers(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table(title="prunable linear maps", title_justify="left")
    table.add_column("layer")
    table.add_column("outputs x inputs", justify="right")
    for sparsity in inspection.sparsities:
        table.add_column(f"sparsity at {sparsity:g}", justify="right")
    for layer in inspection.layers:
        shape = f"{layer.outputs} x {layer.inputs}"
        table.add_row(layer.name, shape, *(f"{s:.4f}" for s in layer.sparsities))
    table.add_section()
    table.add_row("all", f"{inspection.prunable:,}", *(f"{s:.4f}" for s in inspection.measured))
    return table


def _footprints(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table(title="size of each recogniser in bytes", title_justify="left")
    for header in ("recogniser", "format"):
        table.add_column(header)
    for header in ("weights", "indices", "scales", "total", "of server fp32"):
        table.add_column(header, justify="right")
    whole = inspection.footprints[0].total_bytes
    for row in inspection.footprints:
        table.add_row(
            row.recogniser,
            row.format,
            f"{row.weight_bytes:,}",
            f"{row.index_bytes:,}",
            f"{row.scale_bytes:,}",
            f"{row.total_bytes:,}",
            f"{row.total_bytes / whole:.1%}",
        )
    return table
