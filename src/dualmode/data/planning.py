"""Which utterances make a batch: dynamic bucketing by duration, without a look at the audio.

In training some utterances are joined with those that happen to come next, for recordings hold
many sentences, and a recogniser that has only ever heard one gets lost at the second.

Lhotse's DynamicBucketingSampler is not used because its length of a batch ignores speed
perturbation, its buffer delays the curriculum, and its end of an epoch may drop cuts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from dualmode.config import DataConfig
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
        turn: how often the epoch has had its first utterance before; each time it sounds different.
    """

    rows: tuple[int, ...]
    speed: float
    pause_s: float
    seconds: float
    turn: int = 0


class Planner:
    """Batches of examples of similar duration, for all processes together.

    A batch is full when its examples, padded to the longest, would exceed ``data.batch_seconds``
    times ``world_size``. In training they stream into buckets in an order drawn from (seed,
    epoch), a full bucket is a batch, and what is left at the end is batched by duration. In
    evaluation every utterance is alone, and they are batched by duration.

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
        self._bounds = bucket_bounds([item.seconds for item in examples], data.buckets)
        if min(durations) > self._admitted_seconds(0):
            raise DataError(
                f"data.curriculum_seconds={data.curriculum_seconds:g} lets no utterance in: "
                f"the shortest lasts {min(durations):.2f} s"
            )

    def epoch(self, epoch: int, step: int) -> Iterator[list[Planned]]:
        """The batches of an epoch that begins at ``step``; training drops those too small to share.

        Raises:
            DataError: an epoch of training without a batch.
        """
        if not self._train:
            rows = enumerate(self._durations)
            yield from self._by_duration([Planned((row,), 1.0, 0.0, s) for row, s in rows])
            return
        rng = np.random.default_rng((self._seed, epoch))
        buckets: list[list[Planned]] = [[] for _ in range(len(self._bounds) + 1)]
        longest = [0.0] * len(buckets)
        first_step = step

        def now() -> int:
            return step

        for item in self._examples(rng, now):
            number = bisect_right(self._bounds, item.seconds)
            if self._is_full(buckets[number], max(longest[number], item.seconds)):
                if len(buckets[number]) >= self._world_size:
                    step += 1
                    yield buckets[number]
                buckets[number], longest[number] = [], 0.0
            buckets[number].append(item)
            longest[number] = max(longest[number], item.seconds)
        rest = list(self._by_duration(list(chain(*buckets))))
        for index in rng.permutation(len(rest)):
            if len(rest[index]) >= self._world_size:
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
            example = Planned((row,), speed, pauses[row], self._durations[row] / speed, turn)
        if example:
            yield example

    def _admitted_seconds(self, step: int) -> float:
        """The curriculum: the longest utterance that is let in at a step."""
        first, steps = self._data.curriculum_seconds, self._data.curriculum_steps
        if not self._train or not first or step >= steps:
            return float("inf")
        return first + (self._longest - first) * step / steps

    def _is_full(self, batch: list[Planned], longest: float) -> bool:
        """Whether one more would be too much, the longest then lasting ``longest`` seconds."""
        return bool(batch) and (len(batch) + 1) * longest > self._seconds

    def _by_duration(self, items: Sequence[Planned]) -> Iterator[list[Planned]]:
        batch: list[Planned] = []
        for item in sorted(items, key=lambda item: (item.seconds, item.rows)):
            if self._is_full(batch, item.seconds):
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch


def bucket_bounds(durations: Sequence[float], buckets: int) -> list[float]:
    """Durations that part the rows into ``buckets`` of about equal total duration."""
    ordered = np.sort(np.asarray(durations))
    totals = np.cumsum(ordered)
    shares = np.arange(1, buckets) / buckets * totals[-1]
    return sorted({float(ordered[index]) for index in np.searchsorted(totals, shares)})
