"""Writes engine/tests/data: artifacts of a small random model, and what Python hears with it.

Run by hand when the format changes: python -m pytest tests/export/make_native_data.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualmode.recognizer import Recognizer

DATA = Path(__file__).parents[2] / "engine" / "tests" / "data"


class Xorshift:
    """The generator of engine/tests/check.h."""

    def __init__(self, seed: int) -> None:
        self.state = (seed * 2654435761 + 1) % 2**32

    def next(self) -> int:
        self.state ^= self.state << 13 & 0xFFFFFFFF
        self.state ^= self.state >> 17
        self.state ^= self.state << 5 & 0xFFFFFFFF
        return self.state

    def uniform(self) -> np.float32:
        share = np.float32(self.next() >> 8) / np.float32(16777216)
        return np.float32(share * np.float32(2) - np.float32(1))


def native_babble(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """``babble`` of engine/tests/check.h, sample for sample."""
    random = Xorshift(seed)
    samples = np.zeros(int(seconds * 16000), np.float32)
    period, loudness = 40, np.float32(0.1)
    for i in range(len(samples)):
        if i % 2400 == 0:
            period = 4 + random.next() % 120
            loudness = np.float32(0.25) * (random.uniform() + np.float32(1)) / np.float32(2)
        wave = np.float32(1 if i // period % 2 == 0 else -1)
        samples[i] = loudness * (wave + np.float32(0.5) * random.uniform())
    return samples


def test_write(talkative_model: Path, talkative_80ms: Path, exported: Callable[..., Path]) -> None:
    recognizers = [Recognizer.load(one, "torch") for one in (talkative_model, talkative_80ms)]
    samples = native_babble(6.0, 1)
    texts = [
        recognizer.transcribe(samples, name).text
        for recognizer in recognizers
        for name in ("device", "server")
    ]
    assert all(texts)
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / "expected.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    for name, weights in (("device", "int8"), ("device", "fp32"), ("server", "fp32")):
        (DATA / f"{name}-{weights}.dual").write_bytes(exported(name, weights).read_bytes())
    for name in ("device", "server"):
        (DATA / f"{name}-fp32-80ms.dual").write_bytes(exported(name, "fp32", 80).read_bytes())
