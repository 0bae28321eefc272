"""Trainings and their scores, stored in separate files, so that nothing is computed twice."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lhotse import CutSet
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
            _wait_until((folder / COST).is_file)
            return
        progress = result.progress
        cost = {
            "steps": progress.step,
            "audio_hours": progress.audio_seconds / 3600,
            "minutes": progress.seconds / 60,
            "flops": flops_per_audio_second(recipe) * progress.audio_seconds,
        }
        replace_text(folder / COST, json.dumps(cost, indent=2) + "\n")

    def trained(self, stage: Stage) -> list[int]:
        """Seeds for which the training of a stage is finished."""
        return _seeds(self.out.glob(f"seed-*/{stage.name}/{COST}"))

    @cached_property
    def test(self) -> tuple[CutSet, str]:
        """The cuts of the test set, and a digest of their ids, texts, speakers and corpora."""
        cuts = read_cuts([str(part) for part in self.speech.test]).to_eager()
        listed = sorted(
            (cut.id, s.text, s.speaker, (s.custom or {}).get("corpus"))
            for cut in cuts
            for s in cut.supervisions
        )
        return cuts, hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]

    def score(self, row: Row, seed: int) -> bool:
        """Score the recognisers of a row on the test set, and store their sizes; False if they have
        been scored on this test set before."""
        path = self.scores_path(row, seed)
        cuts, digest = self.test
        if _is_of(path, digest):
            return False
        if not first_process():
            _wait_until(lambda: _is_of(path, digest))
            return True
        folder = self.folder(row.stage, seed)
        subnets = row.subnets(_trained_by(folder))
        self.console.rule(f"scoring {row.name}", align="left")
        with scoring_bar(self.console) as bar:
            where = "cuda" if torch.cuda.is_available() else "cpu"
            found = evaluate(load(folder, where), cuts, subnets, progress=bar)
        self.console.print(found.table())
        scores = {
            "test": digest,
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
        return True

    def scores_path(self, row: Row, seed: int) -> Path:
        return self.folder(row.stage, seed) / f"errors-{row.name}.json"

    def seeds_of(self, row: Row) -> list[int]:
        """Seeds for which the row has been scored."""
        return _seeds(self.out.glob(f"seed-*/{row.stage.name}/errors-{row.name}.json"))

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

    def batch_seconds(self, stage: Stage, seed: int) -> float:
        """Audio of a batch by the recipe of a stage, in seconds, for each process."""
        return _trained_by(self.folder(stage, seed)).data.batch_seconds

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


def _wait_until(done: Callable[[], bool]) -> None:
    """Wait until the first process has written a file. Otherwise the others would find an
    unfinished stage, or time out in the process group of the next training."""
    while not done():
        time.sleep(0.5)


def _seeds(files: Iterable[Path]) -> list[int]:
    """Seeds of files in the folders of stages."""
    return sorted(int(path.parent.parent.name.removeprefix("seed-")) for path in files)


def _is_of(path: Path, digest: str) -> bool:
    """Whether a file has scores of the test set with this digest."""
    if not path.is_file():
        return False
    return bool(json.loads(path.read_text(encoding="utf-8"))["test"] == digest)


def _kinds(counts: ErrorCounts) -> dict[str, list[int]]:
    return {kind: getattr(counts, kind).tolist() for kind in KINDS}


def _trained_by(folder: Path) -> Recipe:
    return load_recipe(folder / CONFIG)


def _sizes(folder: Path, subnets: Mapping[str, Subnet]) -> dict[str, dict[str, Any]]:
    """Parameters that recognisers use, and their bytes in each format."""
    inspection = inspect_model(load_model(folder).model)
    bytes_of = {(f.recogniser, f.format): f.total_bytes for f in inspection.footprints}
    targets = dict(zip(inspection.sparsities, inspection.measured, strict=True))
    dense = {form: size for (who, form), size in bytes_of.items() if who == "server"}
    sizes = {}
    for name, subnet in subnets.items():
        removed = targets.get(subnet.sparsity, 0.0) * inspection.prunable
        sizes[name] = {
            "parameters": round(dense["dense fp32"] // 4 - removed),
            "sparsity": subnet.sparsity,
            "bytes": dense,
        }
        if subnet.sparsity:
            form = "sparse int8"
            sizes[name]["bytes"] = {**dense, form: bytes_of[f"device at {subnet.sparsity:g}", form]}
    return sizes
