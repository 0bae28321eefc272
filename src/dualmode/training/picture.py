"""A picture of a training run, from its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualmode.training.journal import LOG, read_log

FILE = "training.png"


def draw_training(folder: Path) -> Path | None:
    """Draw losses, word error rates and sparsity over the steps of a run.

    Returns:
        the PNG's path, or None where nothing has been logged yet.
    """
    records = read_log(folder / LOG)
    if not records:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (losses, errors, sparsity) = pyplot.subplots(
        3, 1, figsize=(8, 9), sharex=True, gridspec_kw={"height_ratios": [3, 3, 1]}
    )
    for name, color in (("server", "tab:blue"), ("device", "tab:orange")):
        learning = [r for r in records if r.get(f"{name}/transducer", 0) > 0]
        losses.plot(*_series(learning, f"{name}/transducer"), color=color, label=name)
        losses.plot(*_series(records, f"{name}/ctc"), color=color, ls=":", label=f"{name}, CTC")
        errors.plot(*_series(records, f"wer/{name}", 100), color=color, marker=".", label=name)
    losses.set(ylabel="loss (nats a token)", yscale="log")
    errors.set(ylabel="WER on dev (%)", ylim=(0, 105))
    sparsity.plot(*_series(records, "sparsity", 100), color="tab:green")
    sparsity.set(ylabel="device sparsity (%)", xlabel="step", ylim=(0, 100))
    for axis in (losses, errors):
        axis.legend()
    for axis in (losses, errors, sparsity):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    path = folder / FILE
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _series(
    records: list[dict[str, Any]], name: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    chosen = [r for r in records if name in r]
    return [r["step"] for r in chosen], [scale * r[name] for r in chosen]
