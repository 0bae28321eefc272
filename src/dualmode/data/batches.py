"""Batches of features and tokens: planned from a position, made in worker processes.

Everything that is drawn follows from (seed, epoch, cut id), so that a position, two integers and
a step count, is all that a resumed run needs to go on with the very same batches.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset.sampling import DynamicBucketingSampler
from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from dualmode.audio import SAMPLE_RATE_HZ, Samples, to_mono_16khz
from dualmode.config import DataConfig, TextConfig
from dualmode.data.augment import add_noise, draw_noise, mask_mels, perturb_speed
from dualmode.data.usable import source_of, usable_cuts
from dualmode.errors import AudioError, DataError
from dualmode.features import Mels, fbank
from dualmode.text import Tokens

_NOISE_SECONDS = 3600.0  # of noise held in memory: 230 MB
_SORTING_BUFFER = 5000  # cuts that the sampler chooses a batch from
_PREFETCHED = 4  # batches a worker


@dataclass(frozen=True)
class Batch:
    """Utterances made ready for a model.

    Attributes:
        features: (B, M, 80) float32 log-mels, zero-padded.
        feature_lengths: (B,) int64 mel frames.
        tokens: (B, U) int64, zero-padded.
        token_lengths: (B,) int64.
        texts: normalised transcripts.
        ids: cut ids.
        seconds: audio in the batch, padding not counted, after speed perturbation.
    """

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    texts: list[str]
    ids: list[str]
    seconds: float

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        names = ("features", "feature_lengths", "tokens", "token_lengths")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)


@dataclass(frozen=True)
class Position:
    """Where to go on: batches done in this epoch, and in the whole run (what the curriculum asks)."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class _Task:
    """What a worker makes a batch of: rows of the source's cuts."""

    rows: tuple[int, ...]
    after: Position


class BatchSource:
    """Batches of a CutSet for one of ``world_size`` processes, which together see one big batch.

    Args:
        cuts: what to read; what cannot be used is left out and listed in ``report``.
        train: shuffle, disturb and go on for ever; otherwise one ordered pass over everything.
        noise: a CutSet to mix in, held in memory (an hour of it at most).

    Raises:
        DataError: no cut can be used, or the curriculum starts below the shortest.
    """

    def __init__(
        self,
        cuts: CutSet,
        tokens: Tokens,
        text: TextConfig,
        data: DataConfig,
        *,
        seed: int,
        train: bool,
        rank: int = 0,
        world_size: int = 1,
        noise: CutSet | None = None,
    ) -> None:
        usable, self.report = usable_cuts(cuts, tokens, text, data)
        self._cuts: list[Cut] = list(usable)
        self._rows = {cut.id: row for row, cut in enumerate(self._cuts)}
        self._data = data
        self._seed = seed
        self._train = train
        self._rank = rank
        self._world_size = world_size
        self._bins = _bucket_bounds(self._cuts, data.buckets)
        self._check_curriculum()
        noises = load_noise(noise, seed) if train and noise is not None else []
        self._maker = _Maker(self._cuts, tokens, data, seed, train, noises)

    @property
    def seconds(self) -> float:
        """Audio in one epoch, before speed perturbation."""
        return self.report.kept_seconds

    def batches(self, start: Position = Position()) -> Iterator[tuple[Batch, Position]]:
        """Batches from ``start`` on, each with the position to go on from after it.

        Raises:
            AudioError: a file that cannot be read; the message names it.
        """
        workers = self._data.workers
        loader = DataLoader(
            self._maker,
            sampler=_Endless(self._tasks(start)),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_PREFETCHED if workers else None,
            worker_init_fn=_start_worker,
            # Forked workers share the cuts and the noise instead of each loading them.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            # The loader draws a seed that nothing here uses; the global generator is not to move.
            generator=torch.Generator(),
        )
        for made in loader:
            if isinstance(made, str):
                raise AudioError(made)
            yield made

    def _tasks(self, start: Position) -> Iterator[_Task]:
        position = Position(start.epoch, 0, start.step - start.batch)
        while True:
            first_step = position.step
            for rows in self._plan(position):
                position = Position(position.epoch, position.batch + 1, position.step + 1)
                mine = rows[self._rank :: self._world_size]
                if position.step > start.step and mine:
                    yield _Task(mine, position)
            if not self._train:
                return
            if position.step == first_step:
                raise DataError(
                    f"no batch has a cut for each of {self._world_size} processes: use fewer"
                )
            position = Position(position.epoch + 1, 0, position.step)

    def _plan(self, start: Position) -> Iterator[tuple[int, ...]]:
        """Rows of the batches of an epoch, of all processes together, from its first."""
        step = start.step

        def admitted() -> Iterator[Cut]:
            for row in self._order(start.epoch):
                if self._cuts[row].duration <= self._longest_seconds(step):
                    yield self._cuts[row]

        sampler = DynamicBucketingSampler(
            CutSet(admitted()),
            max_duration=self._data.batch_seconds * self._world_size,
            duration_bins=self._bins,
            buffer_size=_SORTING_BUFFER,
            shuffle=self._train,
            sync_buckets=False,
            seed=self._seed,
            rank=0,
            world_size=1,
        )
        sampler.set_epoch(start.epoch)
        with warnings.catch_warnings():
            # Lhotse guesses that the buffer is too small for batches of a long epoch.
            warnings.filterwarnings("ignore", message="Your 'buffer_size' setting")
            for cuts in sampler:
                if self._train and len(cuts) < self._world_size:
                    continue
                step += 1
                yield tuple(self._rows[cut.id] for cut in cuts)

    def _order(self, epoch: int) -> Sequence[int]:
        if not self._train:
            return range(len(self._cuts))
        order: list[int] = (
            np.random.default_rng((self._seed, epoch)).permutation(len(self._cuts)).tolist()
        )
        return order

    def _longest_seconds(self, step: int) -> float:
        """The curriculum: the longest utterance that is let in at a step."""
        first, steps = self._data.curriculum_seconds, self._data.curriculum_steps
        if not self._train or not first or step >= steps:
            return float("inf")
        return first + (self._data.max_seconds - first) * step / steps

    def _check_curriculum(self) -> None:
        shortest = min(cut.duration for cut in self._cuts)
        if shortest > self._longest_seconds(0):
            raise DataError(
                f"data.curriculum_seconds={self._data.curriculum_seconds:g} lets no utterance in: "
                f"the shortest lasts {shortest:.2f} s"
            )


def load_noise(cuts: CutSet, seed: int) -> list[Samples]:
    """Read noises as 16 kHz samples: all of them, or an hour's worth drawn by ``seed``.

    Raises:
        DataError: no noise in the CutSet. AudioError: a file that cannot be read.
    """
    cuts = cuts.to_eager()
    noises, seconds = [], 0.0
    for index in np.random.default_rng(seed).permutation(len(cuts)):
        noise = load_samples(cuts[int(index)])
        noises.append(noise)
        seconds += len(noise) / SAMPLE_RATE_HZ
        if seconds > _NOISE_SECONDS:
            break
    if not noises:
        raise DataError("the noise CutSet is empty: give another, or none")
    return noises


def load_samples(cut: Cut) -> Samples:
    """A cut's audio: (S,) at 16 kHz, channels averaged.

    Raises:
        AudioError: it cannot be read; the message names the cut and the file.
    """
    try:
        samples = cut.load_audio()
    # Lhotse's backends raise whatever their libraries raise.
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AudioError(
            f"{cut.id} ({source_of(cut)}) cannot be read: {first}; prepare the corpus again"
        ) from None
    return to_mono_16khz(np.asarray(samples).T, int(cut.sampling_rate))


class _Endless(Sampler[_Task]):
    """Tasks as the sampler that a DataLoader wants."""

    def __init__(self, tasks: Iterator[_Task]) -> None:
        self._tasks = tasks

    def __iter__(self) -> Iterator[_Task]:
        return self._tasks


class _Maker(Dataset[tuple[Batch, Position] | str]):
    """Makes batches in workers; an error comes back as its message, free of worker tracebacks."""

    def __init__(
        self,
        cuts: list[Cut],
        tokens: Tokens,
        data: DataConfig,
        seed: int,
        train: bool,
        noises: list[Samples],
    ) -> None:
        self._cuts = cuts
        self._tokens = tokens
        self._data = data
        self._seed = seed
        self._train = train
        self._noises = noises

    def __getitem__(self, task: _Task) -> tuple[Batch, Position] | str:
        cuts = [self._cuts[row] for row in task.rows]
        try:
            made = [self._features(cut, task.after.epoch) for cut in cuts]
        except AudioError as error:
            return str(error)
        mels = [torch.from_numpy(mel) for mel, _ in made]
        texts = [cut.supervisions[0].text or "" for cut in cuts]
        tokens = [torch.tensor(self._tokens.encode(text)) for text in texts]
        batch = Batch(
            features=pad_sequence(mels, batch_first=True),
            feature_lengths=torch.tensor([len(mel) for mel in mels]),
            tokens=pad_sequence(tokens, batch_first=True),
            token_lengths=torch.tensor([len(ids) for ids in tokens]),
            texts=texts,
            ids=[cut.id for cut in cuts],
            seconds=sum(seconds for _, seconds in made),
        )
        return batch, task.after

    def _features(self, cut: Cut, epoch: int) -> tuple[Mels, float]:
        """(M, 80) features of a cut, disturbed if training, and its seconds."""
        samples = load_samples(cut)
        rng = np.random.default_rng((self._seed, epoch, *_entropy(cut.id)))
        if self._train:
            samples = perturb_speed(samples, float(rng.choice(self._data.speeds or (1.0,))))
        if self._noises and rng.random() < self._data.noise_probability:
            noise = draw_noise(self._noises, len(samples), rng)
            samples = add_noise(samples, noise, rng.uniform(*self._data.noise_snr_db))
        mels = fbank(samples)
        if not np.isfinite(mels).all():
            raise AudioError(f"{cut.id} ({source_of(cut)}) holds NaN: prepare the corpus again")
        if self._train:
            mels = mask_mels(mels, self._data, rng)
        return mels, len(samples) / SAMPLE_RATE_HZ


def _entropy(name: str) -> tuple[int, ...]:
    """Numbers that follow from a name in every process; Python's own hash does not."""
    digest = hashlib.sha256(name.encode()).digest()
    return tuple(int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4))


def _bucket_bounds(cuts: list[Cut], buckets: int) -> list[float]:
    """Durations that part the buckets; one that nothing reaches stands for a single bucket."""
    buckets = min(buckets, len(cuts))
    bounds = estimate_duration_buckets(cuts, buckets) if buckets > 1 else []
    return [float(bound) for bound in bounds] or [1 + max(cut.duration for cut in cuts)]


def _start_worker(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the trainer ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
