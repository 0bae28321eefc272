"""Examples of a batch: audio read, augmented and converted to features.

The random draws of an example depend on (seed, epoch, cut id), not on its batch or process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

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
from dualmode.data.phones import Phone, phones_of
from dualmode.data.planning import Planned
from dualmode.data.training_features import training_fbank
from dualmode.data.usable import source_of
from dualmode.errors import AudioError
from dualmode.features import Mels, fbank, mel_frames

_TRIES = 20  # utterances tried as a substitute for one that cannot be read


@dataclass(frozen=True)
class Example:
    """One example: ids of its cuts joined by +, (M, 80) features, text, seconds of audio, the
    number of earlier repetitions of its first cut in this epoch, and its phones if they are
    known."""

    id: str
    mels: Mels
    text: str
    seconds: float
    turn: int
    phones: list[Phone]


class Examples:
    """Makes examples of ``cuts``, augmented if ``train``."""

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
        """Make the examples planned for a batch, and list the problems of those that cannot be
        read. If none can be read, training substitutes a random utterance."""
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
        """A random generator that does not depend on the batch or the process."""
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
        """One example, augmented in training. Raises _UnreadableError."""
        cuts = [self._cuts[row] for row in item.rows]
        rng = self.generator(cuts[0].id, epoch, item.turn)
        calm = step <= self._data.calm_steps
        spoken = [perturb_speed(_load(cut), item.speed) for cut in cuts]
        samples = join(spoken, item.pause_s, rng)
        if self.train and not calm:
            samples = self._augmented(samples, rng)
        seconds = len(samples) / SAMPLE_RATE_HZ
        if self.train:
            samples = append_silence(samples, item.tail_s, rng)
        # Evaluation computes the features of recognition; training has a faster approximation.
        mels = training_fbank(samples) if self.train else fbank(samples)
        if not np.isfinite(mels).all():  # the samples are finite, but overflow when squared
            raise _UnreadableError(cuts[0], f"{cuts[0].id}: no sound: its samples are too large")
        if self.train and not calm:
            spoken_mels = mel_frames(round(seconds * SAMPLE_RATE_HZ))
            mels[:spoken_mels] = mask_mels(mels[:spoken_mels], self._data, rng)
        text = " ".join(s.text or "" for cut in cuts for s in cut.supervisions)
        starts_s = _starts_s(spoken, item.pause_s)
        phones = [
            phone
            for cut, start_s in zip(cuts, starts_s, strict=True)
            for phone in phones_of(cut, item.speed, start_s)
        ]
        return Example("+".join(cut.id for cut in cuts), mels, text, seconds, item.turn, phones)

    def _augmented(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Apply reverberation, noise, a telephone line and a gain to (S,) samples, at random."""
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


def _starts_s(spoken: Sequence[Samples], pause_s: float) -> list[float]:
    """Where each utterance begins in what :func:`join` makes of them."""
    lengths_s = [len(samples) / SAMPLE_RATE_HZ + pause_s for samples in spoken]
    return list(accumulate(lengths_s[:-1], initial=0.0))


def _load(cut: Cut) -> Samples:
    try:
        return load_samples(cut)
    except AudioError as error:
        raise _UnreadableError(cut, str(error)) from None


def _entropy(name: str) -> tuple[int, ...]:
    """A hash of a name that is the same in every process, unlike Python's own."""
    digest = hashlib.sha256(name.encode()).digest()
    return tuple(int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4))
