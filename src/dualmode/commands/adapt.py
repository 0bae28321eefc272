"""``dualmode adapt``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dualmode.commands.train import FreshOption, OutOption, SetOption, run


def adapt(
    model: Annotated[str, typer.Argument(help="Model directory, or the name of a shipped model.")],
    train: Annotated[list[Path], typer.Argument(help="CutSets of your own recordings.")],
    out: OutOption,
    dev: Annotated[
        list[Path] | None,
        typer.Option("--dev", help="CutSet to validate on; default: the training recordings."),
    ] = None,
    replay: Annotated[
        list[Path] | None,
        typer.Option("--replay", help="CutSet that the model must not forget; may be repeated."),
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Duration of the training.")] = 10,
    overrides: SetOption = None,
    fresh: FreshOption = False,
) -> None:
    """Adapt a recogniser to your own recordings, for instance half an hour with transcripts.

    The training starts from the model, with its tokens and masks. A model forgets what it no longer
    hears: give speech that must stay recognised with --replay, recorded or read by a synthesiser,
    and half of the training is on it. In addition, weights and outputs are pulled towards their
    original values, more strongly without replay.

    \b
    Examples:
      dualmode read talk data/replay --hours 0.5
      dualmode adapt talk data/mine --dev data/dev --replay data/replay --out runs/adapted
      dualmode adapt runs/mine data/new --out runs/adapted --set init.weight_pull=0
    """
    from dualmode.display import make_console
    from dualmode.model.shipped import model_folder

    folder = model_folder(model)
    replay = replay or []
    changes = [
        f"data.train={_listed([*train, *replay])}",
        f"data.dev={_listed(dev or train)}",
        f"data.weights={_weights(train, replay)}",
        f"training.minutes={minutes}",
        *_SETTINGS,
        *(f"init.{key}={1 if replay else 5}" for key in ("weight_pull", "output_pull")),
        *(overrides or []),
    ]
    if not dev:
        make_console().print(
            "[yellow]without --dev, the WER below is that of the training data[/yellow]"
        )
    run(str(folder / "config.yaml"), changes, "finetune", out, folder, fresh)


# A short run from a trained model: no curriculum, no CTC stage, masks as they are, no noise corpus.
_SETTINGS = (
    "data.noise=null",
    "data.curriculum_steps=0",
    "data.calm_steps=0",
    "init.masks=keep",
    "init.learning_rate_factor=1",
    "training.steps=100000",
    "training.learning_rate=0.001",
    "training.warmup_steps=50",
    "training.transducer_start=0",
    "training.validate_every_steps=100",
    "training.checkpoint_every_steps=100",
)


def _listed(paths: Sequence[Path]) -> str:
    return json.dumps([str(path) for path in paths])


def _weights(train: Sequence[Path], replay: Sequence[Path]) -> list[float]:
    """Repetitions of each CutSet, so that all of ``replay`` together are heard as long as all of
    ``train``."""
    from dualmode.data.manifests import read_cuts

    if not replay:
        return []
    own, other = (sum(cut.duration for cut in read_cuts(paths)) for paths in (train, replay))
    return [1.0] * len(train) + [own / other] * len(replay)
