"""A small model as the torch runtime opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualmode.runtime.pytorch import TorchModel, load


@pytest.fixture(scope="module")
def model(talkative_model: Path) -> TorchModel:
    return load(talkative_model)
