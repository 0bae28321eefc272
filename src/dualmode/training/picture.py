"""Plots of a training run, from its log."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dualmode.config import PretrainingConfig, RandomQuantizerConfig
from dualmode.plots import load_pyplot, save_plot
from dualmode.training.journal import LOG, read_log

FILE = "training.png"


def draw_training(folder: Path) -> Path | None:
    """Plot losses, word error rates and sparsity over the steps of a run.

    Returns:
        the path of the PNG, or None if nothing has been logged yet.
    """
    records = read_log(folder / LOG)
    if not records:
        return None
    pyplot = load_pyplot()
    figure, (losses, errors, sparsity) = pyplot.subplots(
        3, 1, figsize=(8, 9), sharex=True, gridspec_kw={"height_ratios": [3, 3, 1]}
    )
    for name, color in _recognisers(records, "ctc"):
        learning = [r for r in records if r.get(f"{name}/transducer", 0) > 0]
        losses.plot(*_series(learning, f"{name}/transducer"), color=color, label=name)
        losses.plot(*_series(records, f"{name}/ctc"), color=color, ls=":", label=f"{name}, CTC")
        errors.plot(*_series(records, f"wer/{name}", 100), color=color, marker=".", label=name)
    losses.set(ylabel="loss (nats per token)", yscale="log")
    errors.set(ylabel="WER on dev (%)", ylim=(0, 105))
    sparsity.plot(*_series(records, "sparsity", 100), color="tab:green")
    sparsity.set(ylabel="device sparsity (%)", xlabel="step", ylim=(0, 100))
    for axis in (losses, errors):
        axis.legend()
    for axis in (losses, errors, sparsity):
        axis.grid(alpha=0.3)
    return save_plot(figure, folder / FILE)


def draw_pretraining(folder: Path, config: PretrainingConfig) -> Path | None:
    """Plot contrastive loss, accuracy, code perplexity, similarities and gradient norm over the
    steps of a run.

    Returns:
        the path of the PNG, or None if nothing has been logged yet.
    """
    records = read_log(folder / LOG)
    if not records:
        return None
    pyplot = load_pyplot()
    figure, grid = pyplot.subplots(3, 2, figsize=(11, 10), sharex=True)
    (losses, right), (codes, used), (cosines, gradient) = grid
    _draw_predictions(records, "contrastive", losses, right, gradient)
    for name, color in _recognisers(records, "contrastive"):
        cosines.plot(*_series(records, f"{name}/positive_similarity"), color=color, label=name)
        distractors = _series(records, f"{name}/negative_similarity")
        cosines.plot(*distractors, color=color, ls=":", label=f"{name}, distractors")
    right.axhline(100 / (1 + config.distractors), color="tab:gray", ls="--", label="chance")
    for number in range(1, config.codebooks + 1):
        in_use = _series(records, f"codes/perplexity_{number}")
        codes.plot(*in_use, label=f"codebook {number} of {config.entries}")
        share = _series(records, f"dev/codes/used_{number}", 100)
        used.plot(*share, marker=".", label=f"codebook {number}, dev")
    losses.set(ylabel="contrastive loss (nats)")
    right.set(ylabel="right choices (%)", ylim=(0, 100))
    codes.set(ylabel="perplexity of codes", ylim=(0, config.entries))
    used.set(ylabel="codes in use (%)", ylim=(0, 105))
    cosines.set(ylabel="cosine with the target", xlabel="step")
    return _save(figure, grid, folder)


def draw_masked_prediction(folder: Path, config: RandomQuantizerConfig) -> Path | None:
    """Plot cross-entropy, accuracy, code perplexity and gradient norm of BEST-RQ over the steps of
    a run.

    Returns:
        the path of the PNG, or None if nothing has been logged yet.
    """
    records = read_log(folder / LOG)
    if not records:
        return None
    pyplot = load_pyplot()
    figure, grid = pyplot.subplots(2, 2, figsize=(11, 7), sharex=True)
    (losses, right), (codes, gradient) = grid
    _draw_predictions(records, "cross_entropy", losses, right, gradient)
    losses.axhline(math.log(config.entries), color="tab:gray", ls="--", label="chance")
    most = _series(records, "dev/codes/most_frequent", 100)
    right.plot(*most, color="tab:gray", ls="--", label="most frequent code, dev")
    for number in range(1, config.codebooks + 1):
        label = f"codebook {number} of {config.entries}"
        codes.plot(*_series(records, f"codes/perplexity_{number}"), label=label)
        dev = _series(records, f"dev/codes/perplexity_{number}")
        codes.plot(*dev, ls="", marker=".", label=f"codebook {number}, dev")
    losses.set(ylabel="cross-entropy (nats)")
    right.set(ylabel="right codes (%)")
    codes.set(ylabel="perplexity of targets", xlabel="step")
    return _save(figure, grid, folder)


def draw_phones(folder: Path, phones: int) -> Path | None:
    """Plot cross-entropy, accuracy and gradient norm of the classification of ``phones`` phones
    over the steps of a run.

    Returns:
        the path of the PNG, or None if nothing has been logged yet.
    """
    records = read_log(folder / LOG)
    if not records:
        return None
    pyplot = load_pyplot()
    figure, grid = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True)
    losses, right, gradient = grid
    _draw_predictions(records, "cross_entropy", losses, right, gradient)
    losses.axhline(math.log(phones), color="tab:gray", ls="--", label="chance")
    most = _series(records, "dev/phones/most_frequent", 100)
    right.plot(*most, color="tab:gray", ls="--", label="most frequent phone, dev")
    losses.set(ylabel="cross-entropy (nats)")
    right.set(ylabel="right phones (%)")
    return _save(figure, grid, folder)


def _draw_predictions(
    records: list[dict[str, Any]], loss: str, losses: Any, right: Any, gradient: Any
) -> None:
    """Plot what all objectives of pre-training log: the loss and the accuracy of each recogniser,
    and the norm of the gradient."""
    for name, color in _recognisers(records, loss):
        losses.plot(*_series(records, f"{name}/{loss}"), color=color, label=name)
        right.plot(*_series(records, f"{name}/accuracy", 100), color=color, label=name)
        dev = _series(records, f"dev/{name}/accuracy", 100)
        right.plot(*dev, color=color, ls="", marker=".", label=f"{name}, dev")
    gradient.plot(*_series(records, "gradient_norm"), color="tab:green", label="before clipping")
    gradient.set(ylabel="gradient norm", xlabel="step", yscale="log")


def _save(figure: Any, grid: Any, folder: Path) -> Path:
    for axis in grid.flat:
        axis.legend()
        axis.grid(alpha=0.3)
    return save_plot(figure, folder / FILE)


def _recognisers(records: list[dict[str, Any]], loss: str) -> list[tuple[str, str]]:
    """Names and colours of the trained recognisers."""
    colors = {"server": "tab:blue", "device": "tab:orange"}
    return [(n, c) for n, c in colors.items() if any(f"{n}/{loss}" in r for r in records)]


def _series(
    records: list[dict[str, Any]], name: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    chosen = [r for r in records if name in r]
    return [r["step"] for r in chosen], [scale * r[name] for r in chosen]
