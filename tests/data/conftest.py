"""Small corpora of noise bursts that are told apart by their samples, not by their words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from dualmode.config import TextConfig
from dualmode.text import Tokens, train_tokens

WORDS = "open the door now", "call anna", "nine five two", "turn off the light", "stop"
MakeCut = Callable[..., MonoCut]


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    config = TextConfig(vocabulary_size=60)
    return train_tokens(WORDS * 3, config, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def make_cut(tmp_path_factory: pytest.TempPathFactory) -> MakeCut:
    """Make a cut of noise in a WAV file: (id, seconds, text, rate, channels)."""
    folder = tmp_path_factory.mktemp("bursts")

    def make(
        name: str,
        seconds: float = 1.0,
        text: str | None = "stop",
        sample_rate_hz: int = 16000,
        channels: int = 1,
    ) -> MonoCut:
        rng = np.random.default_rng(list(name.encode()))
        path = folder / f"{name}-{seconds}-{sample_rate_hz}-{channels}.wav"
        frames = round(seconds * sample_rate_hz)
        soundfile.write(path, rng.normal(0, 0.1, (frames, channels)), sample_rate_hz)
        recording = Recording.from_file(path, recording_id=name)
        cut = recording.to_cut()
        cut.id = name
        cut.supervisions = [
            SupervisionSegment(name, name, 0.0, cut.duration, channel=cut.channel, text=text)
        ]
        return cut

    return make


@pytest.fixture(scope="session")
def cuts(make_cut: MakeCut) -> CutSet:
    """Forty cuts of 1.4 to 3 seconds in no order."""
    seconds = np.random.default_rng(5).uniform(1.4, 3.0, 40).round(3)
    return CutSet.from_cuts(
        make_cut(f"cut-{n}", float(s), WORDS[n % len(WORDS)]) for n, s in enumerate(seconds)
    )


@pytest.fixture(scope="session")
def noise(make_cut: MakeCut) -> CutSet:
    return CutSet.from_cuts(make_cut(f"noise-{n}", 0.7 + n, None) for n in range(3))
