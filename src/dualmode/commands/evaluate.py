"""``dualmode evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dualmode.commands.guidance import (
    HotwordsOption,
    LmOption,
    LmWeightOption,
    PhrasesOption,
    ThresholdOption,
    WrittenOption,
    chosen_guidance,
)
from dualmode.commands.subnets import (
    ChunkOption,
    LeftOption,
    LookaheadOption,
    RunOnOption,
    SearchOption,
    SparsityOption,
    chosen_subnet,
)
from dualmode.errors import SubnetError

if TYPE_CHECKING:
    from lhotse import CutSet

    from dualmode.decoding.guidance import Guidance
    from dualmode.decoding.search import SearchName
    from dualmode.model.subnet import Subnet
    from dualmode.recognizer import Recognizer


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    cuts: Annotated[list[Path], typer.Argument(help="CutSets: folders or jsonl.gz files.")],
    subnet: Annotated[
        Literal["server", "device", "both"], typer.Option("--subnet", help="Recogniser to score.")
    ] = "both",
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores as JSON.")
    ] = None,
    utterances: Annotated[
        Path | None,
        typer.Option(
            "--utterances", metavar="FILE", help="Write all texts, one JSON line per utterance."
        ),
    ] = None,
    tail: Annotated[
        bool,
        typer.Option(
            "--tail", help="Also count last words that depend on 2 s of silence after them."
        ),
    ] = False,
    reliability: Annotated[
        Path | None,
        typer.Option(
            "--reliability",
            metavar="PNG",
            help="Draw how often words of a given confidence are correct.",
        ),
    ] = None,
    search: SearchOption = "greedy",
    sparsity: SparsityOption = None,
    chunk_ms: ChunkOption = None,
    lookahead_ms: LookaheadOption = None,
    left_ms: LeftOption = None,
    phrases: PhrasesOption = None,
    threshold: ThresholdOption = None,
    hotwords: HotwordsOption = None,
    lm: LmOption = None,
    lm_weight: LmWeightOption = None,
    written: WrittenOption = False,
    run_on: RunOnOption = "cpu",
) -> None:
    """Score recognisers: word error rates with 95 % intervals, speed, and emission delay.

    With --subnet both, the options for sparsity, chunk, look-ahead and left context apply to
    device.

    \b
    Examples:
      dualmode evaluate runs/quickstart/model runs/quickstart/corpus/test
      dualmode evaluate MODEL CUTS --json figures.json
      dualmode evaluate MODEL CUTS --tail
      dualmode evaluate MODEL CUTS --reliability confidence.png
      dualmode evaluate MODEL CUTS --lm english.lm --written
      dualmode evaluate MODEL CUTS --subnet device --chunk-ms 320 --lookahead-ms 80
    """
    from dualmode.data.manifests import read_cuts
    from dualmode.display import make_console, print_evaluation, print_tail, scoring_bar
    from dualmode.evaluation.latency import tail_of_cuts
    from dualmode.evaluation.scoring import evaluate as score
    from dualmode.recognizer import load
    from dualmode.whole_files import check_writable

    check_writable(json, utterances, reliability)
    guidance = chosen_guidance(
        phrases=phrases,
        threshold=threshold,
        hotwords=hotwords,
        lm=lm,
        lm_weight=lm_weight,
        written=written,
    )
    recognizer = load(model, device=run_on)
    subnets = {"server": recognizer.subnet("server")} if subnet == "both" else {}
    changed = "device" if subnet == "both" else subnet
    subnets[changed] = chosen_subnet(
        recognizer,
        changed,
        sparsity=sparsity,
        chunk_ms=chunk_ms,
        lookahead_ms=lookahead_ms,
        left_ms=left_ms,
    )
    scored = read_cuts(cuts)
    console = make_console()
    with scoring_bar(console) as progress:
        evaluation = score(
            recognizer, scored, subnets, search=search, progress=progress, guidance=guidance
        )
    print_evaluation(evaluation, console)
    if tail:
        streaming = next((s for s in subnets.values() if s.streams), None)
        if streaming is None:
            raise SubnetError("--tail streams: use --subnet device or both")
        print_tail(tail_of_cuts(recognizer, scored, streaming), console)
    if reliability is not None:
        _draw_reliability(reliability, recognizer, scored, subnets, search, guidance)
    if json is not None:
        evaluation.write_json(json)
    if utterances is not None:
        evaluation.write_utterances(utterances)


def _draw_reliability(
    path: Path,
    recognizer: Recognizer,
    cuts: CutSet,
    subnets: dict[str, Subnet],
    search: SearchName,
    guidance: Guidance,
) -> None:
    from dualmode.evaluation.confidence import draw_reliability, judged_words
    from dualmode.evaluation.tuning import encode_cuts

    curves = {}
    for name, subnet in subnets.items():
        encoded = encode_cuts(recognizer, cuts, subnet)
        outcomes = encoded.outcomes(search, **guidance)
        words = curves[name] = judged_words(encoded, outcomes, recognizer.calibration)
        typer.echo(
            f"{name}: expected calibration error {words.expected_error:.3f} "
            f"on {len(words.confidences)} words"
        )
    draw_reliability(path, curves)
