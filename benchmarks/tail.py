"""Does a stream lose the last word? Streams every file as it is, and again with silence after it.

    python -m benchmarks.tail MODEL CUTS [--silence SECONDS]

A last word counts as lost if it is recognised with the silence and is not without: a stream
appends a little silence of its own when it is told that no more comes, and this measures whether
that is enough. It counts as end-bound if it is recognised without the silence only: then the
recogniser says it because the audio ends, and would not while a microphone stays open.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

import dualmode
from dualmode.data.loading import load_samples
from dualmode.data.manifests import read_cuts
from dualmode.evaluation.latency import tail_report
from dualmode.text import normalize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--silence", type=float, default=2.0, help="seconds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = dualmode.load(arguments.model)
    utterances = [
        (cut.id, load_samples(cut), normalize(cut.supervisions[0].text, recognizer.recipe.text))
        for cut in read_cuts(arguments.cuts)
    ]
    report = tail_report(recognizer, utterances, silence_s=arguments.silence)
    Console().print(
        f"{report.utterances} utterances: {len(report.lost)} last words lost "
        f"({len(report.lost) / report.utterances:.2%}), {len(report.end_bound)} end-bound "
        f"({len(report.end_bound) / report.utterances:.2%}), {len(report.changed)} texts differ "
        f"({len(report.changed) / report.utterances:.2%})",
        highlight=False,
    )
    for kind, names in (("lost", report.lost), ("end-bound", report.end_bound)):
        for name in names:
            Console().print(f"  {kind} {name}", highlight=False)


if __name__ == "__main__":
    main()
