"""Distillation: zero between equals, a true divergence otherwise, and blind to padding."""

from __future__ import annotations

import pytest
import torch

from dualmode.losses.distillation import frame_distillation, lattice_distillation


def lattice(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 5, 3, 7, generator=generator).log_softmax(-1)
    return scores[..., 1], scores[..., 0]


def test_a_student_that_agrees_with_its_teacher_costs_nothing():
    valid = torch.ones(2, 5, 3, dtype=torch.bool)
    assert lattice_distillation(lattice(0), lattice(0), valid).abs() < 1e-6
    posteriors = torch.randn(2, 5, 7).log_softmax(-1)
    assert frame_distillation(posteriors, posteriors, torch.tensor([5, 3])).abs() < 1e-6


def test_lattice_divergence_is_the_kl_of_three_ways():
    token, blank = lattice(0)
    other = lattice(1)
    valid = torch.zeros(2, 5, 3, dtype=torch.bool)
    valid[1, 2, 1] = True
    p = [float(x[1, 2, 1].exp()) for x in (token, blank)]
    q = [float(x[1, 2, 1].exp()) for x in other]
    p.append(1 - sum(p))
    q.append(1 - sum(q))
    expected = sum(a * torch.tensor(a / b).log() for a, b in zip(p, q, strict=True))
    found = lattice_distillation((token, blank), other, valid)
    torch.testing.assert_close(found, expected.float(), atol=1e-4, rtol=1e-4)


def test_frame_divergence_is_torchs_own():
    teacher, student = torch.randn(2, 4, 6).log_softmax(-1), torch.randn(2, 4, 6).log_softmax(-1)
    expected = torch.nn.functional.kl_div(student, teacher, log_target=True, reduction="sum")
    found = frame_distillation(teacher, student, torch.tensor([4, 4]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["lattice", "frame"])
def test_padding_adds_nothing_and_gradients_stay_finite(kind):
    if kind == "lattice":
        token, blank = (x.clone().requires_grad_() for x in lattice(2))
        valid = torch.ones(2, 5, 3, dtype=torch.bool)
        valid[1, 3:] = False
        teacher = lattice(3)
        loss = lattice_distillation(teacher, (token, blank), valid)
        spoilt = [x.detach().clone() for x in (token, blank)]
        for x in spoilt:
            x[1, 3:] = -1e5
        again = lattice_distillation(teacher, (spoilt[0], spoilt[1]), valid)
        loss.backward()
        assert token.grad is not None
        assert not token.grad[1, 3:].any()
        assert token.grad.isfinite().all()
    else:
        student = torch.randn(2, 5, 7, requires_grad=True)
        teacher = torch.randn(2, 5, 7).log_softmax(-1)
        lengths = torch.tensor([5, 3])
        loss = frame_distillation(teacher, student.log_softmax(-1), lengths)
        spoilt = student.detach().clone()
        spoilt[1, 3:] = 9.0
        again = frame_distillation(teacher, spoilt.log_softmax(-1), lengths)
        loss.backward()
        assert student.grad is not None
        assert not student.grad[1, 3:].any()
    torch.testing.assert_close(loss.detach(), again)
