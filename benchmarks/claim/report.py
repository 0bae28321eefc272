"""A Markdown table and plots of the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.claim.rows import MAIN

# Rows that train one recogniser each; a supernet is compared with the sum of their costs.
_APART = {"A1": "A2", "A2": "A1", "B1": "B2", "B2": "B1"}
_COLORS = {"server": "tab:blue", "device": "tab:orange"}


def markdown(results: dict[str, Any]) -> str:
    """Tables of rows with intervals and costs, and of comparisons."""
    lines = [
        f"Profile `{results['profile']}`, lengths times {results['scale']:g}. WER in percent: mean "
        "over seeds (95 % interval by speakers of the test set; every seed). The intervals do not "
        "include the variation between seeds.",
        "",
        "| row | | seeds | server | device | audio h | minutes | TFLOP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results["rows"].items():
        cost = row["cost"]
        cells = [_cell(row.get(recogniser)) for recogniser in ("server", "device")]
        lines.append(
            f"| {name} | {row['title']} | {len(row['seeds'])} | {cells[0]} | {cells[1]} "
            f"| {cost['audio_hours']:.1f} | {cost['minutes']:.1f} | {cost['flops'] / 1e12:.3g} |"
        )
        lines += [
            f"| | {other} | | | {_cell(found)} | | | |"
            for other, found in row.items()
            if other not in _COLORS and isinstance(found, dict) and "wer" in found
        ]
    return "\n".join(
        [
            *lines,
            "",
            *_warnings(results),
            *_by_corpus(results),
            *_sizes(results),
            "",
            *_comparisons(results),
            "",
        ]
    )


def _warnings(results: dict[str, Any]) -> list[str]:
    """Warn if rows differ in the number of processes in addition to their titles."""
    seconds = [found for row in results["rows"].values() for found in row["step_seconds"]]
    low, high = min(seconds), max(seconds)
    if high <= 1.5 * low:
        return []
    return [
        f"**Not all rows are comparable**: a step had {low:.0f} s to {high:.0f} s of audio. "
        "`data.batch_seconds` is per process; was the number of processes the same?",
        "",
    ]


def _cell(found: dict[str, Any] | None) -> str:
    return _rates(found["wer"]) if found else ""


def _rates(wer: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in wer["ci95"])
    each = ", ".join(f"{100 * rate:.1f}" for rate in wer["seeds"])
    return f"{100 * wer['mean']:.2f} ({low:.1f} to {high:.1f}; {each})"


def _by_corpus(results: dict[str, Any]) -> list[str]:
    """Rates of each corpus of the test set; empty if there is only one."""
    scored = [
        (name, recogniser, row[recogniser]["corpora"])
        for name, row in results["rows"].items()
        for recogniser in _COLORS
        if recogniser in row
    ]
    corpora = sorted({corpus for *_, found in scored for corpus in found})
    if len(corpora) < 2:
        return []
    lines = [
        f"| row | recogniser | {' | '.join(corpora)} |",
        f"|---|---|{'---|' * len(corpora)}",
    ]
    for name, recogniser, found in scored:
        cells = [_rates(found[corpus]) for corpus in corpora]
        lines.append(f"| {name} | {recogniser} | {' | '.join(cells)} |")
    return [*lines, ""]


def _sizes(results: dict[str, Any]) -> list[str]:
    """Sizes of recognisers, from the first row that has each, as all have one architecture."""
    lines = ["| recogniser | parameters | MB | format |", "|---|---|---|---|"]
    for recogniser in ("server", "device"):
        row = next((r for r in results["rows"].values() if recogniser in r), None)
        if row:
            size = row[recogniser]["size"]
            lines.append(
                f"| {recogniser} | {size['parameters'] / 1e6:.2f} M | {size['bytes'] / 1e6:.2f} "
                f"| {size['format']} |"
            )
    return lines


def _comparisons(results: dict[str, Any]) -> list[str]:
    lines = [
        "Differences in points: 95 % and p by speakers, for these trained models; over seeds, 95 % "
        "(Student's t), for models trained with other seeds.",
        "",
        "| compared | recogniser | difference | relative | 95 % | p | every seed | over seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pair in results["comparisons"]:
        recogniser, other = pair["recogniser"], pair["second_recogniser"]
        who = recogniser if recogniser == other else f"{recogniser} - {other}"
        each = ", ".join(f"{100 * difference:+.1f}" for difference in pair["seeds"])
        over = pair["ci95_over_seeds"]
        lines.append(
            f"| {pair['first']} - {pair['second']} | {who} "
            f"| {100 * pair['difference']:+.2f} | {100 * pair['relative']:+.1f} % "
            f"| {_interval(pair['ci95'])} | {pair['p_value']:.4f} | {each} "
            f"| {_interval(over) if over else ''} |"
        )
    for seed, share in results["cost_to_match"].items():
        reached, earliest = share["reached"], share["earliest"]
        when = "never" if reached is None else f"after {reached:.2f} of their cost"
        lines += [
            "",
            f"Seed {seed}: E is as good as B1 and B2 on the development set {when} (earliest "
            f"possible, with fixed masks: {earliest:.2f}).",
        ]
    return lines


def _interval(bounds: list[float]) -> str:
    return f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}"


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
    """
    rows = results["rows"]
    found: dict[str, list[list[Any]]] = {}
    for name in (row.name for row in MAIN if row.name in rows):
        other = rows.get(_APART.get(name, ""))
        both = 1 + other["cost"]["flops"] / rows[name]["cost"]["flops"] if other else 1
        series = [
            [(both * p["flops"] / 1e12, p[recogniser]) for p in curve if recogniser in p]
            for curve in rows[name]["curves"].values()
        ]
        if kept := [points for points in series if points]:
            found[name] = kept
    return found


def _draw_curves(results: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axis, recogniser in zip(axes, _COLORS, strict=True):
        for place, (name, seeds) in enumerate(cost_points(results, recogniser).items()):
            for series in seeds:
                flops, rates = zip(*series, strict=True)
                wer = [100 * rate for rate in rates]
                label = name if series is seeds[0] else None
                axis.plot(flops, wer, color=f"C{place}", lw=1, label=label)
                axis.plot(flops[-1], wer[-1], "o", color=f"C{place}")
        axis.set(title=recogniser, xlabel="TFLOP spent on both recognisers", ylim=(0, 105))
        axis.grid(alpha=0.3)
        if axis.get_lines():
            axis.legend()
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
