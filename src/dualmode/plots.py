"""Plots without a display, saved atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualmode.whole_files import replacing


def load_pyplot() -> Any:
    """Import ``matplotlib.pyplot`` with a backend that draws into files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_plot(figure: Any, path: Path, *, dpi: int = 120) -> Path:
    """Save a figure in the format of the path's suffix (default: PNG), and close it."""
    figure.tight_layout()
    with replacing(path) as part:
        figure.savefig(part, dpi=dpi, format=path.suffix.lstrip(".").lower() or "png")
    load_pyplot().close(figure)
    return path
