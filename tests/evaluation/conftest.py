"""Cuts of a few seconds with texts and, where asked for, the ends of their words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem


@pytest.fixture
def make_cut(
    tmp_path: Path, babble: Callable[..., npt.NDArray[np.float32]]
) -> Callable[..., MonoCut]:
    """Make a cut of babble with a text, and word ends if they are given."""

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
        soundfile.write(path, babble(seconds, seed=len(name)), 16000)
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
