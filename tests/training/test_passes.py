"""What the losses of a pass are divided by, and how they are weighted."""

from __future__ import annotations

import pytest
import torch

from dualmode.config import TrainingConfig
from dualmode.losses.transducer_loss import TransducerLoss
from dualmode.training.objective import LossDenominators
from dualmode.training.passes import Band, Pass, SubnetLosses, measure, weighted
from dualmode.training.schedule import Weights

DENOMINATORS = LossDenominators(targets=8.0, frames=50.0)


def made(band: bool) -> Pass:
    """A pass over two utterances."""
    none = torch.zeros(0)
    loss = TransducerLoss(
        simple=torch.tensor([3.0, 1.0]),
        pruned=torch.tensor([5.0, 7.0]),
        starts=none,
        token_log_probs=none,
        blank_log_probs=none,
    )
    return Pass(none, torch.tensor([2.0, 0.5]), Band(none, none, loss) if band else None)


def test_losses_are_nats_a_token_and_distillation_is_nats_a_frame() -> None:
    found = measure(made(band=True), torch.tensor(20.0), torch.tensor(35.0), DENOMINATORS)
    assert found == SubnetLosses(
        transducer=torch.tensor(12 / 8),
        simple=torch.tensor(4 / 8),
        ctc=torch.tensor(2.5 / 8),
        distillation=torch.tensor(20 / 50),
        output_pull=torch.tensor(35 / 50),
    )
    without = measure(made(band=False), torch.tensor(0.0), torch.tensor(0.0), DENOMINATORS)
    assert without.transducer == without.simple == 0
    assert without.ctc == 2.5 / 8


def test_every_term_has_its_weight() -> None:
    config = TrainingConfig(simple_weight=0.3, distillation_weight=0.7, ctc_weight=0.11)
    weights = Weights(0.9, 0.2, 0.6)
    share = {
        "transducer": 0.9,
        "simple": 0.9 * 0.3,
        "ctc": 0.2,  # that of the schedule, which has the recipe's in it
        "distillation": 0.7,
        "output_pull": 0.6,
    }
    for term, weight in share.items():
        others = {name: torch.tensor(2.0 * (name == term)) for name in share}
        found = weighted(SubnetLosses(**others), config, weights)
        assert float(found) == pytest.approx(2.0 * weight), term
