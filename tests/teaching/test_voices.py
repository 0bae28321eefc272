"""The real synthesisers, where they are found."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dualmode.teaching.voices import open_voices


def test_espeak_reads_in_many_voices() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")
    voices, rng = open_voices("espeak"), np.random.default_rng(1)
    manners = [voices.draw(rng) for _ in range(40)]
    assert len({manner.speaker for manner in manners}) > 15
    assert all(0.8 <= manner.speed <= 1.25 for manner in manners)
    slow, fast = (
        voices.say("set a timer", type(manners[0])("anton", speed), rng) for speed in (0.8, 1.25)
    )
    assert len(slow) > 1.2 * len(fast)
    assert 0.1 < np.abs(slow).max() <= 1


def test_kokoro_reads_in_blends() -> None:
    folder = Path(os.environ.get("DUALMODE_KOKORO", "models/kokoro"))
    pytest.importorskip("kokoro_onnx", reason="the extra 'voices' is not installed")
    if not (folder / "model.onnx").is_file():
        pytest.skip("no Kokoro: name its folder in DUALMODE_KOKORO")
    voices, rng = open_voices(f"kokoro:{folder}", blend=True), np.random.default_rng(1)
    manner = voices.draw(rng)
    assert "%" in manner.speaker
    said = voices.say("call anna", manner, rng)
    assert 0.3 < len(said) / 16000 < 3
    assert np.isfinite(said).all()
