"""The quickstart: from an empty folder to two working recognisers, in one call."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from dualmode.audio import Samples
    from dualmode.evaluation.results import Evaluation
    from dualmode.recognizer import Recognizer

TARGETS = {"server": 0.06, "device": 0.10}  # word error rates that the quickstart should reach
# An encoder that knows the phones needs neither short utterances first nor a long start by CTC.
_FROM_PHONES = (
    "init.learning_rate_factor=1",
    "data.curriculum_steps=0",
    "data.calm_steps=200",
    "training.transducer_start=0.1",
)
_PHONES_SHARE = 0.16  # of the minutes, for the first stage
_MINUTES = 12.5
_PIECE_SAMPLES = 1600  # 0.1 s, similar to a sound card


def run_quickstart(
    out: Path, minutes: float | None, console: Console, *, pretrain: bool = False
) -> bool:
    """Synthesise, train, evaluate, transcribe and stream; resume an earlier, interrupted call.

    Args:
        out: folder for ``corpus``, ``phones`` and ``model``; with pre-training, ``encoder`` and
            ``pretrained-model``.
        minutes: duration of training, phones included, and of pre-training; None is 12.5.
        pretrain: pre-train the encoder on the audio of the corpus instead of on its phones.

    Returns:
        False if training was interrupted.

    Raises:
        DualmodeError: a step failed; the message says what to do.
    """
    began = time.monotonic()
    corpus, model = out / "corpus", out / ("pretrained-model" if pretrain else "model")
    _say(console, 1, "synthesising speech with eSpeak NG")
    phones = _make_corpus(corpus, console)
    train = _train_after_audio if pretrain else _train_after_phones
    if not train(out, model, phones, minutes, console):
        return False
    _say(console, 4, "evaluation on voices and sentences that are not in the training set")
    recognizer, cuts = _load(model, corpus / "test")
    _evaluate(recognizer, cuts, model / "evaluation.json", console)
    cut = _example(cuts)
    _say(console, 5, "one of the test files, recognised by server and device")
    _transcribe(recognizer, cut, console)
    _say(console, 6, "the same file as a stream, recognised by device")
    _stream(recognizer, cut, console)
    _say(console, 7, "device as one file, run by the engine without torch")
    _engine(recognizer, model, cut, console)
    _say_next(model, time.monotonic() - began, console)
    return True


def _train_after_phones(
    out: Path, model: Path, phones: list[str], minutes: float | None, console: Console
) -> bool:
    """Train the encoder on ``phones``, then both recognisers; False if it was interrupted."""
    minutes, corpus, encoder = minutes or _MINUTES, out / "corpus", out / "phones"
    _say(console, 2, "the encoder of both recognisers learns the phones of the corpus")
    classes = [f"pretraining.phones={json.dumps(phones)}"]
    first = _PHONES_SHARE * minutes
    if not _run("quickstart-phones", corpus, encoder, first, classes, console):
        return False
    _say(console, 3, "training server and device, one set of weights")
    start = [f"init.model={json.dumps(str(encoder))}", *_FROM_PHONES]
    return _run("quickstart", corpus, model, minutes - first, start, console)


def _train_after_audio(
    out: Path, model: Path, phones: list[str], minutes: float | None, console: Console
) -> bool:
    """Pre-train the encoder without phones or text, then train both recognisers; False if it was
    interrupted."""
    corpus, encoder = out / "corpus", out / "encoder"
    _say(console, 2, "pre-training the encoder of both recognisers on audio alone")
    if not _run("quickstart-pretrain", corpus, encoder, minutes, [], console):
        return False
    _say(console, 3, "training server and device, one set of weights")
    start = [f"init.model={json.dumps(str(encoder))}"]
    return _run("quickstart", corpus, model, minutes, start, console)


def _say(console: Console, number: int, title: str) -> None:
    console.print()
    console.rule(f"[bold]{number} of 7: {title}", align="left")


def _make_corpus(corpus: Path, console: Console) -> list[str]:
    """Synthesise the corpus, and return the names of its phones."""
    from dualmode.data.manifests import read_cuts
    from dualmode.data.phones import phones_of
    from dualmode.data.synth import synthesize

    phones: set[str] = set()
    for split, folder in synthesize(corpus).items():
        cuts = read_cuts(folder)
        voices = {s.speaker for cut in cuts for s in cut.supervisions}
        phones.update(phone.symbol for cut in cuts for phone in phones_of(cut))
        minutes = sum(cut.duration for cut in cuts) / 60
        console.print(
            f"{split:5}  {len(cuts):5} utterances  {minutes:6.1f} minutes  {len(voices):2} voices"
        )
    return sorted(phones)


def _run(
    recipe: str,
    corpus: Path,
    out: Path,
    minutes: float | None,
    overrides: list[str],
    console: Console,
) -> bool:
    """Train a recipe on the corpus; return False if it was interrupted."""
    from dualmode.recipe_files import load_recipe
    from dualmode.training.launch import train

    folders = {split: json.dumps([str(corpus / split)]) for split in ("train", "dev")}
    settings = [*(f"data.{split}={folder}" for split, folder in folders.items()), *overrides]
    if minutes is not None:
        settings.append(f"training.minutes={minutes}")
    return train(load_recipe(recipe, settings), out, console=console).finished


def _load(model: Path, test: Path) -> tuple[Recognizer, list[Cut]]:
    from dualmode.data.manifests import read_cuts
    from dualmode.recognizer import load

    return load(model), list(read_cuts(test))


def _evaluate(recognizer: Recognizer, cuts: list[Cut], json: Path, console: Console) -> None:
    from lhotse import CutSet

    from dualmode.display import print_evaluation, scoring_bar
    from dualmode.evaluation.scoring import evaluate

    with scoring_bar(console) as progress:
        evaluation = evaluate(recognizer, CutSet.from_cuts(cuts), progress=progress)
    evaluation.write_json(json)
    print_evaluation(evaluation, console)
    for line in verdicts(evaluation):
        console.print(line)


def verdicts(evaluation: Evaluation) -> list[Text]:
    """Say for each recogniser whether it reached its target."""
    lines = []
    for name, target in TARGETS.items():
        rate = evaluation.results[name].scores.words.rate
        reached = rate <= target
        words = "reached" if reached else "MISSED: try --minutes 30 --out runs/longer"
        lines.append(
            Text(
                f"{name}: {rate:.2%} WER; the target of {target:.0%} is {words}",
                style="green" if reached else "yellow",
            )
        )
    return lines


def _example(cuts: list[Cut]) -> Cut:
    """The longest file."""
    return max(cuts, key=lambda cut: (cut.duration, cut.id))


def _transcribe(recognizer: Recognizer, cut: Cut, console: Console) -> None:
    from dualmode.data.loading import load_samples

    samples = load_samples(cut)
    console.print(Text(f"{cut.recording.sources[0].source}, {cut.duration:.1f} s", style="dim"))
    console.print(Text(f"spoken  {cut.supervisions[0].text}"))
    for name in TARGETS:
        console.print(Text(f"{name}  {recognizer.transcribe(samples, subnet=name).text}"))


def _stream(recognizer: Recognizer, cut: Cut, console: Console) -> None:
    from dualmode.data.loading import load_samples
    from dualmode.display import GrowingText, show_stream

    samples = load_samples(cut)
    pieces = [samples[at : at + _PIECE_SAMPLES] for at in range(0, len(samples), _PIECE_SAMPLES)]
    session, slow = recognizer.stream("device"), console.is_terminal
    with GrowingText(console) as growing:
        result = show_stream(session, pieces, growing, real_time=slow)
    console.print(Text(f"{result.seconds:7.2f} s  {result.text}", style="bold"), soft_wrap=True)


def _engine(recognizer: Recognizer, model: Path, cut: Cut, console: Console) -> None:
    """Export device, recognise the same file by the engine, and compare with torch."""
    from dualmode.data.loading import load_samples
    from dualmode.export.engine import export_engine
    from dualmode.model.directory import load_model

    out = model / "device.dual"
    exported = export_engine(load_model(model), recognizer.subnet("device"), out)
    share = f"{exported.share:.3f} of dense fp32"
    console.print(Text(f"{out}  {exported.total_bytes:,} bytes, {share}"), soft_wrap=True)
    try:
        import dualmode_engine
    except ModuleNotFoundError:
        console.print("The engine is not built: install a C++17 compiler, then run make engine.")
        return
    samples = load_samples(cut)
    engine = dualmode_engine.Model(out)
    console.print(Text(f"device  {engine.transcribe(samples).text}"))
    engine_s = _seconds(lambda: engine.transcribe(samples))
    torch_s = _seconds(lambda: _streamed(recognizer, samples))
    kernels = engine.description["kernels"]
    console.print(
        f"real-time factor {engine_s / cut.duration:.4f} with one thread (kernels {kernels}); "
        f"PyTorch takes {torch_s / engine_s:.0f} times as long for the same stream"
    )


def _streamed(recognizer: Recognizer, samples: Samples) -> str:
    stream = recognizer.stream("device")
    stream.push(samples)
    return stream.finish().text


def _seconds(run: Callable[[], object]) -> float:
    """Processor time of the fastest of three runs, after a warm-up run."""
    times = []
    for _ in range(4):
        before = time.process_time()
        run()
        times.append(time.process_time() - before)
    return min(times[1:])


def _say_next(model: Path, seconds: float, console: Console) -> None:
    program = _command("dualmode")
    lines = (
        ("model", f"{model}"),
        ("model card", f"{model / 'README.md'}"),
        ("scores", f"{model / 'evaluation.json'}"),
        ("plot of training", f"{model / 'training' / 'training.png'}"),
        ("logs", f"{_command('tensorboard')} --logdir {model / 'training' / 'tensorboard'}"),
        ("your own recording", f"{program} transcribe {model} my.wav"),
        ("the same, streamed", f"{program} transcribe {model} my.wav --subnet device --stream"),
        ("size and sparsity", f"{program} inspect {model}"),
        ("device as one file", f"{model / 'device.dual'}, docs/engine.md"),
        ("your own corpus", "docs/train_your_own.md"),
        ("audio without text", "make quickstart PRETRAIN=1, docs/pretraining.md"),
    )
    width = max(len(name) for name, _ in lines)
    text = Text("\n".join(f"{name:{width}}  {value}" for name, value in lines))
    console.print()
    console.print(
        Panel(text, title=f"done in {seconds / 60:.1f} minutes", title_align="left", expand=False)
    )
    console.print(
        "The model has been trained on synthetic voices and the words of the quickstart only. "
        "Other speech needs another corpus.",
        style="dim",
    )


def _command(name: str) -> str:
    """The command as the user's shell finds it, since make does not activate the environment."""
    beside = Path(sys.argv[0]).with_name(name)
    return str(beside) if shutil.which(name) is None and beside.is_file() else name
