"""Batches of features and tokens: planned from a position, made in worker processes.

Everything that is drawn follows from (seed, epoch, cut id), so that a position, two integers and
a step count, is all that a resumed run needs to go on with the very same batches.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.config import DataConfig, PretrainingConfig, TextConfig
from dualmode.data.augment import (
    add_noise,
    append_silence,
    change_gain,
    draw_noise,
    join,
    mask_mels,
    perturb_speed,
    reverberate,
    telephone,
)
from dualmode.data.loading import load_noise, load_samples
from dualmode.data.manifests import WEIGHT
from dualmode.data.planning import Planned, PlannedBatch, Planner
from dualmode.data.spans import Hidden, hide
from dualmode.data.training_features import training_fbank
from dualmode.data.usable import source_of, usable_cuts
from dualmode.errors import AudioError
from dualmode.features import Mels, encoder_frames, fbank, mel_frames
from dualmode.text import Tokens

_PREFETCHED = 4  # batches a worker
_TOKEN_GRID = 8  # numbers of tokens that batches of training are padded to: few shapes


@dataclass(frozen=True)
class Batch:
    """Utterances made ready for a model; training joins some of them into one.

    Attributes:
        features: (B, M, 80) float32 log-mels, zero-padded.
        feature_lengths: (B,) int64 mel frames.
        tokens: (B, U) int64, zero-padded.
        token_lengths: (B,) int64.
        texts: normalised transcripts.
        ids: cut ids.
        seconds: audio in the batch, padding not counted, after speed perturbation.
        hidden: what pre-training hides; None in fine-tuning.
    """

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    texts: list[str]
    ids: list[str]
    seconds: float
    hidden: Hidden | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        names = ("features", "feature_lengths", "tokens", "token_lengths")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        hidden = None if self.hidden is None else self.hidden.to(device)
        return replace(self, **moved, hidden=hidden)


@dataclass(frozen=True)
class Position:
    """Where to go on.

    Attributes:
        epoch: passes over the cuts that are done.
        batch: batches done in this epoch.
        step: batches done in the whole run, which the curriculum goes by.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class _Task:
    """What a worker makes a batch of, and the position after it."""

    planned: PlannedBatch
    after: Position


class BatchSource:
    """Batches of a CutSet for one of ``world_size`` processes, which together see one big batch.

    Args:
        cuts: what to read; what cannot be used is left out and listed in ``report``.
        tokens: of the transcripts; None where audio is all that counts.
        train: shuffle, disturb and go on for ever; otherwise one ordered pass over everything.
        noise: a CutSet to mix in, held in memory (an hour of it at most).
        hiding: how to hide frames for pre-training, if that is what the batches are for.

    Raises:
        DataError: no cut can be used, or the curriculum starts below the shortest.
    """

    def __init__(
        self,
        cuts: CutSet,
        tokens: Tokens | None,
        text: TextConfig,
        data: DataConfig,
        *,
        seed: int,
        train: bool,
        rank: int = 0,
        world_size: int = 1,
        noise: CutSet | None = None,
        hiding: PretrainingConfig | None = None,
    ) -> None:
        usable, self.report = usable_cuts(cuts, tokens, text, data)
        self._cuts: list[Cut] = list(usable)
        self._data = data
        self._seed = seed
        self._train = train
        self._rank = rank
        self._world_size = world_size
        durations = [cut.duration for cut in self._cuts]
        weights = [float((getattr(cut, "custom", None) or {}).get(WEIGHT, 1)) for cut in self._cuts]
        self._planner = Planner(
            durations, data, seed=seed, train=train, world_size=world_size, weights=weights
        )
        noises = load_noise(noise, seed) if train and noise is not None else []
        self._maker = _Maker(self._cuts, tokens, data, seed, train, noises, hiding)

    @property
    def seconds(self) -> float:
        """Audio in one epoch, before speed perturbation."""
        return self.report.kept_seconds

    def batches(
        self, start: Position = Position()
    ) -> Generator[tuple[Batch, Position], None, None]:
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
        """What to make from ``start`` on; planning an epoch anew from its beginning is quick."""
        epoch, step = start.epoch, start.step - start.batch
        while True:
            for batch, planned in enumerate(self._planner.epoch(epoch, step), start=1):
                step += 1
                mine = planned.examples[self._rank :: self._world_size]
                if step > start.step and mine:
                    yield _Task(replace(planned, examples=mine), Position(epoch, batch, step))
            if not self._train:
                return
            epoch += 1


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
        tokens: Tokens | None,
        data: DataConfig,
        seed: int,
        train: bool,
        noises: list[Samples],
        hiding: PretrainingConfig | None,
    ) -> None:
        self._cuts = cuts
        self._tokens = tokens
        self._data = data
        self._seed = seed
        self._train = train
        self._noises = noises
        self._hiding = hiding

    def __getitem__(self, task: _Task) -> tuple[Batch, Position] | str:
        items = task.planned.examples
        examples = [[self._cuts[row] for row in item.rows] for item in items]
        try:
            made = [self._features(item, task) for item in items]
        except AudioError as error:
            return str(error)
        mels = [torch.from_numpy(mel) for mel, _ in made]
        texts = [_text(cuts) for cuts in examples]
        encode = self._tokens.encode if self._tokens else lambda _: []
        tokens = [torch.tensor(encode(text), dtype=torch.int64) for text in texts]
        frames = task.planned.mel_frames if self._train else 0
        batch = Batch(
            features=_padded(mels, frames),
            feature_lengths=torch.tensor([len(mel) for mel in mels]),
            tokens=_padded(tokens, _up_to(_TOKEN_GRID, tokens) if self._train else 0),
            token_lengths=torch.tensor([len(ids) for ids in tokens]),
            texts=texts,
            ids=["+".join(cut.id for cut in cuts) for cuts in examples],
            seconds=sum(seconds for _, seconds in made),
        )
        if self._hiding:
            batch = replace(batch, hidden=self._hide(batch, self._hiding, task))
        return batch, task.after

    def _hide(self, batch: Batch, hiding: PretrainingConfig, task: _Task) -> Hidden:
        rngs = [
            self._rng(f"hide {name}", item, task)
            for name, item in zip(batch.ids, task.planned.examples, strict=True)
        ]
        lengths = [encoder_frames(mels) for mels in batch.feature_lengths.tolist()]
        return hide(lengths, rngs, hiding, noisy=self._train)

    def _rng(self, name: str, item: Planned, task: _Task) -> np.random.Generator:
        """Random numbers that depend on neither the batch nor the process."""
        entropy = (self._seed, task.after.epoch, *_entropy(name))
        return np.random.default_rng((*entropy, item.turn) if item.turn else entropy)

    def _features(self, item: Planned, task: _Task) -> tuple[Mels, float]:
        """(M, 80) features of an example, disturbed if training, and its seconds."""
        cuts = [self._cuts[row] for row in item.rows]
        rng = self._rng(cuts[0].id, item, task)
        calm = task.after.step <= self._data.calm_steps
        spoken = [perturb_speed(load_samples(cut), item.speed) for cut in cuts]
        samples = join(spoken, item.pause_s, rng)
        if self._train and not calm:
            samples = self._disturbed(samples, rng)
        seconds = len(samples) / SAMPLE_RATE_HZ
        if self._train:
            samples = append_silence(samples, item.tail_s, rng)
        # Evaluation hears exactly what recognisers do; training, the same to rounding, but faster.
        mels = training_fbank(samples) if self._train else fbank(samples)
        if not np.isfinite(mels).all():
            names = ", ".join(f"{cut.id} ({source_of(cut)})" for cut in cuts)
            raise AudioError(f"{names}: NaN among the samples; prepare the corpus again")
        if self._train and not calm:
            heard = mel_frames(round(seconds * SAMPLE_RATE_HZ))
            mels[:heard] = mask_mels(mels[:heard], self._data, rng)
        return mels, seconds

    def _disturbed(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """(S,) samples after what happens to sound on its way: a room, noise, a line, a level."""
        data = self._data
        if data.room_probability and rng.random() < data.room_probability:
            samples = reverberate(samples, rng)
        if self._noises and rng.random() < data.noise_probability:
            noise = draw_noise(self._noises, len(samples), rng)
            samples = add_noise(samples, noise, rng.uniform(*data.noise_snr_db))
        if data.telephone_probability and rng.random() < data.telephone_probability:
            samples = telephone(samples, rng)
        if any(data.gain_db):
            samples = change_gain(samples, rng.uniform(*data.gain_db))
        return samples


def _padded(rows: list[Tensor], length: int) -> Tensor:
    """(B, N, ...) rows of up to N, N being ``length`` at least, padded with zeros."""
    whole = pad_sequence(rows, batch_first=True)
    missing = max(0, length - whole.shape[1])
    return pad(whole, (0, 0) * (whole.dim() - 2) + (0, missing))


def _up_to(grid: int, rows: list[Tensor]) -> int:
    """The longest row, rounded up to the ``grid``."""
    return -(-max(map(len, rows)) // grid) * grid


def _text(cuts: list[Cut]) -> str:
    return " ".join(s.text or "" for cut in cuts for s in cut.supervisions)


def _entropy(name: str) -> tuple[int, ...]:
    """Numbers that follow from a name in every process; Python's own hash does not."""
    digest = hashlib.sha256(name.encode()).digest()
    return tuple(int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4))


def _start_worker(_: int) -> None:
    # Ctrl-C reaches every process of the terminal; the trainer ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
