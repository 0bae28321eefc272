"""Profiles: recipes, lengths and corpora of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.claim import corpora
from benchmarks.claim.corpora import Corpora, Prepare
from benchmarks.claim.rows import MAIN, OBJECTIVES, SCORES, SPLIT, Row, Stage, ablations
from dualmode.config import Recipe
from dualmode.recipe_files import load_recipe


@dataclass(frozen=True)
class Profile:
    """The settings that all rows of a comparison share.

    Attributes:
        recipes: a shipped recipe for each kind of training.
        steps: steps of the optimiser for each kind, the same for every recogniser of every row.
        batch_seconds: audio per step, for each kind.
        changes: overrides of both recipes, in the syntax of ``--set``.
        prepare: prepares the corpora.
    """

    name: str
    about: str
    recipes: dict[str, str | Path]
    steps: dict[str, int]
    batch_seconds: dict[str, float]
    prepare: Prepare
    changes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows: those of the claim, and E with one change each."""
        base = load_recipe(self.recipes["finetune"], list(self.changes))
        return (*MAIN, *SPLIT, *SCORES, *OBJECTIVES, *ablations(base))

    def steps_of(self, stage: Stage, scale: float) -> int:
        return max(1, round(self.steps[stage.kind] * stage.length * scale))

    def recipe(
        self, stage: Stage, seed: int, speech: Corpora, init: Path | None, scale: float = 1.0
    ) -> Recipe:
        """The recipe of a stage, whose encoder is initialised from the directory ``init``."""
        start = (f"init.model='{init}'",) if init else ()
        return load_recipe(
            self.recipes[stage.kind],
            [
                "training.minutes=null",
                "training.step_sharing=all",  # rows of split steps say so themselves
                f"training.steps={self.steps_of(stage, scale)}",
                f"data.batch_seconds={self.batch_seconds[stage.kind]}",
                f"training.seed={seed}",
                *self.changes,
                *speech.changes(stage.kind),
                *stage.changes,
                *start,
            ],
        )


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "small",
            "synthetic speech and AN4, 1.5 M parameters: about an hour a seed on two cores",
            {"pretrain": "quickstart-pretrain", "finetune": "quickstart"},
            {"pretrain": 1400, "finetune": 3000},
            {"pretrain": 24, "finetune": 12},
            corpora.small,
            ("data.curriculum_steps=400", "data.calm_steps=1000"),
        ),
        Profile(
            "speech",
            "six hours of real speech and fifteen without text, 10 M parameters: for a GPU",
            {"pretrain": "speech-pretrain", "finetune": "speech"},
            {"pretrain": 3000, "finetune": 3000},
            {"pretrain": 160, "finetune": 160},
            corpora.speech,
            (
                "data.workers=6",
                "data.calm_steps=900",
                "data.curriculum_steps=400",
                "model.width=256",
                "model.feed_forward=1024",
                "model.subsampling_channels=64",
                "model.predictor_width=256",
                "model.joiner_width=256",
            ),
        ),
        Profile(
            "librispeech",
            "960 hours, 80 M parameters: for several GPUs, see docs/scale.md",
            {"pretrain": "librispeech-pretrain", "finetune": "librispeech"},
            {"pretrain": 100_000, "finetune": 50_000},
            {"pretrain": 600, "finetune": 600},
            corpora.librispeech,
        ),
    )
}
