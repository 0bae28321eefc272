"""Set up a run: devices, data, tokens, supernet and optimiser."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from lhotse import CutSet
from lightning_fabric import Fabric
from torch import Tensor
from torch.distributed import is_torchelastic_launched

from dualmode.config import Recipe, TrainingConfig
from dualmode.data.batches import BatchSource, Position
from dualmode.data.manifests import read_cuts
from dualmode.errors import DataError, TextError
from dualmode.features import Framing
from dualmode.model.backbone import Backbone
from dualmode.model.subnet import Subnet, trained_subnets
from dualmode.text import TOKENS_MODEL, TOKENS_TXT, Tokens, normalize, train_tokens
from dualmode.training.checkpoint import Progress
from dualmode.training.initialize import recognises, start_from
from dualmode.training.objective import Model, Objective
from dualmode.training.original import Original
from dualmode.training.pruning_scores import PruningScore, make_score

# The journal reports enough. Set here, because new processes import this module first.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_STATISTICS_CUTS = 300  # utterances for the mean and standard deviation of features
_FEWEST_SECONDS = 15.0  # least audio per batch and process


@dataclass(frozen=True)
class Run(Generic[Model]):
    """The objects of a run. They are fixed; only the tensors inside change. ``anchors`` has the
    initial value of each parameter, if the recipe pulls weights towards them. ``note`` is a remark
    for the user on how the run begins."""

    fabric: Fabric
    recipe: Recipe
    out: Path
    objective: Objective[Model]
    source: BatchSource
    dev: BatchSource
    model: Model
    average: Model
    optimizer: torch.optim.Optimizer
    score: PruningScore
    subnets: Mapping[str, Subnet]
    begin: Progress
    anchors: Mapping[Tensor, Tensor] | None
    note: str = ""


@dataclass(frozen=True)
class Corpora:
    """The data of a run: all training cuts, the batches of this process, and the tokens, which are
    None in pre-training."""

    cuts: CutSet
    source: BatchSource
    dev: BatchSource
    tokens: Tokens | None


def read_corpora(fabric: Fabric, recipe: Recipe, out: Path, shares: int) -> Corpora:
    """Read the CutSets of a run in the directory ``out``; ``shares`` processes share each batch.

    Raises:
        DataError: a CutSet is missing, or none of its cuts can be used.
    """
    if not recipe.data.train or not recipe.data.dev:
        raise DataError(
            "the recipe names no CutSets; add --set data.train=[DIR] --set data.dev=[DIR]"
        )
    cuts = read_cuts(recipe.data.train, recipe.data.weights)
    dev_cuts = read_cuts(recipe.data.dev)
    tokens = None
    if recipe.training.objective == "finetune":
        tokens = _tokens(fabric, cuts, recipe, out)
    source = _source(fabric, cuts, tokens, recipe, shares, train=True)
    sample = _spread(dev_cuts, recipe.training.validation_utterances)
    dev = _source(fabric, sample, tokens, recipe, shares, train=False)
    return Corpora(cuts, source, dev, tokens)


def set_up(
    fabric: Fabric,
    recipe: Recipe,
    out: Path,
    objective: Objective[Model],
    corpora: Corpora,
    *,
    resuming: bool,
    original: Original | None = None,
) -> Run[Model]:
    """Prepare a run in the directory ``out``.

    Args:
        resuming: weights will be restored from a checkpoint.
        original: the recogniser that pulls the weights, if the recipe wants that.

    Raises:
        DataError: none of the utterances for the feature statistics can be read.
        ModelError: ``recipe.init.model`` cannot be read or does not fit.
    """
    torch.manual_seed(recipe.training.seed)
    model, begin, note = objective.build(), Progress(), ""
    if resuming:
        pass
    elif recipe.init.model is None:
        _measure_features(model, corpora.cuts, corpora.tokens, recipe)
    else:
        start = start_from(model, Path(recipe.init.model), recipe)
        begin = Progress(sparsity_kept=start.sparsity_kept)
        if start.new:
            note = (
                f"{recipe.init.model} has frames of another length than this run, so "
                f"{' and '.join(start.new)} start from random weights"
            )
    model.to(fabric.device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    anchors: dict[Tensor, Tensor] | None = None
    if original is not None and recipe.init.weight_pull:
        initial = dict(original.model.named_parameters())
        anchors = {parameter: initial[name] for name, parameter in model.named_parameters()}
    return Run(
        fabric,
        recipe,
        out,
        objective,
        corpora.source,
        corpora.dev,
        model,
        average,
        make_optimizer(model, recipe),
        make_score(model, recipe.pruning),
        trained_subnets(recipe),
        begin,
        anchors,
        note,
    )


def _source(
    fabric: Fabric,
    cuts: CutSet,
    tokens: Tokens | None,
    recipe: Recipe,
    shares: int,
    *,
    train: bool,
) -> BatchSource:
    """This process's part of the batches of ``cuts``."""
    noise = read_cuts(recipe.data.noise) if train and recipe.data.noise else None
    seconds = recipe.data.batch_seconds / shares
    return BatchSource(
        cuts,
        tokens,
        recipe.text,
        recipe.data.model_copy(update={"batch_seconds": seconds}),
        Framing(recipe.model.frame_ms),
        seed=recipe.training.seed if train else 0,
        train=train,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        noise=noise,
        pretraining=recipe.pretraining if recipe.training.objective == "pretrain" else None,
    )


def cpu_processes(recipe: Recipe) -> int:
    """Number of processes on CPUs, unless torchrun starts them.

    Two processes of one thread each train up to twice as fast as one process of two threads,
    because most operations of a step are too small to parallelise.
    """
    if torch.cuda.is_available() or is_torchelastic_launched():
        return 1
    if recipe.training.processes is not None:
        return recipe.training.processes
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, int(recipe.data.batch_seconds // _FEWEST_SECONDS)))


def make_fabric(config: TrainingConfig, processes: int) -> Fabric:
    """Select device and processes: those of torchrun, ``processes`` new ones, or this one."""
    precision: Any = "bf16-mixed" if wants_bf16(config.precision) else "32-true"
    kind = "cuda" if torch.cuda.is_available() else "cpu"  # others lack float64
    if is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        return Fabric(
            accelerator=kind, devices=local, num_nodes=nodes, strategy="ddp", precision=precision
        )
    if processes > 1:
        return Fabric(
            accelerator="cpu", devices=processes, strategy="ddp_spawn", precision=precision
        )
    return Fabric(accelerator=kind, devices=1, precision=precision)


def wants_bf16(precision: str) -> bool:
    """Whether to use bfloat16; ``auto`` does on CUDA and on CPUs with instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def make_optimizer(model: Backbone, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW without weight decay of biases, norms and other vectors. A group's ``factor``
    multiplies the learning rate, so that a recipe can lower the rate of pre-trained layers."""
    config = recipe.training
    pretrained = {id(p) for p in model.encoder.parameters()} if recipe.init.model else set()
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decay = config.weight_decay if parameter.dim() >= 2 and "norm" not in name else 0.0
        factor = recipe.init.learning_rate_factor if id(parameter) in pretrained else 1.0
        groups.setdefault((decay, factor), []).append(parameter)
    listed = [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def _tokens(fabric: Fabric, cuts: CutSet, recipe: Recipe, out: Path) -> Tokens:
    """Tokens of the run to resume, of the recogniser to start from, or trained on the texts."""
    if fabric.is_global_zero and not (out / TOKENS_MODEL).is_file():
        start = Path(recipe.init.model) if recipe.init.model else None
        if start and recognises(start):
            for name in (TOKENS_TXT, TOKENS_MODEL):  # the file that is checked for comes last
                shutil.copyfile(start / name, out / name)
        else:
            train_tokens(_texts(cuts, recipe), recipe.text, out)
    fabric.barrier()
    return Tokens.load(out)


def _texts(cuts: CutSet, recipe: Recipe) -> list[str]:
    texts = []
    for cut in cuts:
        for supervision in cut.supervisions:
            try:
                texts.append(normalize(supervision.text or "", recipe.text))
            except TextError:
                continue  # BatchSource reports these cuts
    return texts


def _spread(cuts: CutSet, count: int) -> CutSet:
    """At most ``count`` cuts, evenly spaced, since corpora are often concatenated."""
    everything = list(cuts)
    step = max(1.0, len(everything) / count)
    return CutSet.from_cuts(everything[int(i * step)] for i in range(min(count, len(everything))))


def _measure_features(model: Backbone, cuts: CutSet, tokens: Tokens | None, recipe: Recipe) -> None:
    """Set the mean and standard deviation of log-mels from a sample of the training set."""
    sample = BatchSource(
        _spread(cuts, _STATISTICS_CUTS),
        tokens,
        recipe.text,
        recipe.data.model_copy(update={"workers": 0}),
        Framing(recipe.model.frame_ms),
        seed=0,
        train=False,
    )
    real = [
        batch.features[row, :length]
        for batch, _ in sample.batches(Position())
        for row, length in enumerate(batch.feature_lengths.tolist())
    ]
    if not real:
        raise DataError("no file of the training set can be read: prepare the corpus again")
    mels = torch.cat(real)
    subsampling = model.encoder.subsampling
    subsampling.mean.copy_(mels.mean(dim=0))
    subsampling.deviation.copy_(mels.std(dim=0).clamp_min(1e-3))
