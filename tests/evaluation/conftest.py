"""CutSets of a few seconds, and a recogniser that knows their text by heart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks so small lose more to waiting for a second thread than it computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_cut(tmp_path: Path) -> Callable[..., MonoCut]:
    """Make a cut of noise with a text, and word ends if they are given."""

    def make(
        name: str,
        text: str,
        seconds: float = 2.0,
        *,
        speaker: str = "",
        corpus: str = "",
        ends: list[float] | None = None,
    ) -> MonoCut:
        path = tmp_path / f"{name}.wav"
        rng = np.random.default_rng(len(name) + round(1000 * seconds))
        soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * 16000)), 16000)
        alignment = None
        if ends is not None:
            items = zip(text.split(), ends, strict=True)
            alignment = {"word": [AlignmentItem(w, round(e - 0.1, 3), 0.1) for w, e in items]}
        supervision = SupervisionSegment(
            id=name,
            recording_id=name,
            start=0.0,
            duration=seconds,
            text=text,
            speaker=speaker or None,
            custom={"corpus": corpus} if corpus else None,
            alignment=alignment,
        )
        recording = Recording.from_file(path, recording_id=name)
        return MonoCut(name, 0.0, seconds, 0, supervisions=[supervision], recording=recording)

    return make


@pytest.fixture
def cuts(make_cut: Callable[..., MonoCut]) -> CutSet:
    return CutSet.from_cuts(
        [
            make_cut("a", "One two", 2.0, speaker="x", corpus="north", ends=[0.5, 1.0]),
            make_cut("bb", "three four!", 3.0, speaker="y", corpus="south", ends=[0.5, 2.9]),
            make_cut("ccc", "one one two", 1.5, speaker="y", corpus="south", ends=[0.2, 0.4, 1.4]),
        ]
    )
