"""Codes of the random quantiser: the nearest codewords, frozen, and of an utterance alone."""

from __future__ import annotations

import pytest
import torch

from dualmode.config import RandomQuantizerConfig
from dualmode.features import Framing
from dualmode.model.random_quantizer import RandomQuantizer

CONFIG = RandomQuantizerConfig(codebooks=2, entries=32, width=6, stacked_mels=4)
MELS = (91, 60, 30)
FRAMES = Framing(40)


def speech(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(MELS), max(MELS), 80, generator=generator), torch.tensor(MELS)


def frames() -> torch.Tensor:
    return torch.tensor([[0, 3, 7, 20], [1, 2, 9, 13], [0, 1, 4, 5]])


def test_codes_are_the_nearest_unit_codewords_of_the_stacked_mels() -> None:
    quantizer, (mels, lengths) = RandomQuantizer(CONFIG, FRAMES, 3), speech()
    codes = quantizer(mels, lengths, frames())
    for row, length in enumerate(MELS):
        own = mels[row, :length]
        own = (own - own.mean(dim=0)) / own.std(dim=0, correction=0)
        for at, frame in enumerate(frames()[row].tolist()):
            stack = own[4 * frame + 1 : 4 * frame + 5].flatten()
            stack = (stack - stack.mean()) / stack.std(correction=0)
            for book in range(CONFIG.codebooks):
                projected = stack @ quantizer.projections[book]
                distances = (quantizer.codewords[book] - projected / projected.norm()).norm(dim=1)
                assert codes[row, at, book] == distances.argmin()
    torch.testing.assert_close(quantizer.codewords.norm(dim=-1), torch.ones(2, 32))
    assert (codes[..., 0] != codes[..., 1]).any(), "each codebook has a projection of its own"


@pytest.mark.parametrize(
    ("stacked", "stride", "read"),
    [*((stacked, 4, 7) for stacked in range(1, 8)), (1, 8, 15), (8, 8, 15), (15, 8, 15)],
)
def test_a_stack_lies_within_what_its_frame_reads(stacked: int, stride: int, read: int) -> None:
    config = CONFIG.model_copy(update={"stacked_mels": stacked, "entries": 512})
    quantizer, (mels, lengths) = RandomQuantizer(config, Framing(10 * stride), 3), speech()
    last = torch.tensor([[(length - read) // stride] for length in MELS])
    before = quantizer(mels, lengths, last)
    other = mels.clone()
    for row, frame in enumerate(last.flatten().tolist()):
        # A permutation in time of the mel frames outside changes no statistics of the utterance.
        outside = [m for m in range(MELS[row]) if not 0 <= m - stride * frame < read]
        other[row, outside] = mels[row, outside[::-1]]
    assert torch.equal(quantizer(other, lengths, last), before)


def test_codes_do_not_depend_on_padding_gain_or_microphone() -> None:
    quantizer, (mels, lengths) = RandomQuantizer(CONFIG, FRAMES, 3), speech()
    codes = quantizer(mels, lengths, frames())
    for row, length in enumerate(MELS):
        alone = quantizer(mels[row : row + 1, :length], lengths[row : row + 1], frames()[row][None])
        assert torch.equal(alone[0], codes[row])
    colour = torch.linspace(-3, 2, 80)
    assert torch.equal(quantizer(2 * mels + colour, lengths, frames()), codes)


def test_it_follows_from_the_seed_alone_and_draws_no_other_numbers() -> None:
    torch.manual_seed(1)
    first = RandomQuantizer(CONFIG, FRAMES, 3)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    again, other = RandomQuantizer(CONFIG, FRAMES, 3), RandomQuantizer(CONFIG, FRAMES, 4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])
    assert set(first.state_dict()) == {"projections", "codewords"}
    assert not list(first.parameters())


def test_features_get_no_gradient() -> None:
    mels, lengths = speech()
    codes = RandomQuantizer(CONFIG, FRAMES, 3)(mels.requires_grad_(), lengths, frames())
    assert not codes.requires_grad
