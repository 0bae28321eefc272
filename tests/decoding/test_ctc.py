"""Best paths: repeats merged, what blanks part kept; alignments the likeliest there are."""

from itertools import product

import numpy as np
import pytest
import torch

from dualmode.decoding.ctc import align, best_path


def test_repeats_blanks_and_lengths():
    symbols = torch.tensor([[3, 3, 0, 3, 5, 5], [0, 4, 0, 0, 2, 2], [7, 7, 7, 7, 7, 7]])
    log_probs = torch.nn.functional.one_hot(symbols, 8).float().log_softmax(-1)
    assert best_path(log_probs, torch.tensor([6, 4, 0])) == [[3, 3, 5], [4], []]


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [2, 2], [1, 2, 1]])
def test_an_alignment_is_the_likeliest_path_that_says_the_tokens(tokens: list[int]) -> None:
    log_probs = torch.randn(6, 3, generator=torch.Generator().manual_seed(7)).log_softmax(-1)
    saying = [
        path
        for path in product(range(3), repeat=6)
        if [s for s, before in zip(path, (0, *path), strict=False) if s not in (0, before)]
        == tokens
    ]
    scores = [sum(float(log_probs[t, s]) for t, s in enumerate(path)) for path in saying]
    best = saying[max(range(len(saying)), key=scores.__getitem__)]
    assert tuple(align(log_probs.numpy(), tokens)) == best


def test_too_few_frames_for_the_tokens() -> None:
    with pytest.raises(ValueError, match="2 frames cannot say"):
        align(np.zeros((2, 3)), [1, 1])
    with pytest.raises(ValueError, match="0 frames cannot say"):
        align(np.zeros((0, 3)), [1])
