"""Which utterances make a batch: dynamic bucketing by duration, without a look at the audio.

In training some utterances are joined with those that happen to come next, for recordings hold
many sentences, and a recogniser that has only ever heard one gets lost at the second.

Lhotse's DynamicBucketingSampler is not used because its length of a batch ignores speed
perturbation, its buffer delays the curriculum, and its end of an epoch may drop cuts.

All full batches of a bucket have one shape, because matrix libraries prepare a kernel for each
shape they meet: oneDNN takes longer to prepare one than to run it.
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

_LATE = 1 << 62  # a step after all that changes by steps
_PAUSE_S = (0.1, 1.0)  # between joined utterances, at the shortest and at the longest


@dataclass(frozen=True)
class Planned:
    """An example of a batch: mostly one utterance, else several with a pause between them.

    Attributes:
        rows: its utterances, in order.
        speed: to play them at.
        pause_s: silence between two of them.
        seconds: what the whole then lasts.
        tail_s: silence after it.
        turn: how often the epoch has had its first utterance before; each time it sounds different.
    """

    rows: tuple[int, ...]
    speed: float
    pause_s: float
    seconds: float
    tail_s: float = 0.0
    turn: int = 0

    @property
    def heard_s(self) -> float:
        """Audio that the network gets, the tail included."""
        return self.seconds + self.tail_s


@dataclass(frozen=True)
class PlannedBatch:
    """Examples of similar duration; training pads all of them to ``mel_frames``."""

    examples: tuple[Planned, ...]
    mel_frames: int


class Planner:
    """Batches of examples of similar duration, for all processes together.

    No batch of several examples is longer, padding and silent tails included, than
    ``data.batch_seconds`` times ``world_size``. In training, examples stream into buckets in an
    order drawn from (seed, epoch). A bucket has a length, to which all its examples are padded,
    and a number of examples at which it is a batch; what is left at the end is batched by
    duration. In evaluation every utterance is alone, and they are batched by duration.

    Args:
        durations: of each row, in seconds.
        weights: how often an epoch of training has each row, on average; once if not given.

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
        weights: Sequence[float] | None = None,
    ) -> None:
        self._durations = durations
        self._longest = max(durations)
        self._weights = np.asarray([1.0] * len(durations) if weights is None else weights)
        self._data = data
        self._seed = seed
        self._train = train
        self._world_size = world_size
        self._seconds = data.batch_seconds * world_size
        examples = self._examples(np.random.default_rng((seed, 0)), lambda: _LATE)
        self._lengths = bucket_lengths([item.heard_s for item in examples], data.buckets)
        if min(durations) > self._admitted_seconds(0):
            raise DataError(
                f"data.curriculum_seconds={data.curriculum_seconds:g} lets no utterance in: "
                f"the shortest lasts {min(durations):.2f} s"
            )

    def epoch(self, epoch: int, step: int) -> Iterator[PlannedBatch]:
        """The batches of an epoch that begins at ``step``; training drops those too small to share.

        Raises:
            DataError: an epoch of training without a batch.
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
        """Every utterance let in, in a drawn order; some follow their predecessor's example.

        Args:
            now: the step that the next batch is for; it may go on between two examples.
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
        """The curriculum: the longest utterance that is let in at a step."""
        first, steps = self._data.curriculum_seconds, self._data.curriculum_steps
        if not self._train or not first or step >= steps:
            return float("inf")
        return first + (self._longest - first) * step / steps

    def _bucket(self, item: Planned) -> int:
        """The length, in mel frames, that an example is padded to."""
        length = padded_mel_frames(item.heard_s)
        at = bisect_left(self._lengths, length)
        return self._lengths[at] if at < len(self._lengths) else length

    def _capacity(self, mel_frames: int) -> int:
        """How many examples of a length make a batch: at least one for each process."""
        return max(int(self._seconds * 100 / mel_frames), self._world_size)

    def _by_duration(self, items: Sequence[Planned]) -> Iterator[PlannedBatch]:
        batch: list[Planned] = []
        length = 0
        for item in sorted(items, key=lambda item: (item.heard_s, item.rows)):
            longer = self._bucket(item) if self._train else round(100 * item.heard_s)
            if batch and (len(batch) + 1) * longer > self._seconds * 100:
                yield PlannedBatch(tuple(batch), length)
                batch = []
            batch.append(item)
            length = longer
        if batch:
            yield PlannedBatch(tuple(batch), length)


def padded_mel_frames(seconds: float) -> int:
    """Mel frames that hold ``seconds`` of audio, rounded up so that the encoder makes a multiple
    of 4 frames of them."""
    needed = round(100 * seconds) + 1  # speed perturbation rounds the number of samples
    return -(-(needed - 3) // 16) * 16 + 3


def bucket_lengths(durations: Sequence[float], buckets: int) -> list[int]:
    """Lengths in mel frames that part examples of ``durations`` seconds, padded, into ``buckets``
    of about equal total duration; the last holds the longest."""
    ordered = np.sort(np.asarray(durations))
    totals = np.cumsum(ordered)
    shares = np.arange(1, buckets + 1) / buckets * totals[-1]
    index = np.searchsorted(totals, shares).clip(max=len(ordered) - 1)
    return sorted({padded_mel_frames(seconds) for seconds in ordered[index].tolist()})
