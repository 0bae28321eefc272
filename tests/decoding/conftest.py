"""A tiny supernet with random weights, a vocabulary for it, and samples that make it speak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dualmode.config import ModelConfig, PruningConfig
from dualmode.model.supernet import Supernet


@dataclass(frozen=True)
class Letters:
    """Twelve tokens: blank, <unk>, five letters that begin words and five that go on with them."""

    pieces: list[str]
    word_starts: list[bool]


def letters() -> Letters:
    pieces = ["<blk>", "<unk>", *("\u2581" + c for c in "abcde"), *"abcde"]
    return Letters(pieces, [piece.startswith("\u2581") for piece in pieces])


def talkative_supernet(seed: int = 0, blank_bias: float = 0.6) -> Supernet:
    """Random weights, large enough that its tokens depend on what it hears and said."""
    torch.manual_seed(seed)
    model = ModelConfig(
        width=16,
        layers=2,
        heads=2,
        feed_forward=32,
        kernel_frames=5,
        subsampling_channels=4,
        predictor_width=16,
        joiner_width=16,
        dropout=0.0,
    )
    net = Supernet(len(letters().pieces), model, PruningConfig(sparsities=(0.5,)))
    with torch.no_grad():
        net.encoder.subsampling.mean.fill_(-6.0)
        net.encoder.subsampling.deviation.fill_(4.0)
        net.joiner.out.weight.mul_(3.0)
        net.joiner.out.bias[0] += blank_bias
        for layer in net.prunable():
            layer.blocks.copy_(torch.rand(layer.blocks.shape) < 0.5)
    return net.eval()


def babble(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Tones and noise whose loudness changes from syllable to syllable."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 16000)
    syllable = np.arange(count) // 2400
    loudness = rng.uniform(0.001, 0.3, size=syllable.max(initial=0) + 1)[syllable]
    pitch = rng.uniform(100, 3000, size=syllable.max(initial=0) + 1)[syllable]
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / 16000) + 0.3 * rng.standard_normal(count)
    return (loudness * wave).astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks so small lose more to waiting for a second thread than it computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vocabulary() -> Letters:
    return letters()


@pytest.fixture(scope="session")
def net() -> Supernet:
    return talkative_supernet()


@pytest.fixture(scope="session", name="babble")
def babble_fixture() -> Callable[..., npt.NDArray[np.float32]]:
    return babble
