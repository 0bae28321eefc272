"""Models that are shipped in the package and loaded by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_CONFIG = "config.yaml"  # present in every model directory


def shipped_models() -> list[str]:
    """Names of the models in the package."""
    folder = _models()
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / _CONFIG).is_file())


def model_folder(model: str | Path) -> Path:
    """The directory of a model, given by its path or by the name of a shipped model.

    A directory on disk that contains a model takes precedence over a shipped model.
    """
    path = Path(model)
    if not (path / _CONFIG).is_file() and str(model) in shipped_models():
        return _models() / str(model)
    return path


def _models() -> Path:
    return Path(str(resources.files("dualmode") / "models"))
