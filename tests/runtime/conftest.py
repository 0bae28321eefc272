"""A small model as the torch runtime opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualmode.runtime.pytorch import TorchModel, load


@pytest.fixture(scope="module")
def model(talkative_model: Path) -> TorchModel:
    return load(talkative_model)


@pytest.fixture(scope="module")
def model_80ms(talkative_80ms: Path) -> TorchModel:
    """Like ``model``, with frames of 80 ms."""
    return load(talkative_80ms)
