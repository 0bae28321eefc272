"""Stages (trainings) and rows (scored recognisers of a stage) of the comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from dualmode.config import Recipe
from dualmode.model.subnet import FullContext, Subnet, device_subnet, trained_subnets

SERVER_ALONE = ("training.subnets=[server]",)
DEVICE_ALONE = ("training.subnets=[device]",)


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        changes: overrides of the profile's recipe, in the syntax of ``--set``.
        init: stage from which the encoder is initialised.
        length: factor on the profile's number of steps.
    """

    name: str
    kind: Literal["pretrain", "finetune"]
    changes: tuple[str, ...] = ()
    init: Stage | None = None
    length: float = 1.0

    @property
    def chain(self) -> tuple[Stage, ...]:
        """This stage and those it is initialised from, in order of training."""
        return (*(self.init.chain if self.init else ()), self)


@dataclass(frozen=True)
class Row:
    """A row of the table: the recognisers of a stage.

    Attributes:
        views: other recognisers to score in addition to the trained ones.
    """

    name: str
    title: str
    stage: Stage
    views: Literal["trained", "corners", "sparsities"] = "trained"

    def subnets(self, recipe: Recipe) -> dict[str, Subnet]:
        """The recognisers to score, by name, given the recipe of the stage."""
        named = trained_subnets(recipe)
        if self.views == "corners":
            device = device_subnet(recipe)
            return {
                "full context, sparse": Subnet(FullContext(), device.sparsity),
                "streaming, dense": replace(device, sparsity=0.0),
            }
        if self.views == "sparsities":
            device = device_subnet(recipe)
            return {"server": named["server"]} | {
                f"device at {sparsity:g}": replace(device, sparsity=sparsity)
                for sparsity in recipe.pruning.sparsities
            }
        return named


_PRETRAIN_SERVER = Stage("pretrain-server", "pretrain", SERVER_ALONE)
_PRETRAIN_DEVICE = Stage("pretrain-device", "pretrain", DEVICE_ALONE)
_PRETRAIN_BOTH = Stage("pretrain-both", "pretrain")
_SHARED_NORMS = ("model.norms=shared",)
_E = Stage("E", "finetune", init=_PRETRAIN_BOTH)
SPARSITIES = (0.5, 0.7, 0.85, 0.9)

MAIN = (
    Row("A1", "server alone", Stage("A1", "finetune", SERVER_ALONE)),
    Row("A2", "device alone", Stage("A2", "finetune", DEVICE_ALONE)),
    Row(
        "B1",
        "server alone, pre-trained alone",
        Stage("B1", "finetune", SERVER_ALONE, _PRETRAIN_SERVER),
    ),
    Row(
        "B2",
        "device alone, pre-trained alone",
        Stage("B2", "finetune", DEVICE_ALONE, _PRETRAIN_DEVICE),
    ),
    Row("C", "supernet", Stage("C", "finetune")),
    Row("D", "supernet, server pre-trained", Stage("D", "finetune", init=_PRETRAIN_SERVER)),
    Row("E", "supernet, pre-trained as supernet", _E),
)


_HALF_BATCH = "data.batch_seconds=6"
_SPLIT = "training.step_sharing=split"
# The number of weights that device of the profile ``small`` keeps: 0.62 million.
_SMALL = ("model.width=80", "model.feed_forward=224", "training.device_subnet.sparsity=0")

_C_SPLIT = Stage("C-split", "finetune", (_SPLIT,), length=1.5)
_PRETRAIN_SPLIT = Stage("pretrain-split", "pretrain", (_SPLIT,))
_E_SPLIT = Stage("E-split", "finetune", (_SPLIT,), _PRETRAIN_SPLIT, 1.5)

SPLIT = (
    Row(
        "A1-half",
        "server alone, half the batch, twice the steps",
        Stage("A1-half", "finetune", (*SERVER_ALONE, _HALF_BATCH), length=2.0),
    ),
    Row(
        "A2-half",
        "device alone, half the batch, twice the steps",
        Stage("A2-half", "finetune", (*DEVICE_ALONE, _HALF_BATCH), length=2.0),
    ),
    Row(
        "F",
        "a small dense streaming recogniser alone, half the batch, twice the steps",
        Stage("F", "finetune", (*DEVICE_ALONE, *_SMALL, _HALF_BATCH), length=2.0),
    ),
    Row("C-split", "supernet, split steps, 1.5 times the steps", _C_SPLIT),
    Row(
        "B1-half",
        "server alone, pre-trained alone, half the batch, twice the steps",
        Stage("B1-half", "finetune", (*SERVER_ALONE, _HALF_BATCH), _PRETRAIN_SERVER, 2.0),
    ),
    Row(
        "B2-half",
        "device alone, pre-trained alone, half the batch, twice the steps",
        Stage("B2-half", "finetune", (*DEVICE_ALONE, _HALF_BATCH), _PRETRAIN_DEVICE, 2.0),
    ),
    Row(
        "F-pretrained",
        "F, pre-trained alone",
        Stage(
            "F-pretrained",
            "finetune",
            (*DEVICE_ALONE, *_SMALL, _HALF_BATCH),
            Stage("pretrain-F", "pretrain", (*DEVICE_ALONE, *_SMALL)),
            2.0,
        ),
    ),
    Row("E-split", "supernet, pre-trained as supernet, all steps split", _E_SPLIT),
)
"""Split steps cost half, so there can be more of them; rows A, B and F take the same number of
updates for their work. Half a batch is that of the profile ``small``."""


def _changed(base: Stage, name: str, title: str, setting: str) -> tuple[Row, Row]:
    """``base`` with one more setting of fine-tuning, and the other two corners of that."""
    stage = replace(base, name=f"{base.name}-{name}", changes=(*base.changes, setting))
    row = Row(stage.name, f"{base.name}, {title}", stage)
    return row, _corners(row)


def _corners(row: Row) -> Row:
    name, title = f"{row.name}-corners", f"{row.title}, the other two corners"
    return Row(name, title, row.stage, views="corners")


_ACTIVATION = ("activation", "pruned by weights and inputs", "pruning.score=activation")
_TAYLOR = ("taylor", "pruned by weights and gradients", "pruning.score=taylor")

SCORES = (
    *(_corners(row) for row in SPLIT if row.stage in (_C_SPLIT, _E_SPLIT)),
    *_changed(_C_SPLIT, *_ACTIVATION),
    *_changed(_C_SPLIT, *_TAYLOR),
    *_changed(
        _C_SPLIT,
        "device-share",
        "device trains on three quarters once the masks are fixed",
        "training.device_share_when_pruned=0.75",
    ),
    *_changed(_E_SPLIT, *_ACTIVATION),
    *_changed(_E_SPLIT, *_TAYLOR),
)
"""What sparsity costs: full context and streaming, each dense and sparse."""

OBJECTIVES = (
    Row(
        "E-split-best-rq",
        "E-split, pre-trained by BEST-RQ",
        replace(
            _E_SPLIT,
            name="E-split-best-rq",
            init=Stage(
                "pretrain-split-best-rq",
                "pretrain",
                (
                    _SPLIT,
                    "pretraining.objective=best_rq",
                    "pretraining.random_quantizer.entries=256",
                ),
            ),
        ),
    ),
)


def ablations(base: Recipe) -> tuple[Row, ...]:
    """Rows that differ from E in one setting; ``base`` is E's recipe of fine-tuning."""
    other = "lattice" if base.training.distillation == "ctc" else "ctc"
    pruning = base.pruning
    allocation = "global" if pruning.allocation == "uniform" else "uniform"
    norms = _SHARED_NORMS if base.model.norms == "separate" else ("model.norms=separate",)
    masks = "keep" if base.init.masks == "fresh" else "fresh"
    target = device_subnet(base).sparsity
    changed = {
        "no-distillation": ("without distillation", ("training.distillation=none",)),
        f"{other}-distillation": (
            f"distillation over {'the lattice' if other == 'lattice' else 'CTC posteriors'}",
            (f"training.distillation={other}",),
        ),
        f"{allocation}-allocation": (
            f"{allocation} allocation",
            (f"pruning.allocation={allocation}", f"pruning.layer_cap={max(0.95, target)}"),
        ),
        # Drawn once, at full sparsity, at the point where self-pruning would begin.
        "one-shot": (
            "masks fixed from the first draw",
            (f"pruning.end={pruning.start + 1e-6:.6f}",),
        ),
        "no-lookahead": ("no look-ahead", ("training.device_subnet.lookahead_frames=0",)),
        f"{masks}-masks": (
            "pruning continues from the masks of pre-training"
            if masks == "keep"
            else "pruning starts again after pre-training",
            (f"init.masks={masks}",),
        ),
        "sampled": ("a sampled subnet too", ("training.sampled_subnet=true",)),
    }
    rows = [
        Row(f"E-{name}", f"E, {title}", Stage(f"E-{name}", "finetune", changes, _PRETRAIN_BOTH))
        for name, (title, changes) in changed.items()
    ]
    kind = norms[0].partition("=")[2]
    pretrained = Stage(f"pretrain-{kind}-norms", "pretrain", norms)
    rows.append(
        Row(
            f"E-{kind}-norms",
            f"E, {kind} norms",
            Stage(f"E-{kind}-norms", "finetune", norms, pretrained),
        )
    )
    rows.append(
        Row(
            "E-three-quarters",
            "E, 0.75 of all steps",
            Stage(
                "E-three-quarters",
                "finetune",
                init=Stage("pretrain-three-quarters", "pretrain", length=0.75),
                length=0.75,
            ),
        )
    )
    rows.append(Row("E-corners", "E, the other two corners", _E, views="corners"))
    return (*rows, *_sparsity_rows(target))


def _sparsity_rows(target: float) -> list[Row]:
    """A supernet with several sparsities, and one supernet for each sparsity."""
    listed = (
        "training.sampled_subnet=true",
        f"training.device_subnet.sparsity={target}",
        f"pruning.sparsities={list(SPARSITIES)}",
    )
    several = Stage("E-sparsities", "finetune", listed, _PRETRAIN_BOTH)
    rows = [Row("E-sparsities", "E, one supernet of several sparsities", several, "sparsities")]
    for sparsity in SPARSITIES:
        if sparsity != target:
            name = f"E-{sparsity:g}"
            one = Stage(name, "finetune", (f"pruning.sparsities=[{sparsity}]",), _PRETRAIN_BOTH)
            rows.append(Row(name, f"E, pruned to {sparsity:.0%}", one))
    return rows


def choose(rows: Iterable[Row], wanted: str) -> list[Row]:
    """Rows by name, with commas between them; the groups are ``main``, ``split``, ``scores``,
    ``objectives``, ``ablations`` and ``all``.

    Raises:
        ValueError: no row has such a name.
    """
    rows = list(rows)
    names = {row.name for row in rows}
    groups = {
        group: {row.name for row in members} & names
        for group, members in (
            ("main", MAIN),
            ("split", SPLIT),
            ("scores", SCORES),
            ("objectives", OBJECTIVES),
        )
    }
    groups |= {"ablations": names.difference(*groups.values()), "all": names}
    chosen: set[str] = set()
    for word in wanted.split(","):
        chosen |= groups.get(word, {word})
    unknown = sorted(chosen - names)
    if unknown:
        raise ValueError(
            f"no row {', '.join(unknown)}; choose from {', '.join(r.name for r in rows)}"
        )
    return [row for row in rows if row.name in chosen]
