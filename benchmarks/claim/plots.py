"""Plots of the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.claim.comparisons import APART
from benchmarks.claim.report import RECOGNISERS
from benchmarks.claim.rows import MAIN, SPLIT

_COLORS = dict(zip(RECOGNISERS, ("tab:blue", "tab:orange"), strict=True))


def draw(results: dict[str, Any], out: Path) -> list[Path]:
    """Plot WER by row and by FLOPs, and device's WER by sparsity if several were scored; returns
    the paths of the PNGs."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = [_draw_rows(results, out / "wer.png"), _draw_curves(results, out / "curves.png")]
    if results["sparsities"]:
        drawn.append(_draw_sparsities(results["sparsities"], out / "sparsity.png"))
    return drawn


def _draw_rows(results: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot

    rows = {name: row for name, row in results["rows"].items() if _COLORS.keys() & row}
    figure, axis = pyplot.subplots(figsize=(8, 1.5 + 0.45 * len(rows)))
    for place, row in enumerate(rows.values()):
        for shift, (recogniser, color) in zip((-0.12, 0.12), _COLORS.items(), strict=True):
            if recogniser not in row:
                continue
            wer = row[recogniser]["wer"]
            low, high = (100 * bound for bound in wer["ci95"])
            axis.plot([low, high], [place + shift] * 2, color=color, lw=2)
            axis.plot(100 * wer["mean"], place + shift, "o", color=color)
            seeds = [100 * rate for rate in wer["seeds"]]
            axis.plot(seeds, [place + shift] * len(seeds), "|", color=color, ms=10)
    for recogniser, color in _COLORS.items():
        axis.plot([], [], "o-", color=color, label=recogniser)
    axis.set_yticks(range(len(rows)), [f"{n}: {row['title']}" for n, row in rows.items()])
    axis.set(xlabel="WER on the test set (%): mean, every seed, 95 % by speakers")
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.legend()
    return _saved(figure, path)


def cost_points(results: dict[str, Any], recogniser: str) -> dict[str, list[list[Any]]]:
    """TFLOP spent on both recognisers and WER on the development set, one series per row and seed.

    The cost of a recogniser that is trained alone includes that of the other one, at the same rate.
    If the other one has not been trained, the name of the row says so.
    """
    rows = results["rows"]
    found: dict[str, list[list[Any]]] = {}
    for name in _curved(results):
        other = rows.get(APART.get(name, ""))
        both = 1 + other["cost"]["flops"] / rows[name]["cost"]["flops"] if other else 1
        series = [
            [(both * p["flops"] / 1e12, p[recogniser]) for p in curve if recogniser in p]
            for curve in rows[name]["curves"].values()
        ]
        label = f"{name} (without {APART[name]})" if name in APART and not other else name
        if kept := [points for points in series if points]:
            found[label] = kept
    return found


def _curved(results: dict[str, Any]) -> list[str]:
    return [row.name for row in (*MAIN, *SPLIT) if row.name in results["rows"]]


def _draw_curves(results: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5.2), sharey=True)
    colors = {name: f"C{place}" for place, name in enumerate(_curved(results))}
    for axis, recogniser in zip(axes, _COLORS, strict=True):
        for label, seeds in cost_points(results, recogniser).items():
            color = colors[label.partition(" ")[0]]
            for series in seeds:
                flops, rates = zip(*series, strict=True)
                wer = [100 * rate for rate in rates]
                shown = label if series is seeds[0] else None
                axis.plot(flops, wer, color=color, lw=1, label=shown)
                axis.plot(flops[-1], wer[-1], "o", color=color)
        axis.set(title=recogniser, xlabel="TFLOP spent on both recognisers", ylim=(0, 105))
        axis.grid(alpha=0.3)
        if axis.get_lines():
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, fontsize="small")
    axes[0].set(ylabel="WER on the development set (%)")
    return _saved(figure, path)


def _draw_sparsities(points: dict[str, list[tuple[float, dict[str, Any]]]], path: Path) -> Path:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5))
    for (label, series), color in zip(points.items(), ("tab:orange", "tab:gray"), strict=True):
        places = [100 * sparsity for sparsity, _ in series]
        means = [100 * wer["mean"] for _, wer in series]
        low, high = ([100 * wer["ci95"][end] for _, wer in series] for end in (0, 1))
        axis.plot(places, means, "o-", color=color, label=label)
        axis.fill_between(places, low, high, color=color, alpha=0.15)
    axis.set(xlabel="sparsity of device (%)", ylabel="WER on the test set (%)")
    axis.grid(alpha=0.3)
    axis.legend()
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
