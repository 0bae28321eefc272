"""Plans of batches: full, little padded, and fair to every utterance."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from dualmode.config import DataConfig
from dualmode.data.planning import PlannedBatch, Planner, bucket_lengths, padded_mel_frames
from dualmode.features import Framing, mel_frames

FRAMING = Framing(40)
DURATIONS = np.random.default_rng(0).gamma(4, 0.8, 3000).clip(0.3, 12).tolist()


def rows(batches: list[PlannedBatch]) -> list[int]:
    return [row for batch in batches for item in batch.examples for row in item.rows]


def planner(data: DataConfig, *, train: bool = True, world_size: int = 1) -> Planner:
    return Planner(DURATIONS, data, seed=3, train=train, world_size=world_size, framing=FRAMING)


@pytest.mark.parametrize("train", [True, False])
def test_batches_are_full_and_little_padded(train: bool) -> None:
    data = DataConfig(batch_seconds=120, buckets=30)
    batches = list(planner(data, train=train).epoch(0, 0))
    used = [sum(item.total_s for item in batch.examples) for batch in batches]
    padded = [len(batch.examples) * batch.mel_frames / 100 for batch in batches]
    assert max(padded) <= 120.1
    assert sum(used) / sum(padded) > 0.92
    assert np.mean(used) > 100
    assert Counter(rows(batches)) == Counter(range(len(DURATIONS)))


def test_every_epoch_has_its_own_order_and_speeds() -> None:
    data = DataConfig(batch_seconds=120)
    epochs = [list(planner(data).epoch(epoch, 0)) for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    speeds = [{i.rows[0]: i.speed for batch in epoch for i in batch.examples} for epoch in epochs]
    changed = np.mean([speeds[0][row] != speeds[2][row] for row in speeds[0] if row in speeds[2]])
    assert changed == pytest.approx(2 / 3, abs=0.05)


def test_order_does_not_follow_duration() -> None:
    batches = list(planner(DataConfig(batch_seconds=60, buckets=10)).epoch(0, 0))
    longest = [max(item.seconds for item in batch.examples) for batch in batches]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_evaluation_plays_at_its_own_speed() -> None:
    plan = planner(DataConfig(speeds=(0.9,)), train=False)
    assert {item.speed for batch in plan.epoch(0, 0) for item in batch.examples} == {1.0}


def test_one_that_fills_more_than_a_batch_gets_its_own() -> None:
    data = DataConfig(batch_seconds=4)
    plan = Planner([1.0, 9.0, 1.5], data, seed=0, train=False, world_size=1, framing=FRAMING)
    assert [rows([batch]) for batch in plan.epoch(0, 0)] == [[0, 2], [1]]


def test_the_curriculum_acts_within_an_epoch() -> None:
    data = DataConfig(
        batch_seconds=30, curriculum_seconds=1.0, curriculum_steps=100, join_probability=0
    )
    batches = list(planner(data).epoch(0, 50))
    longest = [max(DURATIONS[row] for row in rows([batch])) for batch in batches]
    half = (1.0 + max(DURATIONS)) / 2
    assert longest[0] <= half
    assert max(longest) > 1.5 * half
    everything = list(planner(data).epoch(0, 100))
    assert len(rows(everything)) == len(DURATIONS)


def test_some_utterances_are_joined_in_training() -> None:
    data = DataConfig(batch_seconds=120, max_seconds=15, join_probability=0.4)
    examples = list(chain(*(batch.examples for batch in planner(data).epoch(0, 0))))
    joined = [item for item in examples if len(item.rows) > 1]
    assert 0.25 < sum(len(item.rows) - 1 for item in joined) / len(DURATIONS) < 0.4
    assert max(len(item.rows) for item in joined) > 2
    for item in joined:
        spoken = sum(DURATIONS[row] for row in item.rows) / item.speed
        assert item.seconds == pytest.approx(spoken + (len(item.rows) - 1) * item.pause_s)
        assert item.seconds <= 15
        assert 0.1 <= item.pause_s <= 1.0


def test_nothing_is_joined_beyond_the_curriculum_or_in_evaluation() -> None:
    data = DataConfig(batch_seconds=30, curriculum_seconds=2.0, curriculum_steps=10**6)
    examples = [item for batch in planner(data).epoch(0, 0) for item in batch.examples]
    assert max(item.seconds for item in examples) < 2.0 / 0.9 + 0.02
    data = DataConfig(join_probability=0.9)
    whole = [item for batch in planner(data, train=False).epoch(0, 0) for item in batch.examples]
    assert all(len(item.rows) == 1 for item in whole)


def test_buckets_hold_about_equal_shares_and_the_last_the_longest() -> None:
    lengths = bucket_lengths(DURATIONS, 5, FRAMING)
    padded = [padded_mel_frames(seconds, FRAMING) for seconds in DURATIONS]
    shares = np.bincount(np.searchsorted(lengths, padded), weights=DURATIONS)
    assert len(lengths) == len(shares) == 5
    assert np.ptp(shares) / sum(DURATIONS) < 0.06  # bounds lie on a grid of 0.16 s
    assert lengths[-1] == max(padded)
    assert bucket_lengths([2.0] * 50, 10, FRAMING) == [padded_mel_frames(2.0, FRAMING)]


@pytest.mark.parametrize("framing", [FRAMING, Framing(80)], ids=str)
def test_the_padded_length_holds_the_audio_and_gives_a_multiple_of_four_frames(
    framing: Framing,
) -> None:
    for seconds in np.random.default_rng(1).uniform(0.1, 30, 500):
        mels = padded_mel_frames(seconds, framing)
        most = 100 * seconds + 4 * framing.stride_mels + 2
        assert mel_frames(round(seconds * 16000)) < mels <= most
        assert framing.frames(mels) % 4 == 0
        assert framing.mels_read(framing.frames(mels)) == mels, "no mel frame is read by none"


@pytest.mark.parametrize("world", [1, 2])
def test_a_bucket_has_one_shape_and_few_batches_have_another(world: int) -> None:
    data = DataConfig(batch_seconds=60, buckets=12)
    batches = list(planner(data, world_size=world).epoch(0, 0))
    shapes = Counter((len(batch.examples), batch.mel_frames) for batch in batches)
    lengths = {batch.mel_frames for batch in batches}
    assert len(lengths) <= 12
    common = sum(count for _, count in shapes.most_common(12))
    assert common / len(batches) > 0.9


def test_batches_bound_what_the_network_gets_tails_and_joins_included() -> None:
    data = DataConfig(batch_seconds=40, tail_silence_seconds=5, join_probability=0.5)
    batches = list(planner(data, world_size=2).epoch(0, 0))
    tails = [item.tail_s for batch in batches for item in batch.examples]
    assert 0.4 < np.mean(np.array(tails) > 0) < 0.6
    assert max(tails) > 4
    for batch in batches:
        assert all(
            padded_mel_frames(i.total_s, FRAMING) <= batch.mel_frames for i in batch.examples
        )
        assert len(batch.examples) <= 2 or len(batch.examples) * batch.mel_frames <= 100 * 80


def test_weights_say_how_often_an_epoch_has_a_row() -> None:
    weights = [3.0] * 1000 + [0.25] * 1000 + [1.0] * 1000
    settings = {"seed": 3, "train": True, "world_size": 1, "framing": FRAMING}
    plan = Planner(DURATIONS, DataConfig(), **settings, weights=weights)  # type: ignore[arg-type]
    counts = np.bincount(rows(list(plan.epoch(0, 0))), minlength=3000)
    assert (counts[:1000] == 3).all()
    assert counts[1000:2000].mean() == pytest.approx(0.25, abs=0.05)
    assert counts[1000:2000].max() == 1
    assert (counts[2000:] == 1).all()


def test_speeds_wait_for_the_calm_to_end() -> None:
    data = DataConfig(batch_seconds=60, calm_steps=50)
    speeds = [{item.speed for item in b.examples} for b in planner(data).epoch(0, 0)]
    assert len(speeds) > 80
    assert all(one == {1.0} for one in speeds[:20])
    assert set().union(*speeds[-20:]) == {0.9, 1.0, 1.1}
