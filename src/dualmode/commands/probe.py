"""``dualmode probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def probe(
    model: Annotated[Path, typer.Argument(help="A directory written by pretrain or train.")],
    cuts: Annotated[list[Path], typer.Argument(help="Transcribed CutSets.")],
    aligner: Annotated[
        Path, typer.Option("--aligner", help="A model whose CTC head aligns the transcripts.")
    ],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")
    ] = None,
) -> None:
    """Measure what an encoder has learnt, with a linear classifier of tokens on single frames.

    Each layer of both recognisers is compared with the same encoder with random weights. The
    classifier is fitted to four fifths of the utterances and scored on the rest.

    \b
    Examples:
      dualmode probe runs/pretrained data/dev --aligner runs/quickstart/model
      dualmode probe runs/pretrained data/dev --aligner MODEL --json probe.json
    """
    from dualmode.data.manifests import read_cuts
    from dualmode.display import make_console, print_probe, scoring_bar
    from dualmode.evaluation.frame_probe import probe as measure
    from dualmode.model.directory import load_model
    from dualmode.whole_files import check_writable, replace_text

    check_writable(json)
    console = make_console()
    loaded, scored = load_model(aligner), read_cuts(cuts)
    with scoring_bar(console, "layers") as progress:
        result = measure(model, scored, loaded, progress)
    print_probe(result, console)
    if json is not None:
        import json as as_json

        replace_text(json, as_json.dumps(result.to_dict(), indent=2) + "\n")
