"""Examples of a batch: samples read, disturbed and turned into features.

What is drawn for an example follows from (seed, epoch, cut id): neither the batch nor the process
changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lhotse.cut import Cut

from dualmode.audio import SAMPLE_RATE_HZ, Samples
from dualmode.config import DataConfig
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
from dualmode.data.left_out import UNREADABLE, Problem
from dualmode.data.loading import load_samples
from dualmode.data.planning import Planned
from dualmode.data.training_features import training_fbank
from dualmode.data.usable import source_of
from dualmode.errors import AudioError
from dualmode.features import Mels, fbank, mel_frames

_TRIES = 20  # utterances drawn to replace one that cannot be read


@dataclass(frozen=True)
class Example:
    """One example: ids of its cuts joined by +, (M, 80) features, the text, seconds of audio, and
    which repetition of its first cut in this epoch it is."""

    id: str
    mels: Mels
    text: str
    seconds: float
    turn: int


class Examples:
    """Makes examples of ``cuts``; ``train`` says whether they are disturbed."""

    def __init__(
        self, cuts: list[Cut], data: DataConfig, seed: int, train: bool, noises: list[Samples]
    ) -> None:
        self.train = train
        self._cuts = cuts
        self._data = data
        self._seed = seed
        self._noises = noises

    def make(
        self, items: Sequence[Planned], epoch: int, step: int
    ) -> tuple[list[Example], list[Problem]]:
        """The examples planned for a batch, and the problems of those that cannot be read, which
        are left out. If none is left, training gets another utterance, drawn at random."""
        made, problems = self._readable(items, epoch, step)
        if not made and self.train:
            names = "+".join(self._cuts[row].id for item in items for row in item.rows)
            rng = self.generator(f"instead of {names}", epoch, 0)
            for row in rng.integers(len(self._cuts), size=_TRIES).tolist():
                item = Planned((row,), 1.0, 0.0, self._cuts[row].duration)
                made, more = self._readable([item], epoch, step)
                problems += more
                if made:
                    break
        return made, problems

    def generator(self, name: str, epoch: int, turn: int) -> np.random.Generator:
        """Random numbers that depend on neither the batch nor the process."""
        entropy = (self._seed, epoch, *_entropy(name))
        return np.random.default_rng((*entropy, turn) if turn else entropy)

    def _readable(
        self, items: Sequence[Planned], epoch: int, step: int
    ) -> tuple[list[Example], list[Problem]]:
        made, problems = [], []
        for item in items:
            try:
                made.append(self._example(item, epoch, step))
            except _UnreadableError as error:
                problems.append(error.problem)
        return made, problems

    def _example(self, item: Planned, epoch: int, step: int) -> Example:
        """An example, disturbed if training. Raises _UnreadableError."""
        cuts = [self._cuts[row] for row in item.rows]
        rng = self.generator(cuts[0].id, epoch, item.turn)
        calm = step <= self._data.calm_steps
        spoken = [perturb_speed(_load(cut), item.speed) for cut in cuts]
        samples = join(spoken, item.pause_s, rng)
        if self.train and not calm:
            samples = self._disturbed(samples, rng)
        seconds = len(samples) / SAMPLE_RATE_HZ
        if self.train:
            samples = append_silence(samples, item.tail_s, rng)
        # Evaluation hears exactly what recognisers do; training, the same to rounding, but faster.
        mels = training_fbank(samples) if self.train else fbank(samples)
        if not np.isfinite(mels).all():  # samples are, so they are too large to be squared
            raise _UnreadableError(cuts[0], f"{cuts[0].id}: no sound: its samples are too large")
        if self.train and not calm:
            heard = mel_frames(round(seconds * SAMPLE_RATE_HZ))
            mels[:heard] = mask_mels(mels[:heard], self._data, rng)
        text = " ".join(s.text or "" for cut in cuts for s in cut.supervisions)
        return Example("+".join(cut.id for cut in cuts), mels, text, seconds, item.turn)

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


class _UnreadableError(Exception):
    def __init__(self, cut: Cut, why: str) -> None:
        super().__init__(why)
        self.problem = Problem(cut.id, source_of(cut), UNREADABLE, why)


def _load(cut: Cut) -> Samples:
    try:
        return load_samples(cut)
    except AudioError as error:
        raise _UnreadableError(cut, str(error)) from None


def _entropy(name: str) -> tuple[int, ...]:
    """Numbers that follow from a name in every process; Python's own hash does not."""
    digest = hashlib.sha256(name.encode()).digest()
    return tuple(int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4))
