"""Trainings and their scores, stored in separate files, so that nothing is computed twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.claim.corpora import Corpora
from benchmarks.claim.cost import flops_per_audio_second
from benchmarks.claim.profiles import Profile
from benchmarks.claim.rows import Row, Stage
from dualmode.config import Recipe
from dualmode.data.manifests import read_cuts
from dualmode.display import scoring_bar
from dualmode.errors import CheckpointError
from dualmode.evaluation.scoring import evaluate
from dualmode.evaluation.wer import ErrorCounts
from dualmode.model.directory import CONFIG, load_model
from dualmode.model.inspection import inspect_model
from dualmode.model.subnet import Subnet
from dualmode.recipe_files import load_recipe
from dualmode.recognizer import load
from dualmode.training.checkpoint import same_training
from dualmode.training.journal import LOG, read_log
from dualmode.training.launch import train
from dualmode.training.loop import FOLDER
from dualmode.whole_files import replace_text

COST = "cost.json"
KINDS = ("insertions", "deletions", "substitutions")


@dataclass(frozen=True)
class Comparison:
    """A profile, its corpora, and the folder of all trainings.

    Attributes:
        scale: factor on the lengths of all trainings of the profile.
    """

    profile: Profile
    speech: Corpora
    out: Path
    console: Console
    scale: float = 1.0

    def folder(self, stage: Stage, seed: int) -> Path:
        return self.out / f"seed-{seed}" / stage.name

    def train(self, stage: Stage, seed: int) -> None:
        """Train or resume a stage, and store its cost.

        Raises:
            CheckpointError: the folder contains a training of another recipe.
            KeyboardInterrupt: the training was interrupted, and saved.
        """
        folder = self.folder(stage, seed)
        init = self.folder(stage.init, seed) if stage.init else None
        recipe = self.profile.recipe(stage, seed, self.speech, init, self.scale)
        if (folder / COST).is_file():
            if not same_training(_trained_by(folder), recipe):
                raise CheckpointError(
                    f"{folder} was trained with other settings; use another --out, or the original "
                    "--set, --scale and --data"
                )
            return
        self.console.rule(f"training {stage.name}", align="left")
        result = train(recipe, folder, console=self.console)
        if not result.finished:
            raise KeyboardInterrupt
        if not first_process():
            _wait_for(folder / COST)
            return
        progress = result.progress
        cost = {
            "steps": progress.step,
            "audio_hours": progress.audio_seconds / 3600,
            "minutes": progress.seconds / 60,
            "flops": flops_per_audio_second(recipe) * progress.audio_seconds,
        }
        replace_text(folder / COST, json.dumps(cost, indent=2) + "\n")

    def score(self, row: Row, seed: int) -> None:
        """Score the recognisers of a row on the test set, and store their sizes."""
        path = self.scores_path(row, seed)
        if path.is_file():
            return
        if not first_process():
            _wait_for(path)
            return
        folder = self.folder(row.stage, seed)
        subnets = row.subnets(_trained_by(folder))
        cuts = read_cuts([str(part) for part in self.speech.test])
        self.console.rule(f"scoring {row.name}", align="left")
        with scoring_bar(self.console) as bar:
            where = "cuda" if torch.cuda.is_available() else "cpu"
            found = evaluate(load(folder, where), cuts, subnets, progress=bar)
        self.console.print(found.table())
        scores = {
            "utterances": {
                "id": [u.id for u in found.utterances],
                "speaker": [u.speaker for u in found.utterances],
                "corpus": [u.corpus for u in found.utterances],
                "words": found.results[next(iter(subnets))].scores.words.reference.tolist(),
            },
            "errors": {name: _kinds(r.scores.words) for name, r in found.results.items()},
            "size": _sizes(folder, subnets),
        }
        replace_text(path, json.dumps(scores) + "\n")

    def scores_path(self, row: Row, seed: int) -> Path:
        return self.folder(row.stage, seed) / f"scores-{row.name}.json"

    def seeds_of(self, row: Row) -> list[int]:
        """Seeds for which the row has been scored."""
        found = self.out.glob(f"seed-*/{row.stage.name}/scores-{row.name}.json")
        return sorted(int(path.parent.parent.name.removeprefix("seed-")) for path in found)

    def cost(self, stage: Stage, seed: int) -> dict[str, float]:
        """Total cost of a stage and of the stages that it is initialised from.

        Raises:
            CheckpointError: a training has another length than this comparison.
        """
        parts = [self._own_cost(part, seed) for part in stage.chain]
        return {key: sum(part[key] for part in parts) for key in parts[0]}

    def step_seconds(self, stage: Stage, seed: int) -> float:
        """Audio per step of a stage, in seconds, over all processes."""
        own = self._own_cost(stage, seed)
        return 3600 * own["audio_hours"] / own["steps"]

    def _own_cost(self, stage: Stage, seed: int) -> dict[str, float]:
        path = self.folder(stage, seed) / COST
        cost: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        if cost["steps"] != self.profile.steps_of(stage, self.scale):
            raise CheckpointError(
                f"{path.parent} was trained for {cost['steps']} steps, which is not --scale "
                f"{self.scale:g} of this profile; use the original --scale"
            )
        return cost

    def curve(self, stage: Stage, seed: int) -> list[dict[str, float]]:
        """WER on the development set and FLOPs so far, from the training log; ``settled`` marks
        the part with fixed masks and the final objective, from which a model is selected."""
        own = self._own_cost(stage, seed)
        before = self.cost(stage, seed)["flops"] - own["flops"]
        return [
            {"flops": before + own["flops"] * record["step"] / own["steps"]}
            | {name: record[f"wer/{name}"] for name in _NAMES if f"wer/{name}" in record}
            | {"settled": record.get("settled", 1.0)}
            for record in read_log(self.folder(stage, seed) / FOLDER / LOG)
            if any(f"wer/{name}" in record for name in _NAMES)
        ]


_NAMES = ("server", "device")


def first_process() -> bool:
    """Whether this is the process, of those started by torchrun, that scores and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def _wait_for(path: Path) -> None:
    """Wait until the first process has written a file. Otherwise the others would find an
    unfinished stage, or time out in the process group of the next training."""
    while not path.is_file():
        time.sleep(0.5)


def _kinds(counts: ErrorCounts) -> dict[str, list[int]]:
    return {kind: getattr(counts, kind).tolist() for kind in KINDS}


def _trained_by(folder: Path) -> Recipe:
    return load_recipe(folder / CONFIG)


def _sizes(folder: Path, subnets: Mapping[str, Subnet]) -> dict[str, dict[str, Any]]:
    """Parameters that recognisers use, and sizes in bytes: dense fp32 or sparse int8."""
    inspection = inspect_model(load_model(folder).model)
    bytes_of = {(f.recogniser, f.format): f.total_bytes for f in inspection.footprints}
    targets = dict(zip(inspection.sparsities, inspection.measured, strict=True))
    sizes = {}
    for name, subnet in subnets.items():
        who = f"device at {subnet.sparsity:g}" if subnet.sparsity else "server"
        kind = "sparse int8" if subnet.sparsity else "dense fp32"
        removed = targets.get(subnet.sparsity, 0.0) * inspection.prunable
        dense = bytes_of["server", "dense fp32"] // 4
        sizes[name] = {
            "parameters": round(dense - removed),
            "bytes": bytes_of[who, kind],
            "format": kind,
            "sparsity": subnet.sparsity,
        }
    return sizes
