"""A tiny supernet with random weights, and a vocabulary for it."""

from __future__ import annotations

from dataclasses import dataclass

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


def talkative_supernet(seed: int = 0, blank_bias: float = 0.6, frame_ms: int = 40) -> Supernet:
    """Random weights, large enough that its tokens depend on what it hears and said."""
    torch.manual_seed(seed)
    model = ModelConfig(
        width=16,
        layers=2,
        heads=2,
        feed_forward=32,
        kernel_frames=5,
        frame_ms=frame_ms,
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


@pytest.fixture(scope="session")
def vocabulary() -> Letters:
    return letters()


@pytest.fixture(scope="session")
def net() -> Supernet:
    return talkative_supernet()


@pytest.fixture(scope="session")
def net_80ms() -> Supernet:
    """Like ``net``, with frames of 80 ms."""
    return talkative_supernet(frame_ms=80)
