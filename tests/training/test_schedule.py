"""Schedules: where they begin, where they end, and that they never turn back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualmode.config import PretrainingConfig, PruningConfig, TrainingConfig
from dualmode.training.schedule import (
    Weights,
    gumbel_temperature,
    learning_rate,
    loss_weights,
    run_share,
    sparsity_reached,
)

PRUNING = PruningConfig(start=0.2, end=0.6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_sparsity_only_rises(first, second):
    low, high = sorted((first, second))
    assert 0 <= sparsity_reached(low, PRUNING) <= sparsity_reached(high, PRUNING) <= 1


def test_sparsity_starts_at_nothing_is_cubic_and_ends_at_the_target():
    assert sparsity_reached(0.2, PRUNING) == 0
    assert sparsity_reached(0.4, PRUNING) == pytest.approx(1 - 0.5**3)
    assert sparsity_reached(0.6, PRUNING) == sparsity_reached(1.0, PRUNING) == 1


def test_the_learning_rate_warms_up_and_comes_down():
    config = TrainingConfig(
        steps=1000, learning_rate=1.0, warmup_steps=100, final_learning_rate=0.1
    )
    rates = [learning_rate(step, step / 1000, config) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01, rel=0.01)
    assert max(rates) > 0.95
    assert rates.index(max(rates)) == pytest.approx(100, abs=2)
    assert rates[-1] == pytest.approx(0.1, rel=0.01)
    assert all(a >= b for a, b in pairwise(rates[100:]))


def test_a_budget_of_time_ends_a_run_that_steps_would_not():
    config = TrainingConfig(steps=1000, minutes=10)
    assert run_share(10, 0, config) == 0.01
    assert run_share(10, 300, config) == 0.5
    assert run_share(10, 9999, config) == 1
    assert run_share(2000, 0, config) == 1
    assert run_share(10, 9999, TrainingConfig(steps=1000)) == 0.01


def test_the_transducer_fades_in_while_ctc_fades_to_its_weight():
    config = TrainingConfig(transducer_start=0.2, transducer_ramp=0.1, ctc_weight=0.4)
    assert loss_weights(0.2, config) == Weights(0.0, 1.0)
    assert loss_weights(0.25, config).transducer == pytest.approx(0.5)
    assert loss_weights(0.25, config).ctc == pytest.approx(0.7)
    assert loss_weights(0.9, config) == Weights(1.0, 0.4)
    assert loss_weights(0.0, TrainingConfig(ctc_weight=0.3)) == Weights(1.0, 0.3)


def test_the_gumbel_temperature_falls_by_a_steady_factor_and_stays():
    config = PretrainingConfig(gumbel_start=2.0, gumbel_end=0.5, gumbel_share=0.6)
    at = [gumbel_temperature(share, config) for share in (0.0, 0.3, 0.6, 1.0)]
    assert at == pytest.approx([2.0, 1.0, 0.5, 0.5])
