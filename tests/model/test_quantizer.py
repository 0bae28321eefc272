"""Codes are looked up, and gradients go straight through the lookup to the scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualmode.model.quantizer import Quantizer

WIDTH, BOOKS, ENTRIES, CODE = 6, 2, 5, 8


@pytest.fixture
def quantizer() -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(WIDTH, BOOKS, ENTRIES, CODE)


def scores_of(quantizer: Quantizer, latents: Tensor) -> Tensor:
    return quantizer.score(latents).view(*latents.shape[:-1], BOOKS, ENTRIES)


@pytest.mark.parametrize("noisy", [True, False])
def test_each_codebook_contributes_its_likeliest_codeword(
    quantizer: Quantizer, noisy: bool
) -> None:
    latents, noise = torch.randn(3, 4, WIDTH), 3 * torch.randn(3, 4, BOOKS, ENTRIES)
    codes = quantizer(latents, noise if noisy else None, 0.3)
    scores = scores_of(quantizer, latents)
    for at in ((0, 0), (1, 2), (2, 3)):
        drawn = scores[at] + noise[at] if noisy else scores[at]
        for book in range(BOOKS):
            entry = int(drawn[book].argmax())
            assert codes.entries[at][book] == entry
            part = codes.vectors[at][book * CODE // BOOKS : (book + 1) * CODE // BOOKS]
            torch.testing.assert_close(part, quantizer.codewords[book, entry])
    torch.testing.assert_close(codes.probabilities, scores.softmax(-1))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_scores_learn_as_if_codewords_were_mixed_by_a_softmax(
    quantizer: Quantizer, temperature: float
) -> None:
    latents, noise = torch.randn(7, WIDTH), torch.randn(7, BOOKS, ENTRIES)
    wanted = torch.randn(7, CODE)
    parameters = [quantizer.score.weight, quantizer.score.bias]
    found = torch.autograd.grad(
        (quantizer(latents, noise, temperature).vectors * wanted).sum(), parameters
    )
    mixed = ((scores_of(quantizer, latents) + noise) / temperature).softmax(-1)
    vectors = torch.einsum("nge,gew->ngw", mixed, quantizer.codewords).flatten(1)
    expected = torch.autograd.grad((vectors * wanted).sum(), parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_codeword_learns_from_what_it_stands_for(quantizer: Quantizer) -> None:
    latents, noise = torch.randn(7, WIDTH), torch.randn(7, BOOKS, ENTRIES)
    wanted = torch.randn(7, CODE)
    codes = quantizer(latents, noise, 0.5)
    (found,) = torch.autograd.grad((codes.vectors * wanted).sum(), quantizer.codewords)
    expected = torch.zeros_like(found)
    for row, entries in enumerate(codes.entries):
        for book, entry in enumerate(entries):
            expected[book, entry] += wanted[row].view(BOOKS, -1)[book]
    torch.testing.assert_close(found, expected)
