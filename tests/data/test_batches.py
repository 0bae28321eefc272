"""Batches: complete, reproducible from any position, and the same for one process or several."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import asdict
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut

from dualmode.config import DataConfig, TextConfig
from dualmode.data.batches import Batch, BatchSource, Position
from dualmode.data.manifests import WEIGHT
from dualmode.errors import AudioError, DataError, DualmodeError
from dualmode.features import Framing, fbank, mel_frames
from dualmode.text import Tokens

DATA = DataConfig(
    batch_seconds=10,
    buckets=3,
    workers=0,
    time_mask_frames=10,
    tail_silence_seconds=0,
    join_probability=0,
)
CALM = DATA.model_copy(
    update={"speeds": (1.0,), "time_masks": 0, "frequency_masks": 0, "noise_probability": 0.0}
)
TEXT = TextConfig()


def source(cuts: CutSet, tokens: Tokens, data: DataConfig = DATA, **options: object) -> BatchSource:
    settings = {"seed": 7, "train": True, "framing": Framing(40)} | options
    return BatchSource(cuts, tokens, TEXT, data, **settings)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    return (
        one.ids == other.ids
        and one.texts == other.texts
        and one.seconds == other.seconds
        and torch.equal(one.features, other.features)
        and torch.equal(one.feature_lengths, other.feature_lengths)
        and torch.equal(one.tokens, other.tokens)
        and torch.equal(one.token_lengths, other.token_lengths)
    )


def test_a_batch_holds_what_its_cuts_say(cuts: CutSet, tokens: Tokens) -> None:
    batch, position = next(source(cuts, tokens, CALM).batches())
    assert position == Position(0, 1, 1)
    assert batch.features.dtype == torch.float32
    assert batch.tokens.dtype == batch.token_lengths.dtype == torch.int64
    assert batch.seconds == pytest.approx(sum(cuts[i].duration for i in batch.ids))
    for row, name in enumerate(batch.ids):
        length, used = int(batch.feature_lengths[row]), int(batch.token_lengths[row])
        mels = fbank(cuts[name].load_audio()[0])
        assert length == len(mels)
        assert np.abs(batch.features[row, :length].numpy() - mels).max() < 2e-3
        assert not batch.features[row, length:].any()
        assert batch.texts[row] == cuts[name].supervisions[0].text
        assert batch.tokens[row, :used].tolist() == tokens.encode(batch.texts[row])
        assert not batch.tokens[row, used:].any()


def test_joined_utterances_follow_one_another(cuts: CutSet, tokens: Tokens) -> None:
    data = CALM.model_copy(update={"join_probability": 0.6})
    batches = [batch for batch, _ in islice(source(cuts, tokens, data).batches(), 12)]
    longest = 0
    for batch in batches:
        for row, (joined, text) in enumerate(zip(batch.ids, batch.texts, strict=True)):
            names = joined.split("+")
            longest = max(longest, len(names))
            spoken = [cuts[name].load_audio()[0] for name in names]
            assert text == " ".join(cuts[name].supervisions[0].text for name in names)
            start = mel_frames(len(spoken[0]))
            heard = batch.features[row, : start - 3].numpy()
            assert np.abs(heard - fbank(spoken[0])[: start - 3]).max() < 2e-3
            # A pause of 0.1 to 1 s between two; the last ends with the example.
            pauses = int(batch.feature_lengths[row]) - sum(map(mel_frames, map(len, spoken)))
            assert 9 * (len(names) - 1) <= pauses <= 101 * (len(names) - 1)
            end = fbank(spoken[-1])[10:-3]
            stop = int(batch.feature_lengths[row])
            # Frames fall elsewhere within the utterance: compare its mean spectrum.
            last = batch.features[row, stop - len(end) - 3 : stop - 3].numpy()
            assert np.abs(last.mean(axis=0) - end.mean(axis=0)).mean() < 0.3
    assert longest > 2


def test_every_epoch_has_every_cut_once_and_another_order(cuts: CutSet, tokens: Tokens) -> None:
    seen: dict[int, list[str]] = {}
    for batch, position in source(cuts, tokens).batches():
        if position.epoch == 3:
            break
        seen.setdefault(position.epoch, []).extend(batch.ids)
    for order in seen.values():
        assert Counter(order) == Counter(cuts.ids)
    assert seen[0] != seen[1] != seen[2]


def test_one_pass_in_evaluation_even_for_several_processes(cuts: CutSet, tokens: Tokens) -> None:
    data = DATA.model_copy(update={"batch_seconds": 2.0})
    for world in (1, 2, 3):
        parts = [
            list(source(cuts, tokens, data, train=False, rank=rank, world_size=world).batches())
            for rank in range(world)
        ]
        ids = [name for part in parts for batch, _ in part for name in batch.ids]
        assert Counter(ids) == Counter(cuts.ids)
    again = source(cuts, tokens, train=False, seed=7).batches()
    assert all(
        same(a, b)
        for (a, _), (b, _) in zip(source(cuts, tokens, train=False).batches(), again, strict=True)
    )


def test_evaluation_hears_exactly_the_features_of_recognisers(cuts: CutSet, tokens: Tokens) -> None:
    batch, _ = next(source(cuts, tokens, train=False).batches())
    mels = fbank(cuts[batch.ids[0]].load_audio()[0])
    assert np.array_equal(batch.features[0, : len(mels)].numpy(), mels)


def test_what_the_network_gets_stays_within_the_seconds_tails_and_joins_included(
    cuts: CutSet, tokens: Tokens
) -> None:
    data = DATA.model_copy(update={"tail_silence_seconds": 3.0, "join_probability": 0.5})
    lengths = set()
    for batch, _ in islice(source(cuts, tokens, data).batches(), 40):
        rows, frames, _ = batch.features.shape
        assert rows == 1 or rows * frames <= 100 * data.batch_seconds
        assert int(batch.feature_lengths.max()) <= frames
        assert batch.tokens.shape[1] % 8 == 0
        lengths.add(frames)
    assert len(lengths) <= data.buckets


@pytest.mark.parametrize("workers", [0, 2])
def test_any_position_resumes_bit_for_bit(
    cuts: CutSet, noise: CutSet, tokens: Tokens, workers: int
) -> None:
    data = DATA.model_copy(
        update={
            "workers": workers,
            "curriculum_seconds": 2.0,
            "curriculum_steps": 18,
            "tail_silence_seconds": 1.0,
        }
    )
    whole = list(islice(source(cuts, tokens, data, noise=noise).batches(), 25))
    rng = np.random.default_rng(3)
    stops = [0, 23] if workers else [0, 23, *rng.integers(1, 22, 5).tolist()]
    for stop in stops:
        # What a checkpoint keeps of a position is its JSON.
        position = Position(**json.loads(json.dumps(asdict(whole[stop][1]))))
        expected = whole[stop + 1 :]
        rest = source(cuts, tokens, data, noise=noise).batches(position)
        found = list(islice(rest, len(expected)))
        assert len(found) == 24 - stop
        for (before, after), (batch, reached) in zip(expected, found, strict=True):
            assert same(before, batch)
            assert after == reached
    steps = [position.step for _, position in whole]
    assert steps == list(range(1, 26))
    assert whole[-1][1].epoch >= 2


def test_seeds_differ(cuts: CutSet, noise: CutSet, tokens: Tokens) -> None:
    one, _ = next(source(cuts, tokens, noise=noise).batches())
    two, _ = next(source(cuts, tokens, noise=noise).batches())
    other, _ = next(source(cuts, tokens, noise=noise, seed=8).batches())
    assert same(one, two)
    assert not same(one, other)


def test_a_cut_that_comes_again_in_an_epoch_sounds_different(cuts: CutSet, tokens: Tokens) -> None:
    data = DATA.model_copy(update={"speeds": (1.0,), "calm_steps": 0})
    twice = CutSet.from_cuts(cut.with_custom(WEIGHT, 2.0) for cut in cuts)
    heard: dict[str, list[bytes]] = {}
    for batch, position in source(twice, tokens, data).batches():
        if position.epoch:
            break
        for row, name in enumerate(batch.ids):
            mels = batch.features[row, : batch.feature_lengths[row]]
            heard.setdefault(name, []).append(mels.numpy().tobytes())
    assert len(heard) > 3
    assert all(len(set(sounds)) == len(sounds) >= 2 for sounds in heard.values())


def test_the_global_generator_stays_where_it_is(cuts: CutSet, tokens: Tokens) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(islice(source(cuts, tokens).batches(), 3))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_what_one_would_see(
    cuts: CutSet, noise: CutSet, tokens: Tokens, world: int
) -> None:
    small = DATA.model_copy(update={"tail_silence_seconds": 1.0})
    big = small.model_copy(update={"batch_seconds": DATA.batch_seconds * world})
    alone = source(cuts, tokens, big, noise=noise).batches()
    ranks = [
        source(cuts, tokens, small, noise=noise, rank=rank, world_size=world).batches()
        for rank in range(world)
    ]
    # One process keeps batches too small to share; several leave them out.
    shared = [batch for batch, _ in islice(alone, 30) if len(batch.ids) >= world]
    assert len(shared) >= 20
    for batch in shared:
        parts = [next(rank) for rank in ranks]
        for rank, (part, _) in enumerate(parts):
            assert part.ids == batch.ids[rank::world]
            for row, name in enumerate(part.ids):
                length = int(part.feature_lengths[row])
                mine = part.features[row, :length]
                assert torch.equal(mine, batch.features[batch.ids.index(name), :length])
        assert len({position for _, position in parts}) == 1


def test_the_curriculum_lets_longer_ones_in(cuts: CutSet, tokens: Tokens) -> None:
    data = CALM.model_copy(update={"curriculum_seconds": 1.8, "curriculum_steps": 20})
    longest = [
        (position.step, max(cuts[name].duration for name in batch.ids))
        for batch, position in islice(source(cuts, tokens, data).batches(), 60)
    ]
    slope = (max(cut.duration for cut in cuts) - 1.8) / 20
    assert all(seconds <= 1.8 + slope * step for step, seconds in longest)
    assert max(seconds for step, seconds in longest[:1]) <= 1.8
    assert max(seconds for step, seconds in longest) == max(cut.duration for cut in cuts)


def test_a_curriculum_that_lets_nothing_in_is_refused(cuts: CutSet, tokens: Tokens) -> None:
    data = DATA.model_copy(update={"curriculum_seconds": 0.2, "curriculum_steps": 20})
    with pytest.raises(DataError, match=r"curriculum_seconds=0\.2"):
        source(cuts, tokens, data)


def test_more_processes_than_cuts_is_an_error(cuts: CutSet, tokens: Tokens) -> None:
    few = source(cuts.subset(first=3), tokens, rank=0, world_size=4)
    with pytest.raises(DataError, match="4 processes"):
        next(few.batches())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_equal_cuts_can_be_trained_on(make_cut, tokens: Tokens, count: int) -> None:  # type: ignore[no-untyped-def]
    few = CutSet.from_cuts(make_cut(f"equal-{n}") for n in range(count))
    ids = [name for batch, _ in islice(source(few, tokens).batches(), 3) for name in batch.ids]
    assert set(ids) == set(few.ids)


@pytest.mark.parametrize(
    "change", [{"noise_probability": 1.0}, {"time_masks": 2}, {"frequency_masks": 2}]
)
def test_noise_and_masks_change_features_alone(
    cuts: CutSet, noise: CutSet, tokens: Tokens, change: dict[str, object]
) -> None:
    plain, _ = next(source(cuts, tokens, CALM).batches())
    data = CALM.model_copy(update=change)
    batch, _ = next(source(cuts, tokens, data, noise=noise).batches())
    assert batch.ids == plain.ids
    assert torch.equal(batch.feature_lengths, plain.feature_lengths)
    assert not torch.equal(batch.features, plain.features)


def test_every_speed_is_drawn_and_changes_lengths(cuts: CutSet, tokens: Tokens) -> None:
    data = CALM.model_copy(update={"speeds": (0.9, 1.0, 1.1)})
    drawn = Counter()
    for batch, _ in islice(source(cuts, tokens, data).batches(), 30):
        for name, length in zip(batch.ids, batch.feature_lengths.tolist(), strict=True):
            samples = cuts[name].num_samples
            lengths = {speed: mel_frames(int(np.ceil(samples / speed))) for speed in data.speeds}
            drawn.update(speed for speed, frames in lengths.items() if frames == length)
    assert sorted(drawn) == [0.9, 1.0, 1.1]
    assert min(drawn.values()) > 0.2 * sum(drawn.values())


def test_any_rate_channel_count_and_part_of_a_recording_is_read(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    phone = make_cut("phone", 1.5, sample_rate_hz=8000, channels=2)
    studio = make_cut("studio", 1.5, sample_rate_hz=48000)
    part = make_cut("whole", 3.0).truncate(offset=1.0, duration=1.5).with_id("part")
    part.supervisions = [s.with_offset(0) for s in studio.supervisions]
    batch, _ = next(
        source(CutSet.from_cuts([phone, studio, part]), tokens, CALM, train=False).batches()
    )
    assert batch.feature_lengths.tolist() == [150, 150, 150]
    row = batch.ids.index("part")
    expected = fbank(make_cut("whole", 3.0).load_audio()[0, 16000:40000])
    assert np.array_equal(batch.features[row].numpy(), expected)


def spoil(cut: MonoCut, damage: str) -> None:
    """Make the file of a cut unreadable, or readable but without sound."""
    path = Path(cut.recording.sources[0].source)
    if damage == "removed":
        path.unlink()
    else:
        soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")


@pytest.mark.parametrize("damage", ["removed", "nan"])
@pytest.mark.parametrize("train", [True, False])
def test_a_file_that_went_bad_is_left_out_and_named(
    make_cut, tokens: Tokens, damage: str, train: bool
) -> None:  # type: ignore[no-untyped-def]
    some = CutSet.from_cuts(make_cut(f"{damage}-{train}-{n}", 1.5, "stop") for n in range(5))
    names = list(some.ids)
    whole, _ = next(source(some, tokens, CALM, train=train).batches())
    spoil(some[2], damage)
    batches = source(some, tokens, CALM, train=train)
    batch, position = next(batches.batches())
    assert position == Position(0, 1, 1)
    assert sorted(batch.ids) == [*names[:2], *names[3:]]
    (problem,) = batch.unreadable
    assert (problem.what, problem.kind) == (names[2], "unreadable")
    assert problem.where in problem.why
    assert "prepare the corpus again" in problem.why
    for row, name in enumerate(batch.ids):  # the others are what they would have been
        at, length = whole.ids.index(name), int(batch.feature_lengths[row])
        assert torch.equal(batch.features[row, :length], whole.features[at, :length])
    assert len(batches.report.problems) == (0 if train else 1)


def test_a_process_has_a_batch_for_every_step_that_the_others_have(
    make_cut, tokens: Tokens
) -> None:  # type: ignore[no-untyped-def]
    """Even where all that was planned for it cannot be read: another utterance takes its place."""
    some = CutSet.from_cuts(make_cut(f"lock-step-{n}", 1.5, "stop") for n in range(8))
    data = CALM.model_copy(update={"batch_seconds": 1.6})
    spoil(some[3], "removed")
    for rank in range(2):
        ranks = [source(some, tokens, data, rank=rank, world_size=2).batches() for _ in range(2)]
        taken = [list(islice(each, 9)) for each in ranks]
        assert [position.step for _, position in taken[0]] == list(range(1, 10))
        assert all(same(a, b) for (a, _), (b, _) in zip(*taken, strict=True))
        assert all(some[3].id not in batch.ids for batch, _ in taken[0])
    missed = list(islice(source(some, tokens, data).batches(), 8))
    assert [p.what for batch, _ in missed for p in batch.unreadable] == [some[3].id]
    assert sum(len(batch.ids) for batch, _ in missed) == 8


def test_evaluation_leaves_out_a_batch_of_which_nothing_can_be_read(
    make_cut, tokens: Tokens
) -> None:  # type: ignore[no-untyped-def]
    some = CutSet.from_cuts(make_cut(f"silent-{n}", 1.5 + n / 10, "stop") for n in range(3))
    spoil(some[1], "removed")
    data = CALM.model_copy(update={"batch_seconds": 1.6})
    batches = source(some, tokens, data, train=False)
    for _ in range(2):
        assert [b.ids for b, _ in batches.batches()] == [[some[0].id], [some[2].id]]
    assert [problem.what for problem in batches.report.problems] == [some[1].id]


def test_a_corpus_that_is_gone_is_an_error(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    some = CutSet.from_cuts(make_cut(f"gone-{n}") for n in range(3))
    for cut in some:
        spoil(cut, "removed")
    with pytest.raises(AudioError, match=r"nothing can be read any more; gone-\d .*gone-\d"):
        next(source(some, tokens, CALM).batches())


def test_a_killed_data_worker_is_one_line(cuts: CutSet, tokens: Tokens) -> None:
    batches = source(cuts, tokens, DATA.model_copy(update={"workers": 1})).batches()
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    with pytest.raises(DualmodeError, match=r"was killed.*data\.workers=0") as caught:
        for _ in batches:
            pass
    assert "\n" not in str(caught.value)


def test_what_cannot_be_used_is_reported(make_cut, tokens: Tokens) -> None:  # type: ignore[no-untyped-def]
    mixed = CutSet.from_cuts([make_cut("good"), make_cut("brief", 0.05), make_cut("endless", 31.0)])
    batches = source(mixed, tokens)
    assert [problem.what for problem in batches.report.problems] == ["brief", "endless"]
    assert batches.seconds == pytest.approx(1.0)
    assert next(batches.batches())[0].ids == ["good"]


def test_batches_move_between_devices_whole(cuts: CutSet, tokens: Tokens) -> None:
    batch, _ = next(source(cuts, tokens).batches())
    assert same(batch.to("cpu"), batch)


def test_positions_grow_by_one(cuts: CutSet, tokens: Tokens) -> None:
    positions = [position for _, position in islice(source(cuts, tokens).batches(), 30)]
    for before, after in pairwise(positions):
        assert after.step == before.step + 1
        if after.epoch == before.epoch:
            assert after.batch == before.batch + 1
        else:
            assert (after.epoch, after.batch) == (before.epoch + 1, 1)


def test_noise_and_masks_wait_for_the_calm_to_end(
    cuts: CutSet, noise: CutSet, tokens: Tokens
) -> None:
    data = DATA.model_copy(update={"calm_steps": 4, "noise_probability": 1.0})
    loud = list(islice(source(cuts, tokens, data, noise=noise).batches(), 8))
    calm = CALM.model_copy(update={"calm_steps": 8})
    quiet = {
        name: batch.features[row, : int(batch.feature_lengths[row])]
        for batch, _ in islice(source(cuts, tokens, calm).batches(), 30)
        for row, name in enumerate(batch.ids)
    }
    for batch, position in loud:
        for row, name in enumerate(batch.ids):
            features = batch.features[row, : int(batch.feature_lengths[row])]
            same = features.shape == quiet[name].shape and torch.equal(features, quiet[name])
            assert same == (position.step <= 4)
