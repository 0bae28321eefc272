"""Options for knowledge of the text, shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dualmode.decoding.guidance import Guidance

PhrasesOption = Annotated[
    Path | None,
    typer.Option("--phrases", help="A file of phrases or a grammar: the only possible answers."),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option("--threshold", help="Least margin of a phrase, in nats per token; default -1."),
]
HotwordsOption = Annotated[
    str | None,
    typer.Option("--hotwords", help="Words to prefer: a file, or 'zelda=2.0, living room'."),
]
LmOption = Annotated[
    Path | None, typer.Option("--lm", help="A language model written by dualmode lm.")
]
LmWeightOption = Annotated[
    float | None, typer.Option("--lm-weight", help="Weight of --lm instead of the tuned one.")
]
WrittenOption = Annotated[
    bool, typer.Option("--written", help="Write numbers, dates and times as digits.")
]
NbestOption = Annotated[
    int, typer.Option("--nbest", help="Number of alternative texts in JSON, at most 4.")
]


def chosen_guidance(
    *,
    phrases: Path | None = None,
    threshold: float | None = None,
    hotwords: str | None = None,
    lm: Path | None = None,
    lm_weight: float | None = None,
    written: bool = False,
    nbest: int = 1,
) -> Guidance:
    """Convert the options of a command to guidance of a recogniser.

    Raises:
        LanguageError: hotwords cannot be read.
    """
    guidance: Guidance = {"phrases": phrases, "lm": lm, "written": written, "nbest": nbest}
    if hotwords is not None:
        guidance["hotwords"] = _hotwords(hotwords)
    if threshold is not None:
        guidance["threshold"] = threshold
    if lm_weight is not None:
        guidance["lm_weight"] = lm_weight
    return guidance


def _hotwords(text: str) -> dict[str, float]:
    from dualmode.decoding.guidance import HOTWORD_STRENGTH
    from dualmode.language.hotwords import parse_hotwords
    from dualmode.language.phrases import read_phrases

    is_file = len(text) < 4096 and Path(text).is_file()
    lines = read_phrases(text) if is_file else text.split(",")
    return parse_hotwords(lines, HOTWORD_STRENGTH)
