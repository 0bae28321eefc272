"""``dualmode tune``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualmode.commands.subnets import SubnetOption
from dualmode.errors import DualmodeError

if TYPE_CHECKING:
    from dualmode.evaluation.tuning import EncodedCuts
    from dualmode.language.ngram import NGram
    from dualmode.language.phrases import PhraseAutomaton
    from dualmode.recognizer import Recognizer

THRESHOLDS = (-3.0, -2.0, -1.5, -1.0, -0.75, -0.5, -0.25, -0.1)


def tune(
    model: Annotated[Path, typer.Argument(help="A model directory.")],
    cuts: Annotated[list[Path], typer.Argument(help="CutSets of a development set.")],
    lm: Annotated[
        Path | None, typer.Option("--lm", help="A language model, whose weights are tuned.")
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Calibrate the confidences of words.")
    ] = False,
    diagram: Annotated[
        Path | None,
        typer.Option("--diagram", metavar="PNG", help="Draw the reliability of confidences."),
    ] = None,
    phrases: Annotated[
        Path | None,
        typer.Option("--phrases", help="A closed list, whose threshold is tuned; needs --other."),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option("--other", help="A CutSet of speech that is none of the phrases."),
    ] = None,
    false_accepts: Annotated[
        float,
        typer.Option(
            "--false-accepts", min=0.0, max=1.0, help="Share of other speech to be accepted."
        ),
    ] = 0.02,
    subnet: SubnetOption = "server",
) -> None:
    """Tune what decodes a model's output on a development set.

    The weights of a language model are stored in its file. The calibration of confidences and the
    threshold of closed lists are stored in config.yaml of the model.

    \b
    Examples:
      dualmode tune runs/mine data/dev --lm english.lm
      dualmode tune runs/mine data/dev --confidence --diagram reliability.png
      dualmode tune runs/mine data/commands --phrases commands.txt --other data/other
    """
    from dualmode.data.manifests import read_cuts
    from dualmode.evaluation.tuning import encode_cuts
    from dualmode.language.ngram import read_ngram
    from dualmode.recognizer import load
    from dualmode.whole_files import check_writable

    if lm is None and not confidence and phrases is None:
        raise DualmodeError("nothing to tune: give --lm, --confidence or --phrases")
    if (phrases is None) != (not other):
        raise DualmodeError("--phrases and --other belong together: a threshold separates both")
    if diagram is not None and not confidence:
        raise DualmodeError("--diagram shows what --confidence calibrates: give both")
    check_writable(lm, diagram)
    recognizer = load(model)
    language_model = read_ngram(lm) if lm is not None else None
    if language_model is not None:
        language_model.check(recognizer.tokens)
    if confidence or phrases is not None:
        _check_directory(model)
    automaton = recognizer.compile_phrases(phrases) if phrases is not None else None
    encoded = encode_cuts(recognizer, read_cuts(cuts), subnet)
    if lm is not None and language_model is not None:
        _tune_lm(encoded, lm, language_model)
    if confidence:
        _calibrate(recognizer, model, encoded, diagram)
    if automaton is not None and other:
        strangers = encode_cuts(recognizer, read_cuts(other), subnet)
        _tune_threshold(recognizer, model, encoded, strangers, automaton, false_accepts)


def _check_directory(model: Path) -> None:
    from dualmode.errors import ModelError
    from dualmode.model.directory import CONFIG
    from dualmode.whole_files import check_writable

    if not (model / CONFIG).is_file():
        raise ModelError(f"{model}: not a model directory whose {CONFIG} can be changed")
    check_writable(model / CONFIG)


def _store(recognizer: Recognizer, model: Path, **settings: float) -> None:
    """Change settings of decoding in the model's recipe."""
    from dualmode.model.directory import CONFIG
    from dualmode.whole_files import replace_text

    decoding = recognizer.recipe.decoding.model_copy(update=settings)
    recognizer.recipe = recognizer.recipe.model_copy(update={"decoding": decoding})
    replace_text(model / CONFIG, recognizer.recipe.to_yaml())


def _tune_lm(encoded: EncodedCuts, lm: Path, language_model: NGram) -> None:
    from dualmode.evaluation.tuning import tune_lm

    def report(settings: dict[str, float], rate: float) -> None:
        shown = "  ".join(f"{name} {value:.2f}" for name, value in settings.items())
        typer.echo(f"{shown}  WER {100 * rate:.2f} %")

    settings, rate, without = tune_lm(encoded, language_model, report)
    replace(language_model, settings=settings).write(lm)
    typer.echo(f"{lm}: WER {100 * without:.2f} % without, {100 * rate:.2f} % with: {settings}")


def _calibrate(
    recognizer: Recognizer, model: Path, encoded: EncodedCuts, diagram: Path | None
) -> None:
    from dualmode.evaluation.confidence import draw_reliability, fit_calibration, recognised_words

    words = recognised_words(encoded)
    found = fit_calibration(words)
    after = words.calibrated(found)
    _store(recognizer, model, confidence_slope=found.slope, confidence_offset=found.offset)
    if diagram is not None:
        draw_reliability(diagram, {"uncalibrated": words, "calibrated": after})
    typer.echo(
        f"{model}: expected calibration error {words.expected_error:.3f} before, "
        f"{after.expected_error:.3f} after, on {len(words.confidences)} words: "
        f"slope {found.slope:g}, offset {found.offset:g}"
    )


def _tune_threshold(
    recognizer: Recognizer,
    model: Path,
    commands: EncodedCuts,
    other: EncodedCuts,
    phrases: PhraseAutomaton,
    false_accepts: float,
) -> None:
    from dualmode.evaluation.thresholds import margins

    found = margins(commands, other, phrases)
    chosen = found.choose(false_accepts)
    for threshold in sorted({*THRESHOLDS, chosen}):
        at = found.at(threshold)
        typer.echo(
            f"threshold {threshold:6.2f}  correct {100 * at.correct:5.1f} %  "
            f"wrong {100 * at.wrong:5.1f} %  other speech accepted {100 * at.false_accepts:5.1f} %"
        )
    _store(recognizer, model, phrase_threshold=chosen)
    typer.echo(f"{model}: threshold {chosen:.2f}")
