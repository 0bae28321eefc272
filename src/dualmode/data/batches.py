"""Batches of features and tokens: planned from a position, made in worker processes.

All random draws depend on (seed, epoch, cut id) alone, so a run that resumes from a
:class:`Position` continues with exactly the same batches.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from dualmode.config import DataConfig, PretrainingConfig, TextConfig
from dualmode.data.examples import Example, Examples
from dualmode.data.left_out import Problem
from dualmode.data.loading import load_noise
from dualmode.data.manifests import WEIGHT
from dualmode.data.phones import NO_PHONE, phone_targets
from dualmode.data.planning import PlannedBatch, Planner
from dualmode.data.spans import Hidden, hide
from dualmode.data.usable import confidence_of, usable_cuts
from dualmode.errors import AudioError, DataError, DualmodeError
from dualmode.features import Framing
from dualmode.text import Tokens

_PREFETCHED = 4  # batches per worker
_TOKEN_GRID = 8  # training pads tokens to a multiple of this, to limit the number of shapes


@dataclass(frozen=True)
class Batch:
    """A batch of examples; in training, an example may join several utterances.

    Attributes:
        features: (B, M, 80) float32 log-mels, zero-padded.
        feature_lengths: (B,) int64 mel frames.
        tokens: (B, U) int64, zero-padded.
        token_lengths: (B,) int64.
        texts: normalised transcripts.
        ids: cut ids.
        seconds: audio in the batch after speed perturbation, without padding.
        hidden: frames that pre-training masks; None in fine-tuning.
        phones: (B, T, G) int64 targets of the frames, NO_PHONE where there is none; None unless
            they are to be classified.
        unreadable: utterances that were planned for the batch but could not be read.
    """

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    texts: list[str]
    ids: list[str]
    seconds: float
    hidden: Hidden | None = None
    phones: Tensor | None = None
    unreadable: Sequence[Problem] = ()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        names = ("features", "feature_lengths", "tokens", "token_lengths")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        hidden = None if self.hidden is None else self.hidden.to(device)
        phones = None if self.phones is None else self.phones.to(device, non_blocking=True)
        return replace(self, **moved, hidden=hidden, phones=phones)


@dataclass(frozen=True)
class Position:
    """A position in the sequence of batches.

    Attributes:
        epoch: completed passes over the cuts.
        batch: completed batches of this epoch.
        step: completed batches of the whole run; the curriculum depends on it.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class _Task:
    """A planned batch for a worker to make, and the position after it."""

    planned: PlannedBatch
    after: Position


def hidden_of(batch: Batch) -> Hidden:
    """The masked frames of a batch.

    Raises:
        DataError: the batch was not made for pre-training.
    """
    if batch.hidden is None:
        raise DataError("the batch was not made for pre-training: it masks no frames")
    return batch.hidden


def phones_in(batch: Batch) -> Tensor:
    """The phones (B, T, G) of a batch.

    Raises:
        DataError: the batch was not made for classifying phones.
    """
    if batch.phones is None:
        raise DataError("the batch was not made for classifying phones: it has none")
    return batch.phones


class BatchSource:
    """Batches of a CutSet for one of ``world_size`` processes that share each global batch.

    Args:
        cuts: utterances; those that cannot be used are left out and listed in ``report``.
        tokens: vocabulary of the transcripts; None if only the audio is used.
        framing: of the encoder that the batches are for.
        train: shuffle, augment and repeat without end; otherwise one ordered pass.
        noise: CutSet of noise to mix in; at most an hour of it is held in memory.
        pretraining: settings of pre-training; None otherwise.

    Raises:
        DataError: no cut can be used, or the curriculum starts below the shortest cut.
    """

    def __init__(
        self,
        cuts: CutSet,
        tokens: Tokens | None,
        text: TextConfig,
        data: DataConfig,
        framing: Framing,
        *,
        seed: int,
        train: bool,
        rank: int = 0,
        world_size: int = 1,
        noise: CutSet | None = None,
        pretraining: PretrainingConfig | None = None,
    ) -> None:
        phones = pretraining is not None and pretraining.objective == "phones"
        usable, self.report = usable_cuts(cuts, tokens, text, data, framing, phones=phones)
        kept = list(usable)
        self._data = data
        self._seed = seed
        self._train = train
        self._rank = rank
        self._world_size = world_size
        durations = [cut.duration for cut in kept]
        weights = [_weight(cut, data.confidence_power) for cut in kept]
        self._planner = Planner(
            durations,
            data,
            seed=seed,
            train=train,
            world_size=world_size,
            framing=framing,
            weights=weights,
        )
        noises = load_noise(noise, seed, self.report) if train and noise is not None else []
        examples = Examples(kept, data, seed, train, noises)
        self._maker = _BatchMaker(examples, tokens, framing, pretraining)

    @property
    def seconds(self) -> float:
        """Audio in one epoch, before speed perturbation."""
        return self.report.kept_seconds

    def batches(
        self, start: Position = Position()
    ) -> Generator[tuple[Batch, Position], None, None]:
        """Yield the batches from ``start`` on, each with the position after it.

        Utterances that cannot be read are left out and listed with their batch. If none is left,
        training substitutes another utterance, so that every process has a batch in every step;
        evaluation skips the batch and adds its utterances to ``report``.

        Raises:
            AudioError: no utterance can be read any more.
            DualmodeError: a worker process was killed.
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
            # The loader draws a seed that is not used here; keep it off the global generator.
            generator=torch.Generator(),
        )
        for made in _until_killed(loader):
            if self._train and made.batch is None:
                raise AudioError(f"nothing can be read any more; {made.unreadable[-1].why}")
            if not self._train:
                self.report.leave_out_new(made.unreadable)
            if made.batch is not None:
                yield made.batch, made.after

    def _tasks(self, start: Position) -> Iterator[_Task]:
        """Tasks from ``start`` on. The epoch is planned again from its beginning, which is fast."""
        epoch, step = start.epoch, start.step - start.batch
        while True:
            for batch, planned in enumerate(self._planner.epoch(epoch, step), start=1):
                step += 1
                share = planned.examples[self._rank :: self._world_size]
                if step > start.step and share:
                    yield _Task(replace(planned, examples=share), Position(epoch, batch, step))
            if not self._train:
                return
            epoch += 1


class _Endless(Sampler[_Task]):
    """Wraps tasks as the sampler of a DataLoader."""

    def __init__(self, tasks: Iterator[_Task]) -> None:
        self._tasks = tasks

    def __iter__(self) -> Iterator[_Task]:
        return self._tasks


@dataclass(frozen=True)
class _Result:
    """Result of a task; ``batch`` is None if none of its utterances can be read."""

    batch: Batch | None
    after: Position
    unreadable: Sequence[Problem]


class _BatchMaker(Dataset[_Result]):
    """Makes batches, in worker processes."""

    def __init__(
        self,
        examples: Examples,
        tokens: Tokens | None,
        framing: Framing,
        pretraining: PretrainingConfig | None,
    ) -> None:
        self._examples = examples
        self._tokens = tokens
        self._framing = framing
        self._pretraining = pretraining

    def __getitem__(self, task: _Task) -> _Result:
        train, place = self._examples.train, task.after
        made, problems = self._examples.make(task.planned.examples, place.epoch, place.step)
        if not made:
            return _Result(None, place, problems)
        mels = [torch.from_numpy(example.mels) for example in made]
        texts = [example.text for example in made]
        encode = self._tokens.encode if self._tokens else lambda _: []
        tokens = [torch.tensor(encode(text), dtype=torch.int64) for text in texts]
        batch = Batch(
            features=_padded(mels, task.planned.mel_frames if train else 0),
            feature_lengths=torch.tensor([len(mel) for mel in mels]),
            tokens=_padded(tokens, _up_to(_TOKEN_GRID, tokens) if train else 0),
            token_lengths=torch.tensor([len(ids) for ids in tokens]),
            texts=texts,
            ids=[example.id for example in made],
            seconds=sum(example.seconds for example in made),
            unreadable=problems,
        )
        if self._pretraining and self._pretraining.objective == "phones":
            batch = replace(batch, phones=self._phones(made, batch, self._pretraining.phones))
        elif self._pretraining:
            batch = replace(batch, hidden=self._hide(made, self._pretraining, place.epoch))
        return _Result(batch, place, problems)

    def _phones(self, made: list[Example], batch: Batch, inventory: Sequence[str]) -> Tensor:
        frames = self._framing.frames(batch.features.shape[1])
        lengths = [self._framing.frames(len(example.mels)) for example in made]
        rows = [
            torch.from_numpy(phone_targets(example.phones, length, self._framing, inventory))
            for example, length in zip(made, lengths, strict=True)
        ]
        targets = torch.full((len(rows), frames, rows[0].shape[1]), NO_PHONE)
        for row, found in enumerate(rows):
            targets[row, : len(found)] = found
        return targets

    def _hide(self, made: list[Example], hiding: PretrainingConfig, epoch: int) -> Hidden:
        rngs = [
            self._examples.generator(f"hide {example.id}", epoch, example.turn) for example in made
        ]
        lengths = [self._framing.frames(len(example.mels)) for example in made]
        return hide(lengths, rngs, hiding, noisy=self._examples.train)


def _padded(rows: list[Tensor], length: int) -> Tensor:
    """Stack rows to (B, N, ...), zero-padded; N is the longest row but at least ``length``."""
    whole = pad_sequence(rows, batch_first=True)
    missing = max(0, length - whole.shape[1])
    return pad(whole, (0, 0) * (whole.dim() - 2) + (0, missing))


def _up_to(grid: int, rows: list[Tensor]) -> int:
    """Length of the longest row, rounded up to a multiple of ``grid``."""
    return -(-max(map(len, rows)) // grid) * grid


def _weight(cut: Cut, confidence_power: float) -> float:
    """Weight of a cut: that of its corpus, times its teacher's confidence to a power."""
    weight = float((getattr(cut, "custom", None) or {}).get(WEIGHT, 1))
    return weight * confidence_of(cut) ** confidence_power if confidence_power else weight


def _until_killed(loader: DataLoader[_Result]) -> Iterator[_Result]:
    """Results of a loader; if a worker is killed, raise an error that says what to do."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DualmodeError(
            "a process that reads data was killed, most often because memory ran out; "
            "--set data.workers=0 reads in the training process, which takes less memory"
        ) from None


def _start_worker(_: int) -> None:
    # Ctrl-C reaches every process of the terminal, but the trainer ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
