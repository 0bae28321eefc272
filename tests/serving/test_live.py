"""Live streams over the WebSocket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dualmode.audio import StreamResampler, to_mono_16khz
from dualmode.recognizer import Recognizer, load
from dualmode.serving import protocol
from dualmode.serving.client import CaptionClient, ServiceError
from dualmode.serving.settings import Limits, Settings

from .conftest import SHORT, Running, wait_until

Samples = npt.NDArray[np.float32]
Babble = Callable[..., Samples]
Event = dict[str, Any]


@pytest.fixture(scope="module")
def speech(babble: Babble) -> Samples:
    """Babble of three segments, in steps that 16 bits hold exactly."""
    samples = babble(5.5, 4)
    rounded: Samples = np.round(np.clip(samples, -0.99, 0.99) * 32768).astype(np.float32) / 32768
    return rounded


def stream(running: Running, samples: Samples, block: int = 4000, **options: Any) -> list[Event]:
    with CaptionClient(running.ws) as client:
        client.start(**options)
        for start in range(0, len(samples), block):
            client.send(samples[start : start + block])
        client.finish()
        return list(client.events())


def texts(events: list[Event], kind: str, name: str = "") -> list[str]:
    return [e["text"] for e in events if e["type"] == kind and e["stream"] == name]


def device_segments(recognizer: Recognizer, samples: Samples) -> list[str]:
    session = recognizer.stream("device", endpointing=SHORT, keep_finished=False)
    found = []
    for start in range(0, len(samples), 4000):
        partial = session.push(samples[start : start + 4000])
        found += [t.text for t in partial.finished] if partial else []
    rest = session.finish().text
    return [text for text in (*found, rest) if text]


def test_two_passes(running: Running, recognizer: Recognizer, speech: Samples) -> None:
    events = stream(running, speech)
    assert events[0]["type"] == "ready"
    assert events[0]["recognisers"] == ["device", "server"]
    assert events[-1] == {
        "type": "done", "stream": "", "seconds": round(len(speech) / 16000, 3),
        "segments": len(texts(events, "segment")),
    }  # fmt: skip
    assert texts(events, "segment") == device_segments(recognizer, speech)
    assert len(texts(events, "segment")) >= 2
    check_second_passes(events, recognizer, speech)


def test_two_passes_of_long_frames(
    start_service: Callable[..., Any], talkative_80ms: Path, speech: Samples
) -> None:
    recognizer = load(talkative_80ms)
    with start_service(recognizer) as running:
        events = stream(running, speech)
    assert (events[0]["chunk_ms"], events[0]["lookahead_ms"]) == (4 * 80, 2 * 80)
    # Segments without words are left out: this model also says tokens without text.
    said = [text for text in texts(events, "segment") if text]
    assert said == device_segments(recognizer, speech)
    check_second_passes(events, recognizer, speech)


def check_second_passes(events: list[Event], recognizer: Recognizer, speech: Samples) -> None:
    revised = [event for event in events if event["type"] == "revised"]
    assert [e["segment"] for e in revised] == list(range(len(revised)))
    for event in revised:
        span = slice(round(event["start"] * 16000), round(event["end"] * 16000))
        assert event["text"] == recognizer.transcribe(speech[span], "server").text
        starts = [word["start"] for word in event["words"]]
        assert starts == sorted(starts)
        for word in event["words"]:
            assert event["start"] <= word["start"] <= word["end"] <= event["end"] + 0.01
    assert any(event["text"] for event in revised)


def test_partials_grow_to_their_segment(running: Running, speech: Samples) -> None:
    events = stream(running, speech, block=1600)
    partials = [event for event in events if event["type"] == "partial"]
    assert partials
    last = {event["segment"]: event["text"] for event in partials}
    for number, text in enumerate(texts(events, "segment")):
        if number in last:
            assert text.startswith(last[number]) or last[number].startswith(text)
    for event in partials:
        assert 0 <= event["stable"] <= len(event["words"])


def test_without_revision(running: Running, speech: Samples) -> None:
    events = stream(running, speech, revise=False)
    assert texts(events, "segment")
    assert not texts(events, "revised")


def test_streams_of_a_connection_do_not_mix(
    running: Running, recognizer: Recognizer, speech: Samples, babble: Babble
) -> None:
    other = np.round(np.clip(babble(4.0, 11), -0.99, 0.99) * 32768).astype(np.float32) / 32768
    with CaptionClient(running.ws) as client:
        client.start("a")
        client.start("b")
        for start in range(0, max(len(speech), len(other)), 3200):
            for name, samples in (("a", speech), ("b", other)):
                if start < len(samples):
                    client.select(name)
                    client.send(samples[start : start + 3200])
        client.finish("b")
        client.finish("a")
        events = [*client.events("a")]
        if not any(e["type"] == "done" and e["stream"] == "b" for e in events):
            events += client.events("b")
    assert texts(events, "segment", "a") == device_segments(recognizer, speech)
    assert texts(events, "segment", "b") == device_segments(recognizer, other)


@pytest.mark.parametrize("rate_hz", [8000, 44100])
def test_other_rates(
    running: Running, recognizer: Recognizer, babble: Babble, rate_hz: int
) -> None:
    samples = np.round(babble(2.0, 3)[: rate_hz * 2] * 20000).astype(np.int16)
    events = stream(running, samples, sample_rate_hz=rate_hz)
    resampler = StreamResampler(rate_hz)
    floats = samples.astype(np.float32) / 32768
    heard = np.concatenate(
        [*(resampler.push(floats[i : i + 4000]) for i in range(0, len(floats), 4000)),
         resampler.finish()]
    )  # fmt: skip
    np.testing.assert_allclose(heard, to_mono_16khz(floats, rate_hz), atol=1e-5)
    assert texts(events, "segment") == device_segments(recognizer, heard)


START = json.dumps({"type": "start"})


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["hello"], protocol.BAD_MESSAGE),
        (["[1]"], protocol.BAD_MESSAGE),
        (['{"type": "sing"}'], protocol.BAD_MESSAGE),
        ([b"\0\0"], protocol.BAD_MESSAGE),
        ([START, b"\0\0\0"], protocol.BAD_MESSAGE),
        ([START, START], protocol.BAD_MESSAGE),
        ([START, "not audio"], protocol.BAD_MESSAGE),
        (['{"type": "start", "sample_rate_hz": 12}'], protocol.BAD_MESSAGE),
        (['{"type": "start", "sample_rate_hz": "16000"}'], protocol.BAD_MESSAGE),
        (['{"type": "start", "encoding": "mp3"}'], protocol.BAD_MESSAGE),
        (['{"type": "start", "model": "nobody"}'], protocol.BAD_MESSAGE),
        (['{"type": "select", "stream": "x"}'], protocol.BAD_MESSAGE),
        (['{"type": "finish"}'], protocol.BAD_MESSAGE),
        ([START, '{"type": "finish"}', b"\0\0"], protocol.BAD_MESSAGE),
        (
            ['{"type": "start", "encoding": "pcm_f32le"}', np.full(9, np.nan, "<f4").tobytes()],
            protocol.BAD_MESSAGE,
        ),
        (
            [f'{{"type": "start", "stream": "{n}"}}' for n in range(5)],
            protocol.TOO_MANY,
        ),
        ([START, bytes(1 << 21)], 1009),
    ],
)
def test_what_is_wrong_is_said(running: Running, messages: list[str | bytes], code: int) -> None:
    with connect(f"{running.ws}/v1/listen", compression=None, proxy=None) as socket:
        said: Event = {}
        closed = None
        try:
            for message in messages:
                socket.send(message)
            while True:
                event = json.loads(socket.recv(20))
                said = event if event["type"] == "error" else said
        except ConnectionClosed as failure:
            closed = failure.rcvd
        assert closed is not None
        assert closed.code == code
        if code != 1009:
            assert said["code"] == code
            assert said["message"]


def test_a_client_that_vanishes_costs_nothing(running: Running, speech: Samples) -> None:
    quiet = stream(running, speech)
    sockets = [connect(f"{running.ws}/v1/listen", compression=None, proxy=None) for _ in range(3)]
    for socket in sockets:
        socket.send(START)
        socket.send((speech[:16000] * 32768).astype("<i2").tobytes())
        socket.socket.close()
    assert texts(stream(running, speech), "segment") == texts(quiet, "segment")
    wait_until(lambda: running.metric("connections") == 0)
    wait_until(lambda: running.metric("streams") == 0)


def test_more_at_once_than_is_kept(
    start_service: Callable[..., Any], recognizer: Recognizer, speech: Samples
) -> None:
    """A client that sends faster than device hears is slowed down, and nothing is lost."""
    limits = Limits(waiting_seconds=0.5, waiting_segments=1)
    with start_service(recognizer, Settings(limits, endpointing=SHORT)) as running:
        events = stream(running, speech, block=len(speech))
        assert texts(events, "segment") == device_segments(recognizer, speech)


def test_limits(start_service: Callable[..., Any], recognizer: Recognizer, babble: Babble) -> None:
    limits = Limits(connections=1, stream_seconds=1.0, idle_s=0.5)
    with start_service(recognizer, Settings(limits, endpointing=SHORT)) as running:
        with pytest.raises(ServiceError) as failure:
            stream(running, babble(2.0))
        assert failure.value.code == protocol.TOO_LONG
        with CaptionClient(running.ws) as client:
            client.start()
            assert client.receive(20)["type"] == "ready"
            with pytest.raises(InvalidStatus) as refused:
                connect(f"{running.ws}/v1/listen", proxy=None)
            assert refused.value.response.status_code == 503
            with pytest.raises(ServiceError) as failure:
                client.receive(20)
            assert failure.value.code == protocol.IDLE


def test_draining_gives_the_last_words(
    start_service: Callable[..., Any], recognizer: Recognizer, babble: Babble
) -> None:
    samples = np.round(np.clip(babble(3.0, 4), -0.99, 0.99) * 32768).astype(np.int16)
    wanted = device_segments(recognizer, samples.astype(np.float32) / 32768)
    assert wanted
    with start_service(recognizer) as running, CaptionClient(running.ws) as client:
        client.start()
        client.send(samples)
        events = []
        while not any(event["type"] == "partial" for event in events):
            events.append(client.receive(20))
        wait_until(lambda: running.metric("audio_seconds_total", {"recogniser": "device"}) >= 3)
        running.run(running.service.drain())
        events += client.events()
        assert texts(events, "segment") == wanted
        assert texts(events, "revised")
        with pytest.raises(ServiceError) as failure:
            client.receive(20)
        assert failure.value.code == protocol.GOING_AWAY
        with pytest.raises(InvalidStatus):
            connect(f"{running.ws}/v1/listen", proxy=None)


def test_keys_and_origins(start_service: Callable[..., Any], recognizer: Recognizer) -> None:
    settings = Settings(endpointing=SHORT, keys=("secret",), origins=("https://page.example",))
    with start_service(recognizer, settings) as running:
        url = f"{running.ws}/v1/listen"
        with CaptionClient(running.ws, key="secret") as client:
            client.start()
            assert client.receive(20)["type"] == "ready"
        with connect(url, proxy=None) as socket:
            socket.send(json.dumps({"type": "start", "key": "secret"}))
            assert json.loads(socket.recv(20))["type"] == "ready"
        with CaptionClient(running.ws) as client:
            client.start()
            with pytest.raises(ServiceError) as failure:
                client.receive(20)
            assert failure.value.code == protocol.NO_KEY
        with pytest.raises(InvalidStatus):
            connect(url, additional_headers={"Authorization": "Bearer wrong"}, proxy=None)
        connect(url, origin="https://page.example", proxy=None).close()
        connect(url, origin=running.http, proxy=None).close()
        with pytest.raises(InvalidStatus) as refused:
            connect(url, origin="https://evil.example", proxy=None)
        assert refused.value.response.status_code == 403


def test_live_streams_by_another_recognizer(
    start_service: Callable[..., Any], talkative_model: Path, speech: Samples
) -> None:
    """Captions by a recogniser that holds device alone, second passes by the whole model."""
    device, whole = load(talkative_model), load(talkative_model)
    device.keep_only("device")
    with start_service(whole, Settings(endpointing=SHORT), device) as running:
        events = stream(running, speech)
    assert texts(events, "segment") == device_segments(whole, speech)
    assert any(texts(events, "revised"))
