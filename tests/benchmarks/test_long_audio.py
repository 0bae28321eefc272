"""Recordings joined from utterances hold each of them once, and are counted like them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dualmode
from benchmarks.long_audio import count, join
from dualmode.evaluation.wer import word_errors

Babble = Callable[..., np.ndarray]


def test_each_utterance_is_in_one_recording(babble: Babble) -> None:
    seconds = (1.0, 2.5, 0.5, 3.0, 1.0)
    utterances = [(babble(s, seed=n), f"text {n}") for n, s in enumerate(seconds)]
    for (samples, text), (same, again) in zip(utterances, join(utterances, 0.0, 0.3), strict=True):
        assert np.array_equal(samples, same)
        assert text == again
    joined = list(join(utterances, 3.0, 0.3))
    assert [text for _, text in joined] == ["text 0 text 1", "text 2 text 3", "text 4"]
    assert [len(samples) / 16000 for samples, _ in joined] == pytest.approx([3.8, 3.8, 1.0])
    first, pause = joined[0][0], round(0.3 * 16000)
    assert np.array_equal(first[:16000], utterances[0][0])
    assert not first[16000 : 16000 + pause].any()
    assert np.array_equal(first[16000 + pause :], utterances[1][0])


@pytest.mark.parametrize("name", ["server", "device"])
def test_one_at_a_time_is_what_transcribing_gives(
    name: str, talkative_model: Path, babble: Babble
) -> None:
    recognizer = dualmode.load(talkative_model)
    recordings = [(babble(2.0, seed=n), "one two three") for n in range(3)]
    texts = [recognizer.transcribe(samples, name).text for samples, _ in recordings]
    expected = word_errors(["one two three"] * 3, texts)
    assert count(recognizer, name, recordings).errors.tolist() == expected.errors.tolist()
    assert any(texts)
