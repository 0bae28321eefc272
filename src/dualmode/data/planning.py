"""Plan batches by dynamic bucketing of durations, without reading audio.

Training joins some utterances with the next one: recordings contain many sentences, and a
recogniser trained only on single sentences fails at the second.

Lhotse's DynamicBucketingSampler is not used because it ignores speed perturbation in the duration
of a batch, delays the curriculum by its buffer, and may drop cuts at the end of an epoch.

All full batches of a bucket have the same shape, because matrix libraries prepare a kernel for
each new shape: in oneDNN this takes longer than running it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from dualmode.config import DataConfig
from dualmode.data.augment import draw_tails_s
from dualmode.errors import DataError
from dualmode.features import Framing

_LATE = 1 << 62  # a step at which all schedules have ended
_PAUSE_S = (0.1, 1.0)  # shortest and longest pause between joined utterances


@dataclass(frozen=True)
class Planned:
    """An example of a batch: one utterance, or several joined with pauses.

    Attributes:
        rows: its utterances, in order.
        speed: factor of speed perturbation.
        pause_s: silence between two utterances.
        seconds: duration after speed perturbation, pauses included.
        tail_s: silence after the last utterance.
        turn: number of earlier uses of its first utterance in this epoch; each use is augmented
            differently.
    """

    rows: tuple[int, ...]
    speed: float
    pause_s: float
    seconds: float
    tail_s: float = 0.0
    turn: int = 0

    @property
    def total_s(self) -> float:
        """Duration of the network's input, the tail included."""
        return self.seconds + self.tail_s


@dataclass(frozen=True)
class PlannedBatch:
    """Examples of similar duration; training pads them to ``mel_frames``."""

    examples: tuple[Planned, ...]
    mel_frames: int


class Planner:
    """Plans batches of examples of similar duration, for all processes together.

    A batch of several examples lasts at most ``data.batch_seconds`` times ``world_size``, padding
    and silent tails included. In training, examples are assigned to buckets in an order drawn from
    (seed, epoch). All examples of a bucket are padded to its length, and the bucket becomes a batch
    when it holds a certain number of them; the rest of an epoch is batched by duration. In
    evaluation, utterances are not joined, and all are batched by duration.

    Args:
        durations: duration of each row, in seconds.
        framing: of the encoder, of whose frames a padded length has a multiple of 4.
        weights: average number of uses of each row in an epoch of training; None is once each.

    Raises:
        DataError: the curriculum starts below the shortest row.
    """

    def __init__(
        self,
        durations: Sequence[float],
        data: DataConfig,
        *,
        seed: int,
        train: bool,
        world_size: int,
        framing: Framing,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._durations = durations
        self._longest = max(durations)
        self._weights = np.asarray([1.0] * len(durations) if weights is None else weights)
        self._data = data
        self._seed = seed
        self._train = train
        self._world_size = world_size
        self._framing = framing
        self._seconds = data.batch_seconds * world_size
        examples = self._examples(np.random.default_rng((seed, 0)), lambda: _LATE)
        self._lengths = bucket_lengths([item.total_s for item in examples], data.buckets, framing)
        if min(durations) > self._admitted_seconds(0):
            raise DataError(
                f"data.curriculum_seconds={data.curriculum_seconds:g} admits no utterance: "
                f"the shortest lasts {min(durations):.2f} s"
            )

    def epoch(self, epoch: int, step: int) -> Iterator[PlannedBatch]:
        """Batches of an epoch that begins at ``step``. Training drops those with fewer examples
        than processes.

        Raises:
            DataError: an epoch of training has no batch.
        """
        if not self._train:
            rows = enumerate(self._durations)
            yield from self._by_duration([Planned((row,), 1.0, 0.0, s) for row, s in rows])
            return
        rng = np.random.default_rng((self._seed, epoch))
        buckets: dict[int, list[Planned]] = {}
        first_step = step

        def now() -> int:
            return step

        for item in self._examples(rng, now):
            length = self._bucket(item)
            bucket = buckets.setdefault(length, [])
            bucket.append(item)
            if len(bucket) == self._capacity(length):
                step += 1
                yield PlannedBatch(tuple(buckets.pop(length)), length)
        rest = list(self._by_duration(list(chain(*buckets.values()))))
        for index in rng.permutation(len(rest)):
            if len(rest[index].examples) >= self._world_size:
                step += 1
                yield rest[index]
        if step == first_step:
            raise DataError(
                f"no batch has an utterance for each of {self._world_size} processes: use fewer"
            )

    def _examples(self, rng: np.random.Generator, now: Callable[[], int]) -> Iterator[Planned]:
        """Examples of all admitted utterances in random order; some are joined to their
        predecessor.

        Args:
            now: returns the step of the next batch, which may advance between two examples.
        """
        times = np.floor(self._weights + rng.random(len(self._weights))).astype(int)
        order = rng.permutation(np.repeat(np.arange(len(times)), times)).tolist()
        rows = len(self._durations)
        speeds = rng.choice(self._data.speeds or (1.0,), rows).tolist()
        joins = (rng.random(rows) < self._data.join_probability).tolist()
        pauses = rng.uniform(*_PAUSE_S, rows).tolist()
        tails = (
            draw_tails_s(self._data.tail_silence_seconds, rows, rng)
            if self._train
            else [0.0] * rows
        )
        example: Planned | None = None
        turns = [0] * rows
        for row in order:
            turn, turns[row] = turns[row], turns[row] + 1
            longest = self._admitted_seconds(now())
            if self._durations[row] > longest:
                continue
            if example and joins[row]:
                seconds = example.seconds + example.pause_s + self._durations[row] / example.speed
                if seconds <= min(longest, self._data.max_seconds):
                    example = replace(example, rows=(*example.rows, row), seconds=seconds)
                    continue
            if example:
                yield example
            speed = speeds[row] if now() >= self._data.calm_steps else 1.0
            seconds = self._durations[row] / speed
            example = Planned((row,), speed, pauses[row], seconds, tails[row], turn)
        if example:
            yield example

    def _admitted_seconds(self, step: int) -> float:
        """Duration of the longest utterance that the curriculum admits at a step."""
        first, steps = self._data.curriculum_seconds, self._data.curriculum_steps
        if not self._train or not first or step >= steps:
            return float("inf")
        return first + (self._longest - first) * step / steps

    def _bucket(self, item: Planned) -> int:
        """Padded length of an example, in mel frames."""
        length = padded_mel_frames(item.total_s, self._framing)
        at = bisect_left(self._lengths, length)
        return self._lengths[at] if at < len(self._lengths) else length

    def _capacity(self, mel_frames: int) -> int:
        """Number of examples of a length in a full batch; at least one per process."""
        return max(int(self._seconds * 100 / mel_frames), self._world_size)

    def _by_duration(self, items: Sequence[Planned]) -> Iterator[PlannedBatch]:
        batch: list[Planned] = []
        length = 0
        for item in sorted(items, key=lambda item: (item.total_s, item.rows)):
            longer = self._bucket(item) if self._train else round(100 * item.total_s)
            if batch and (len(batch) + 1) * longer > self._seconds * 100:
                yield PlannedBatch(tuple(batch), length)
                batch = []
            batch.append(item)
            length = longer
        if batch:
            yield PlannedBatch(tuple(batch), length)


def padded_mel_frames(seconds: float, framing: Framing) -> int:
    """Mel frames for ``seconds`` of audio, rounded up so that the encoder outputs a multiple of 4
    frames."""
    needed = round(100 * seconds) + 1  # speed perturbation rounds the number of samples
    frames = -(-(needed - framing.overlap_mels) // framing.stride_mels)
    return framing.mels_read(-(-frames // 4) * 4)


def bucket_lengths(durations: Sequence[float], buckets: int, framing: Framing) -> list[int]:
    """Lengths, in mel frames, of ``buckets`` that divide examples of ``durations`` seconds into
    parts of about equal total duration; the last fits the longest example."""
    ordered = np.sort(np.asarray(durations))
    totals = np.cumsum(ordered)
    shares = np.arange(1, buckets + 1) / buckets * totals[-1]
    index = np.searchsorted(totals, shares).clip(max=len(ordered) - 1)
    return sorted({padded_mel_frames(seconds, framing) for seconds in ordered[index].tolist()})
