"""Artifacts of small models, and the engine that runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualmode.model.directory import LoadedModel, load_model

# Named subnets, and corners of the supernet that no name stands for.
CORNERS = ("device", "server", "dense streaming", "sparse full context", "no look-ahead")


@pytest.fixture(scope="session")
def engine() -> Any:
    """The module ``dualmode_engine``."""
    return pytest.importorskip(
        "dualmode_engine", reason="the engine is not built here: run make engine"
    )


@pytest.fixture(scope="session")
def talkative(talkative_model: Path) -> LoadedModel:
    return load_model(talkative_model)


@pytest.fixture(scope="session")
def long_framed(talkative_80ms: Path) -> LoadedModel:
    """Like ``talkative``, with frames of 80 ms."""
    return load_model(talkative_80ms)


@pytest.fixture(scope="session")
def corner() -> Callable[[LoadedModel, str], Any]:
    """The subnet of a model that a name of CORNERS stands for."""
    from dualmode.model.subnet import ChunkedContext, FullContext, Subnet, named_subnet

    def find(loaded: LoadedModel, name: str) -> Subnet:
        if name in {"device", "server"}:
            return named_subnet(name, loaded.recipe)
        sparsity = loaded.recipe.pruning.sparsities[0]
        return {
            "dense streaming": Subnet(ChunkedContext(8, 4, 5)),
            "sparse full context": Subnet(FullContext(), sparsity),
            "no look-ahead": Subnet(ChunkedContext(3, 20, 0), sparsity),
        }[name]

    return find


@pytest.fixture(scope="session")
def exported(
    talkative: LoadedModel,
    long_framed: LoadedModel,
    corner: Callable[[LoadedModel, str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Export a corner of the talkative model in int8 or fp32, once; or of that with frames of
    80 ms."""
    from dualmode.export.engine import export_engine

    folder = tmp_path_factory.mktemp("artifacts")

    def export(name: str, weights: Any, frame_ms: int = 40) -> Path:
        path = folder / f"{name.replace(' ', '-')}-{weights}-{frame_ms}.dual"
        if not path.exists():
            model = {40: talkative, 80: long_framed}[frame_ms]
            export_engine(model, corner(model, name), path, weights=weights)
        return path

    return export
