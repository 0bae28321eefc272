"""Who hears what of a split step: every utterance somebody, and each recogniser its share."""

from __future__ import annotations

import pytest
import torch

from dualmode.config import TrainingConfig
from dualmode.training.sharing import assign_rows

NAMES = ["server", "device", "sampled"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("names", [NAMES, NAMES[:2], ["device", "sampled"]])
def test_every_utterance_is_heard_once(count: int, names: list[str]) -> None:
    for step in range(30):
        assigned = assign_rows(count, names, TrainingConfig(), step=step, rank=0, world=1)
        assert list(assigned) == names
        assert sorted(torch.cat(list(assigned.values())).tolist()) == list(range(count))
        assert all(rows.dtype == torch.int64 for rows in assigned.values())


@pytest.mark.parametrize("count", [1, 5, 12])
def test_shares_are_kept_in_every_step_to_one_and_over_steps_exactly(count: int) -> None:
    config = TrainingConfig(device_share=0.6, sampled_share=0.25)
    shares = {"server": 0.3, "device": 0.45, "sampled": 0.25}
    totals = dict.fromkeys(NAMES, 0)
    for step in range(4000):
        for name, rows in assign_rows(count, NAMES, config, step=step, rank=0, world=1).items():
            assert abs(len(rows) - count * shares[name]) < 2
            totals[name] += len(rows)
    for name, total in totals.items():
        assert total / 4000 / count == pytest.approx(shares[name], abs=0.025)


def test_device_has_its_other_share_once_the_masks_are_fixed() -> None:
    config = TrainingConfig(device_share=0.5, device_share_when_pruned=0.8)
    heard = {
        pruned: sum(
            len(assign_rows(5, NAMES[:2], config, step=s, rank=0, world=1, pruned=pruned)["device"])
            for s in range(1000)
        )
        for pruned in (False, True)
    }
    assert heard == {False: pytest.approx(2500, rel=0.04), True: pytest.approx(4000, rel=0.04)}
    plain = TrainingConfig(device_share=0.5)
    for step in range(20):
        before, after = (
            assign_rows(5, NAMES, plain, step=step, rank=0, world=1, pruned=pruned)
            for pruned in (False, True)
        )
        assert all(torch.equal(before[name], after[name]) for name in NAMES)


def test_two_processes_with_an_utterance_each_serve_both_recognisers() -> None:
    for step in range(50):
        assigned = [
            assign_rows(1, NAMES[:2], TrainingConfig(), step=step, rank=rank, world=2)
            for rank in range(2)
        ]
        assert sum(len(each["device"]) for each in assigned) == 1


def test_what_is_dealt_follows_from_seed_and_step() -> None:
    def dealt(seed: int, step: int) -> list[list[int]]:
        config = TrainingConfig(seed=seed)
        assigned = assign_rows(9, NAMES, config, step=step, rank=0, world=1)
        return [rows.tolist() for rows in assigned.values()]

    assert dealt(1, 5) == dealt(1, 5)
    assert len({str(dealt(1, step)) for step in range(20)}) > 3
    assert [dealt(1, step) for step in range(9)] != [dealt(2, step) for step in range(9)]
