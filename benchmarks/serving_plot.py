"""How caption delay grows with streams, drawn from what `benchmarks.serving capacity` printed.

    python -m benchmarks.serving_plot TABLES PICTURE

TABLES is a text file that contains the printed rows, such as docs/experiments/serving.md. Rounds
are drawn as separate points, and lines join their medians.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path
from statistics import median

from dualmode.plots import load_pyplot, save_plot

CHUNK_MS = 640
ROW = re.compile(
    r"^\| \d+ \| ([^|]+?) \| (\d+) \| \d+ ms \| (\d+) ms \| ([\d.]+) \|$", re.MULTILINE
)

Cells = dict[str, dict[int, list[float]]]


def read(text: str) -> tuple[Cells, Cells]:
    """By service and number of streams: 95th percentiles of caption delay in ms, and processor
    seconds per stream and second."""
    delays: Cells = defaultdict(lambda: defaultdict(list))
    loads: Cells = defaultdict(lambda: defaultdict(list))
    for name, streams, delay_ms, load in ROW.findall(text):
        delays[name][int(streams)].append(float(delay_ms))
        loads[name][int(streams)].append(float(load))
    return delays, loads


def main() -> None:
    """Read the tables and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    found = read(options.tables.read_text(encoding="utf-8"))
    figure, axes = load_pyplot().subplots(1, 2, figsize=(9, 3.6))
    labels = ("caption delay, 95th percentile (ms)", "processor time per stream (s/s)")
    for axis, cells, label in zip(axes, found, labels, strict=True):
        for name, by_streams in cells.items():
            counts = sorted(by_streams)
            (line,) = axis.plot(counts, [median(by_streams[n]) for n in counts], label=name)
            for count in counts:
                values = by_streams[count]
                axis.plot([count] * len(values), values, ".", color=line.get_color())
        axis.set(xlabel="streams", ylabel=label, xticks=sorted(next(iter(cells.values()))))
    axes[0].set_yscale("log")
    axes[0].axhline(CHUNK_MS, color="grey", linestyle=":", label="one chunk")
    axes[1].set_ylim(bottom=0)
    axes[0].legend(fontsize=7)
    save_plot(figure, options.picture)


if __name__ == "__main__":
    main()
