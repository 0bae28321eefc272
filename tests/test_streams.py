"""A group of live streams gives each what a session of its own would, whoever else is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.decoding.search import SearchName
from dualmode.decoding.stream import Endpointing, StreamOptions
from dualmode.decoding.transcript import Transcript
from dualmode.errors import AudioError, DualmodeError, SubnetError
from dualmode.recognizer import Recognizer, load
from dualmode.runtime.pytorch import TorchRuntime
from dualmode.streams import StreamGroup

pytestmark = pytest.mark.usefixtures("one_thread")

Samples = npt.NDArray[np.float32]
ENDPOINTING = Endpointing(silence_s=0.4, longest_s=2.0)


@pytest.fixture(scope="module")
def rec(talkative_model: Path) -> Recognizer:
    return load(talkative_model)


@pytest.fixture(scope="module")
def recognizers(rec: Recognizer, talkative_80ms: Path) -> dict[int, Recognizer]:
    """By the length of a frame."""
    return {40: rec, 80: load(talkative_80ms)}


def shape(*transcripts: Transcript) -> list[tuple[int, int]]:
    return [(t.id, t.frame) for transcript in transcripts for t in transcript.tokens]


def drain(group: StreamGroup) -> None:
    while group.advance():
        pass


@pytest.mark.parametrize(("search", "frame_ms"), [("greedy", 40), ("beam", 40), ("greedy", 80)])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_random_arrivals_give_what_single_sessions_give(
    recognizers: dict[int, Recognizer],
    babble: Callable[..., Samples],
    search: SearchName,
    frame_ms: int,
    seed: int,
) -> None:
    """Streams join at any time, push any number of samples at any time, and end at any time."""
    rec = recognizers[frame_ms]
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.0, 2.5, size=rng.integers(1, 5))
    audios = [babble(float(s), seed=seed + row) for row, s in enumerate(lengths)]
    group = rec.stream_group(
        search=search, endpointing=ENDPOINTING, largest_batch=int(rng.integers(1, 5))
    )
    live: dict[int, object] = {}
    at, waiting, segments = [0] * len(audios), list(range(len(audios))), {}
    streams = {}
    while waiting or live:
        if waiting and (not live or rng.random() < 0.3):
            row = waiting.pop()
            streams[row], live[row], segments[row] = group.open(), True, []
        row = int(rng.choice(list(live)))
        size = int(rng.integers(0, 20_000))
        streams[row].push(audios[row][at[row] : at[row] + size])
        at[row] += size
        if at[row] >= len(audios[row]):
            streams[row].end()
            del live[row]
        for _ in range(int(rng.integers(0, 3))):
            group.advance()
            for other, stream in streams.items():
                partial = stream.partial()
                segments[other] += partial.finished if partial else ()
    drain(group)
    assert len(group) == 0
    for row, samples in enumerate(audios):
        session = rec.stream(search=search, endpointing=ENDPOINTING)
        partial = session.push(samples)
        expected = session.finish()
        found = streams[row].transcript()
        assert shape(found) == shape(expected)
        assert found.text == expected.text
        assert found.seconds == expected.seconds
        last = streams[row].partial()
        segments[row] += last.finished if last else ()
        assert shape(*segments[row]) == shape(*(partial.finished if partial else ()))


def test_streams_advance_in_one_batch(
    rec: Recognizer, babble: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = TorchRuntime.step

    def spy(self, mels, counts, state):
        sizes.append(len(mels))
        return step(self, mels, counts, state)

    monkeypatch.setattr(TorchRuntime, "step", spy)
    group = rec.stream_group(largest_batch=4)
    streams = [group.open() for _ in range(6)]
    for seed, stream in enumerate(streams):
        stream.push(babble(0.35, seed=seed))  # one chunk each
    drain(group)
    assert sizes == [4, 2]
    streams[0].push(babble(0.2))
    group.open()
    assert group.advance() == [streams[0]]


def test_none_starves_while_another_has_much_to_hear(
    rec: Recognizer, babble: Callable[..., Samples]
) -> None:
    group = rec.stream_group(largest_batch=1)
    bulk, live = group.open(), group.open()
    bulk.push(babble(60.0))
    live.push(babble(0.35, seed=1))
    moved = [stream for _ in range(2) for stream in group.advance()]
    assert live in moved


def test_partials_wait_until_they_are_taken(
    rec: Recognizer, babble: Callable[..., Samples]
) -> None:
    group = rec.stream_group(endpointing=ENDPOINTING, keep_finished=False)
    stream = group.open()
    segments = []
    for second in range(4):
        stream.push(babble(1.0, seed=second))
        drain(group)
    partial = stream.partial()
    assert partial is not None
    assert stream.partial() is None
    segments += partial.finished
    stream.end()
    drain(group)
    whole = rec.stream(endpointing=ENDPOINTING)
    for second in range(4):
        whole.push(babble(1.0, seed=second))
    assert len(segments) > 1
    assert shape(*segments, stream.transcript()) == shape(whole.finish())


def test_streams_have_options_of_their_own(rec: Recognizer, babble: Callable[..., Samples]) -> None:
    group = rec.stream_group(endpointing=None)
    plain, cut = group.open(), group.open(StreamOptions(ENDPOINTING))
    for stream in (plain, cut):
        stream.push(babble(5.0))
    drain(group)
    plain_partial, cut_partial = plain.partial(), cut.partial()
    assert plain_partial is not None
    assert not plain_partial.finished
    assert cut_partial is not None
    assert cut_partial.finished


def test_what_cannot_be_done_is_said(rec: Recognizer, babble: Callable[..., Samples]) -> None:
    group = rec.stream_group()
    stream, gone = group.open(), group.open()
    stream.push(babble(1.0))
    with pytest.raises(AudioError, match="NaN"):
        stream.push(np.full(10, np.nan, np.float32))
    with pytest.raises(DualmodeError, match="not done"):
        stream.transcript()
    stream.end()
    with pytest.raises(DualmodeError, match="cannot push"):
        stream.push(babble(1.0))
    with pytest.raises(DualmodeError, match="not done"):
        stream.transcript()
    gone.push(babble(9.0))
    gone.close()
    drain(group)
    assert len(group) == 0
    assert stream.transcript().seconds == 1.0
    with pytest.raises(SubnetError, match="stream with device"):
        rec.stream_group("server")
    with pytest.raises(ValueError, match="largest_batch"):
        rec.stream_group(largest_batch=0)
