"""Word error rates of the device engine, and of smaller states, compared with torch in fp32.

    python -m benchmarks.engine_words weights MODEL CUTS [--json FILE]
    python -m benchmarks.engine_words state MODEL CUTS [--json FILE]

`weights` recognises CUTS with torch and with the artifacts of server and device, whose weights are
fp32 and int8. `state` streams device in torch and rounds the keys and values of left context
between steps: to fp16, and to int8 with one scale for each frame and head. MODEL is a model
directory or the name of a shipped model, CUTS a CutSet with transcripts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dualmode.audio import Samples
from dualmode.data.manifests import read_cuts
from dualmode.evaluation.utterances import Skipped, scorable_batches
from dualmode.evaluation.wer import word_errors
from dualmode.export.engine import Weights, export_engine
from dualmode.model.directory import load_model
from dualmode.model.subnet import Subnet
from dualmode.recognizer import Recognizer
from dualmode.runtime import Floats, Ids, State
from dualmode.runtime.pytorch import TorchModel, TorchRuntime
from dualmode.whole_files import replace_text

Rounding = Callable[[Tensor], Tensor]
WEIGHTS: tuple[Weights, ...] = ("fp32", "int8")


def half(rows: Tensor) -> Tensor:
    """Round to fp16."""
    return rows.half().float()


def bytes_with_scale(rows: Tensor) -> Tensor:
    """Round (..., heads, width of a head) to int8 with one scale for each frame and head."""
    scale = rows.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return torch.round(rows / scale) * scale


class RoundedRuntime(TorchRuntime):
    """A runtime that rounds keys and values between the steps of a stream."""

    chunks_a_step = 1  # rounding happens between steps, as in the engine

    def __init__(self, runtime: TorchRuntime, rounding: Rounding) -> None:
        super().__init__(runtime.model, runtime.subnet)
        self.rounding = rounding

    def step(self, mels: Floats, counts: Ids, state: State) -> tuple[Floats, State]:
        """See :class:`~dualmode.runtime.Runtime`."""
        frames, after = super().step(mels, counts, state)
        # Each layer has keys, values and inputs of the convolution; the last entry counts frames.
        rounded = [
            array if number % 3 == 2 else self.rounding(array)
            for number, array in enumerate(after[:-1])
        ]
        return frames, (*rounded, after[-1])


class RoundedModel(TorchModel):
    """A model whose runtimes round keys and values."""

    rounding: Rounding = staticmethod(half)

    def open(self, subnet: Subnet) -> TorchRuntime:
        """See :class:`~dualmode.runtime.RuntimeModel`."""
        return RoundedRuntime(super().open(subnet), self.rounding)


@dataclass
class Row:
    """A recogniser, and its texts of all utterances."""

    name: str
    recognizer: Recognizer
    subnet: Literal["server", "device"]
    texts: list[str] = field(default_factory=list)

    def recognise(self, batch: list[Samples]) -> None:
        """Recognise a batch of utterances."""
        if self.subnet == "device":
            found: Any = self.recognizer.stream_batch(batch, self.subnet)
        else:
            found = self.recognizer.transcribe_batch(batch, self.subnet)
        self.texts += [transcript.text for transcript in found]


def rows_of_weights(path: Path, folder: Path) -> Iterator[Row]:
    """Torch, and the artifacts of server and device."""
    loaded = load_model(path)
    exact = Recognizer.load(path, "torch")
    names: tuple[Literal["server", "device"], ...] = ("server", "device")
    for name in names:
        yield Row(f"{name}, torch fp32", exact, name)
        for weights in WEIGHTS:
            artifact = folder / f"{name}-{weights}.dual"
            export_engine(loaded, exact.subnet(name), artifact, weights=weights)
            yield Row(f"{name}, engine {weights}", Recognizer.load(artifact), name)


def rows_of_states(path: Path, folder: Path) -> Iterator[Row]:
    """Device in torch, with exact and with rounded keys and values."""
    loaded = load_model(path)
    yield Row("device, state fp32", Recognizer.load(path, "torch"), "device")
    for name, rounding in (("fp16", half), ("int8", bytes_with_scale)):
        model = RoundedModel(loaded.model, loaded.tokens, loaded.recipe)
        model.rounding = rounding
        yield Row(f"device, keys and values {name}", Recognizer(model), "device")


def compare(rows: list[Row], references: list[str]) -> list[dict[str, Any]]:
    """Word error rate of each row, and its difference from the first row of the same subnet."""
    exact: dict[str, Row] = {}
    found = []
    for row in rows:
        first = exact.setdefault(row.subnet, row)
        wer = word_errors(references, row.texts).rate
        found.append(
            {
                "name": row.name,
                "wer": wer,
                "points": 100 * (wer - word_errors(references, first.texts).rate),
                "texts": len(references),
                "texts_differ": sum(a != b for a, b in zip(row.texts, first.texts, strict=True)),
            }
        )
    return found


def main() -> None:
    """Run a comparison and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("weights", "state"))
    parser.add_argument("model", type=Path)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    skipped: list[Skipped] = []
    references: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        make = rows_of_weights if options.what == "weights" else rows_of_states
        rows = list(make(options.model, Path(folder)))
        text = rows[0].recognizer.recipe.text
        for batch in scorable_batches(read_cuts(options.cuts), text, skipped):
            references += [utterance.reference for utterance, _ in batch]
            for row in rows:
                row.recognise([samples for _, samples in batch])
    found = compare(rows, references)
    table = Table(title=f"{len(references)} utterances, {len(skipped)} skipped")
    for header in ("recogniser", "WER %", "points", "texts that differ"):
        table.add_column(header, justify="left" if header == "recogniser" else "right")
    for one in found:
        table.add_row(
            one["name"],
            f"{100 * one['wer']:.2f}",
            f"{one['points']:+.2f}",
            str(one["texts_differ"]),
        )
    Console().print(table)
    if options.json:
        replace_text(options.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
