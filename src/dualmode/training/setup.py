"""What a run needs before its first step: devices, tokens, data, supernet, optimiser."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from lhotse import CutSet
from lightning_fabric import Fabric

from dualmode.config import Recipe, TrainingConfig
from dualmode.data.batches import BatchSource, Position
from dualmode.data.manifests import read_cuts
from dualmode.errors import DataError, TextError
from dualmode.model.subnet import Subnet
from dualmode.model.supernet import Supernet, device_subnet
from dualmode.text import Tokens, normalize, train_tokens

_STATISTICS_CUTS = 300  # utterances that the features' mean and deviation are measured on


@dataclass(frozen=True)
class Run:
    """Everything a run works with; only the tensors inside change."""

    fabric: Fabric
    recipe: Recipe
    out: Path
    tokens: Tokens
    source: BatchSource
    dev: BatchSource
    model: Supernet
    average: Supernet
    optimizer: torch.optim.Optimizer
    device: Subnet


def set_up(recipe: Recipe, out: Path) -> Run:
    """Prepare a run in the directory ``out``.

    Raises:
        DataError: a CutSet is missing or nothing in it can be used.
    """
    fabric = start_fabric(recipe.training)
    if not recipe.data.train or not recipe.data.dev:
        raise DataError(
            "the recipe names no CutSets; add --set data.train=[DIR] --set data.dev=[DIR]"
        )
    cuts, dev_cuts = read_cuts(recipe.data.train), read_cuts(recipe.data.dev)
    noise = read_cuts(recipe.data.noise) if recipe.data.noise else None
    tokens = _tokens(fabric, cuts, recipe, out)
    source = _source(fabric, cuts, tokens, recipe, noise)
    dev = BatchSource(
        _spread(dev_cuts, recipe.training.validation_utterances),
        tokens,
        recipe.text,
        recipe.data,
        seed=0,
        train=False,
    )
    torch.manual_seed(recipe.training.seed)
    model = Supernet(tokens.size, recipe.model, recipe.pruning)
    _measure_features(model, cuts, tokens, recipe)
    model.to(fabric.device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimizer = make_optimizer(model, recipe.training)
    subnet = device_subnet(recipe)
    return Run(fabric, recipe, out, tokens, source, dev, model, average, optimizer, subnet)


def start_fabric(config: TrainingConfig) -> Fabric:
    """Devices and processes: all that torchrun started, or one process on the best device."""
    from torch.distributed import is_torchelastic_launched

    precision = "bf16-mixed" if wants_bf16(config.precision) else "32-true"
    if not is_torchelastic_launched():
        fabric = Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
    else:
        import os

        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        fabric = Fabric(
            accelerator="auto",
            devices=local,
            num_nodes=nodes,
            strategy="ddp",
            precision=precision,  # type: ignore[arg-type]
        )
    fabric.launch()
    return fabric


def wants_bf16(precision: str) -> bool:
    """Whether ``auto`` means bfloat16 here: on CUDA, and on CPUs with instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def make_optimizer(model: Supernet, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; biases, norms and other vectors are not decayed."""
    matrices = [p for n, p in model.named_parameters() if p.dim() >= 2 and "norm" not in n]
    held = {id(p) for p in matrices}
    vectors = [p for p in model.parameters() if id(p) not in held]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def _tokens(fabric: Fabric, cuts: CutSet, recipe: Recipe, out: Path) -> Tokens:
    """Tokens of an earlier sitting, or new ones from the training text."""
    if fabric.is_global_zero and not (out / "tokens.model").is_file():
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
                continue  # BatchSource lists these cuts in its report
    return texts


def _source(
    fabric: Fabric, cuts: CutSet, tokens: Tokens, recipe: Recipe, noise: CutSet | None
) -> BatchSource:
    return BatchSource(
        cuts,
        tokens,
        recipe.text,
        recipe.data,
        seed=recipe.training.seed,
        train=True,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        noise=noise,
    )


def _spread(cuts: CutSet, count: int) -> CutSet:
    """At most ``count`` cuts, evenly spread over a CutSet: corpora often stand in blocks."""
    everything = list(cuts)
    step = max(1.0, len(everything) / count)
    return CutSet.from_cuts(everything[int(i * step)] for i in range(min(count, len(everything))))


def _measure_features(model: Supernet, cuts: CutSet, tokens: Tokens, recipe: Recipe) -> None:
    """Set the mean and deviation of log-mels from a sample of the training set."""
    sample = BatchSource(
        _spread(cuts, _STATISTICS_CUTS),
        tokens,
        recipe.text,
        recipe.data.model_copy(update={"workers": 0}),
        seed=0,
        train=False,
    )
    real = [
        batch.features[row, :length]
        for batch, _ in sample.batches(Position())
        for row, length in enumerate(batch.feature_lengths.tolist())
    ]
    mels = torch.cat(real)
    subsampling = model.encoder.subsampling
    subsampling.mean.copy_(mels.mean(dim=0))
    subsampling.deviation.copy_(mels.std(dim=0).clamp_min(1e-3))
