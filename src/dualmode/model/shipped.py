"""Models that come with dualmode, called by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_CONFIG = "config.yaml"  # what every model directory has


def shipped_models() -> list[str]:
    """Names of the models in the package."""
    folder = _models()
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / _CONFIG).is_file())


def model_folder(which: str | Path) -> Path:
    """The directory of a model given by path or by the name of a shipped one.

    A directory on disk comes before a shipped model of the same name, if a model is in it.
    """
    path = Path(which)
    if not (path / _CONFIG).is_file() and str(which) in shipped_models():
        return _models() / str(which)
    return path


def _models() -> Path:
    return Path(str(resources.files("dualmode") / "models"))
