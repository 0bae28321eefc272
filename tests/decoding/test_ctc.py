"""Best-path decoding merges repeats, keeps what blanks part, and stops at the length."""

import torch

from dualmode.decoding.ctc import best_path


def test_repeats_blanks_and_lengths():
    symbols = torch.tensor([[3, 3, 0, 3, 5, 5], [0, 4, 0, 0, 2, 2], [7, 7, 7, 7, 7, 7]])
    log_probs = torch.nn.functional.one_hot(symbols, 8).float().log_softmax(-1)
    assert best_path(log_probs, torch.tensor([6, 4, 0])) == [[3, 3, 5], [4], []]
