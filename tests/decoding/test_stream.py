"""Streams: equal to the offline forward however they are cut, bounded, and strict about input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualmode.decoding.beam import BeamSearch
from dualmode.decoding.chunks import ChunkBuffer
from dualmode.decoding.greedy import GreedySearch
from dualmode.decoding.stream import (
    TAIL_S,
    Endpointing,
    StreamOptions,
    StreamSession,
    silence,
)
from dualmode.errors import AudioError, DualmodeError, SubnetError
from dualmode.features import OnlineFbank, fbank
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.runtime.pytorch import TorchRuntime

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICE = Subnet(ChunkedContext(4, 8, 2), 0.5)

subnets = st.builds(
    Subnet,
    st.builds(ChunkedContext, st.integers(1, 9), st.integers(0, 12), st.integers(0, 5)),
    st.sampled_from([0.0, 0.5]),
)


def offline_frames(net, subnet, samples):
    features = fbank(samples)[None]
    frames, lengths = TorchRuntime(net, subnet).encode(features, np.array([features.shape[1]]))
    return frames[0, : int(lengths[0])]


def session(net, vocabulary, subnet=DEVICE, *, search=None, **options):
    options.setdefault("endpointing", None)
    runtime = TorchRuntime(net, subnet)
    return StreamSession(
        runtime, search or GreedySearch(runtime), vocabulary, StreamOptions(**options)
    )


def push_in_cuts(stream, samples, cuts):
    partials, at = [], 0
    for cut in cuts:
        partials.append(stream.push(samples[at : at + cut]))
        at += cut
    partials.append(stream.push(samples[at:]))
    return [p for p in partials if p is not None]


@settings(max_examples=50, deadline=None)
@given(
    subnets,
    st.integers(0, 40_000),
    st.lists(st.integers(0, 9000), max_size=6),
    st.integers(),
    st.sampled_from([40, 80]),
)
def test_streamed_frames_equal_the_offline_forward(
    net, net_80ms, babble, subnet, length, cuts, seed, frame_ms
) -> None:
    net = {40: net, 80: net_80ms}[frame_ms]
    samples = babble(length / 16000, seed=abs(seed))
    expected = offline_frames(net, subnet, samples)
    runtime = TorchRuntime(net, subnet)
    buffer = ChunkBuffer(subnet.context, runtime.framing)
    online, rng = OnlineFbank(), np.random.default_rng(abs(seed))
    state, chunks, at = runtime.initial_state(1), [expected[:0]], 0
    for cut in [*cuts, length, None]:
        if cut is None:
            buffer.push(online.finish())
            buffer.end()
        else:
            buffer.push(online.push(samples[at : at + cut]))
            at += cut
        while buffer.ready:
            window = buffer.take(int(rng.integers(1, buffer.ready + 1)))
            count = np.array([window.existing])
            frames, state = runtime.step(window.mels[None], count, state)
            chunks.append(frames[0, : window.real])
    streamed = np.concatenate(chunks)
    assert streamed.shape == expected.shape
    assert np.allclose(streamed, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("search", "frame_ms"), [(GreedySearch, 40), (BeamSearch, 40), (GreedySearch, 80)]
)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=8))
def test_transcripts_do_not_depend_on_the_cuts(
    net, net_80ms, vocabulary, babble, search, frame_ms, cuts
) -> None:
    net = {40: net, 80: net_80ms}[frame_ms]
    samples = babble(4.0, seed=7)
    searcher = search(TorchRuntime(net, DEVICE))
    stream = session(net, vocabulary, search=searcher)
    push_in_cuts(stream, samples, cuts)
    streamed = stream.finish()

    padded = np.concatenate([samples, silence(TAIL_S)])
    frames = offline_frames(net, DEVICE, padded)[None]
    (whole,) = searcher.best(
        searcher.advance(searcher.start(1), frames, np.array([frames.shape[1]]))
    )
    assert [(t.id, t.frame) for t in streamed.tokens] == [(t.id, t.frame) for t in whole]
    assert len(streamed.words) > 3, "the tiny model must speak for this test to mean anything"
    assert streamed.seconds == 4.0
    assert all(0 <= w.start_s <= w.end_s <= 4.0 for w in streamed.words)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=8), beams=st.sampled_from([None, 3]))
def test_stable_words_stay_and_partials_lead_to_the_transcript(
    net, vocabulary, babble, cuts, beams
) -> None:
    search = BeamSearch(TorchRuntime(net, DEVICE), beams) if beams else None
    stream = session(net, vocabulary, search=search)
    partials = push_in_cuts(stream, babble(4.0, seed=9), cuts)
    final = [word.text for word in stream.finish().words]
    for partial in partials:
        assert [w.text for w in partial.words[: partial.stable]] == final[: partial.stable]
        assert partial.text == " ".join(w.text for w in partial.words)
    assert any(partial.stable > 0 for partial in partials)


def test_nothing_new_is_none_and_silence_costs_nothing(net, vocabulary) -> None:
    stream = session(net, vocabulary)
    assert stream.push(np.zeros(0, np.float32)) is None
    assert stream.push(np.zeros(100, np.float32)) is None
    assert session(net, vocabulary, tail_s=0.0).finish().text == ""


class Scheduled:
    """A model of endpoints: frames carry their number, and the scorer emits by it."""

    context_tokens = 1

    def __init__(self, tokens: dict[int, int]) -> None:
        self.tokens = tokens
        self.now = 0
        self.greedy = GreedySearch(self, max_symbols=1)

    def predict(self, context):
        return np.zeros((len(context), 1), np.float32)

    def score(self, frames, predictions):
        log_probs = np.full((len(frames), 12), -20.0)
        for row, number in enumerate(frames[:, 0].round().astype(int).tolist()):
            log_probs[row, self.tokens.get(number, 0)] = -0.1
        return log_probs

    def start(self, batch):
        return (0, self.greedy.start(batch))

    def advance(self, state, frames, lengths):
        count, inner = state
        numbers = np.arange(count, count + frames.shape[1], dtype=np.float32)
        ahead = self.greedy.advance(inner, numbers[None, :, None], lengths)
        return (count + frames.shape[1], ahead)

    def join(self, states):
        (state,) = states
        return state

    def split(self, state):
        return [state]

    def best(self, state):
        return self.greedy.best(state[1])

    def stable(self, state):
        return self.greedy.stable(state[1])

    confined = False

    def last_frames(self, state):
        return self.greedy.last_frames(state[1])

    def finish(self, state):
        return state

    def outcomes(self, state, count=1):
        return self.greedy.outcomes(state[1], count)

    def commit(self, state, tokens, restart=False):
        return (state[0], self.greedy.commit(state[1], tokens))


A, B, C, GO_ON = 2, 3, 4, 7  # words a, b, c; a letter that goes on with a word


def run_scheduled(net, vocabulary, babble, tokens, seconds, cuts, **endpointing):
    stream = session(
        net,
        vocabulary,
        search=Scheduled(tokens),
        endpointing=Endpointing(**endpointing),
        tail_s=0.0,
    )
    partials = push_in_cuts(stream, babble(seconds), cuts)
    return partials, stream


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 60_000), max_size=6))
def test_segments_end_after_silence_wherever_the_samples_are_cut(
    net, vocabulary, babble, cuts
) -> None:
    tokens = {5: A, 10: GO_ON, 60: B, 100: C}  # 2 s and 1.6 s between words
    partials, stream = run_scheduled(net, vocabulary, babble, tokens, 8.0, cuts, silence_s=1.8)
    segments = [s.text for p in partials for s in p.finished]
    assert segments == ["aa", "b c"]
    assert [w.start_s for w in stream.finish().words] == [0.2, 2.4, 4.0]


def test_times_and_silences_follow_the_length_of_a_frame(net_80ms, vocabulary, babble) -> None:
    """As above, on frames that last twice as long."""
    tokens = {3: A, 5: GO_ON, 30: B, 50: C}
    partials, stream = run_scheduled(net_80ms, vocabulary, babble, tokens, 8.0, [], silence_s=1.6)
    assert [s.text for p in partials for s in p.finished] == ["aa", "b c"]
    whole = stream.finish()
    assert [w.start_s for w in whole.words] == [0.24, 2.4, 4.0]
    assert [w.end_s for w in whole.words] == [0.48, 2.48, 4.08]


def test_the_last_word_is_not_stable_because_it_may_go_on(net, vocabulary, babble) -> None:
    tokens = {5: A, 40: GO_ON, 60: B}
    cuts = [16_000] * 3
    partials, stream = run_scheduled(net, vocabulary, babble, tokens, 4.0, cuts, silence_s=9.0)
    assert [(p.text, p.stable) for p in partials] == [("a", 0), ("aa", 0), ("aa b", 1)]
    assert stream.finish().text == "aa b"


def test_a_segment_that_is_too_long_is_cut_before_its_last_word(net, vocabulary, babble) -> None:
    tokens = {frame: A + (frame // 10) % 3 for frame in range(8, 290, 10)}
    tokens |= {101: GO_ON}  # the word of frame 98 goes on when the segment has been cut
    partials, stream = run_scheduled(
        net, vocabulary, babble, tokens, 12.0, [16_000] * 11, silence_s=1.2, longest_s=4.0
    )
    first, second = [s for p in partials for s in p.finished]
    assert len(first.words) == 9
    assert second.text.startswith("aa b c a")
    assert second.words[0].start_s == 98 * 0.04
    whole = stream.finish()
    assert whole.text.startswith(f"{first.text} {second.text}")
    assert len(whole.words) == 29


def test_a_stream_that_never_ends_has_bounded_memory(net, vocabulary, babble) -> None:
    search = BeamSearch(TorchRuntime(net, DEVICE), 3)
    stream = session(
        net,
        vocabulary,
        search=search,
        endpointing=Endpointing(silence_s=0.5, longest_s=2.0),
        keep_finished=False,
    )
    sizes = []
    for second in range(24):
        stream.push(babble(1.0, seed=second))
        past = stream._past
        sizes.append(len(search.best(past.hypotheses)[0]) + len(past._kept))
    assert max(sizes[12:]) <= max(sizes[:12]) + 10
    assert max(sizes) < 2 * 50 + 50
    assert len(stream._past.buffer) <= TorchRuntime(net, DEVICE).framing.mels_read(
        DEVICE.context.window
    )


def test_full_context_cannot_stream(net, vocabulary) -> None:
    with pytest.raises(SubnetError, match="stream with device"):
        session(net, vocabulary, SERVER)
    with pytest.raises(SubnetError, match=r"0\.5"):
        session(net, vocabulary, Subnet(DEVICE.context, 0.9))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 100), np.float32), "one row"),
        (np.zeros(100, np.int32), "floats in"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.array([np.inf], np.float32), "NaN or infinity"),
    ],
)
def test_bad_samples_are_refused_and_leave_the_stream_as_it_was(
    net, vocabulary, babble, samples, message
) -> None:
    stream, spared = session(net, vocabulary), session(net, vocabulary)
    for s in (stream, spared):
        s.push(babble(1.0))
    with pytest.raises(AudioError, match=message):
        stream.push(samples)
    for s in (stream, spared):
        s.push(babble(1.0, seed=1))
    assert stream.finish() == spared.finish()


def test_a_finished_stream_says_so(net, vocabulary) -> None:
    stream = session(net, vocabulary)
    stream.finish()
    with pytest.raises(DualmodeError, match="cannot push"):
        stream.push(np.zeros(10, np.float32))
    with pytest.raises(DualmodeError, match="cannot finish"):
        stream.finish()


PAUSES = [0.0, 0.2, 0.4, 0.8, 1.0, 1.2, 1.4, 2.0]


@pytest.mark.parametrize("keep_finished", [True, False])
@pytest.mark.parametrize("pause_s", PAUSES)
@pytest.mark.parametrize("push_s", [0.08, 0.5, 9.0])
def test_no_word_is_lost_at_the_end(
    net, vocabulary, babble, pause_s, push_s, keep_finished
) -> None:
    """Whatever pause precedes the end, segments and transcript together hold every word."""
    tokens = {5: A, 40: B, 50: C}  # the last word at 2 s
    stream = session(
        net,
        vocabulary,
        search=Scheduled(tokens),
        endpointing=Endpointing(silence_s=0.8),
        keep_finished=keep_finished,
    )
    samples = babble(2.1 + pause_s)
    size = round(push_s * 16000)
    partials = push_in_cuts(stream, samples, [size] * (len(samples) // size))
    segments = [s.text for p in partials for s in p.finished]
    rest = stream.finish().text
    if keep_finished:
        assert rest == "a b c"
    else:
        assert " ".join(filter(None, [*segments, rest])) == "a b c"
