"""The cross-entropy of frames equals its definition, and ignores frames without a target."""

from __future__ import annotations

import torch

from dualmode.losses.frame_classification import frame_classification_loss


def test_it_is_the_sum_over_the_targets_that_exist() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 4, 7, generator=generator, requires_grad=True)
    targets = torch.randint(-1, 7, (2, 5, 4), generator=generator)
    found = frame_classification_loss(logits, targets)
    expected, right = torch.zeros(()), 0
    for place in torch.nonzero(targets >= 0).tolist():
        chosen, target = logits[tuple(place)], targets[tuple(place)]
        expected = expected - chosen.log_softmax(-1)[target]
        right += int(chosen.argmax() == target)
    torch.testing.assert_close(found.loss, expected)
    assert found.correct == right
    (gradient,) = torch.autograd.grad(found.loss, logits)
    assert gradient[targets < 0].abs().sum() == 0 < gradient[targets >= 0].abs().sum()
