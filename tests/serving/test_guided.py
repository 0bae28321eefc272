"""Phrases, hotwords and the written form over the WebSocket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from websockets.sync.client import connect

from dualmode.recognizer import Recognizer
from dualmode.serving import protocol
from dualmode.serving.client import CaptionClient, ServiceError
from dualmode.serving.live_recognizer import device_in_engine
from dualmode.serving.settings import Settings

from .conftest import SHORT, Running, wait_until

Samples = npt.NDArray[np.float32]
Babble = Callable[..., Samples]
Event = dict[str, Any]

PHRASES = ["one", "two three", "seven {digit} five"]
LOWEST = -1e30  # a threshold that accepts every phrase


@pytest.fixture(scope="module")
def speech(babble: Babble) -> Samples:
    """Babble with a pause, in steps that 16 bits hold exactly."""
    samples = babble(5.5, 4)
    samples[30000:50000] = 0
    rounded: Samples = np.round(np.clip(samples, -0.99, 0.99) * 32768).astype(np.float32) / 32768
    return rounded


def stream(running: Running, samples: Samples, **options: Any) -> list[Event]:
    with CaptionClient(running.ws) as client:
        client.start(**options)
        for start in range(0, len(samples), 4000):
            client.send(samples[start : start + 4000])
        client.finish()
        return list(client.events())


def texts(events: list[Event], kind: str) -> list[str]:
    return [event["text"] for event in events if event["type"] == kind]


def segments(recognizer: Recognizer, samples: Samples, **guidance: Any) -> list[tuple[str, bool]]:
    """Texts of the segments of a session, and whether they are none of the phrases."""
    session = recognizer.stream("device", endpointing=SHORT, keep_finished=False, **guidance)
    found = []
    for start in range(0, len(samples), 4000):
        partial = session.push(samples[start : start + 4000])
        found += partial.finished if partial else []
    found.append(session.finish())
    return [(one.text, one.rejected) for one in found if one.words or one.rejected]


@pytest.mark.parametrize(
    "guidance",
    [
        {"phrases": PHRASES, "threshold": LOWEST},
        {"phrases": PHRASES, "threshold": 0.0},
        {"hotwords": {"the": 8.0, "zebra": -3.0}},
        {"hotwords": ["the", "zebra"]},
    ],
)
def test_streams_know_what_the_client_says(
    running: Running, recognizer: Recognizer, speech: Samples, guidance: dict[str, Any]
) -> None:
    events = stream(running, speech, **guidance)
    found = [event for event in events if event["type"] == "segment"]
    expected = segments(recognizer, speech, **guidance)
    assert [(event["text"], event.get("rejected", False)) for event in found] == expected
    assert found
    revised = [event for event in events if event["type"] == "revised"]
    assert [event["segment"] for event in revised] == [event["segment"] for event in found]
    for event in revised:
        span = slice(round(event["start"] * 16000), round(event["end"] * 16000))
        whole = recognizer.transcribe(speech[span], "server", **guidance)
        assert (event["text"], event.get("rejected", False)) == (whole.text, whole.rejected)
    if guidance.get("threshold") == 0.0:
        assert all(event["rejected"] and not event["words"] for event in found)


def test_two_streams_with_different_phrases(
    running: Running, recognizer: Recognizer, speech: Samples
) -> None:
    with CaptionClient(running.ws) as client:
        for name, phrases in (("a", ["one"]), ("b", ["two three"]), ("c", None)):
            client.start(name, phrases=phrases, threshold=LOWEST if phrases else None)
        for start in range(0, len(speech), 4000):
            for name in "abc":
                client.select(name)
                client.send(speech[start : start + 4000])
        for name in "abc":
            client.finish(name)
        events: list[Event] = []
        while sum(event["type"] == "done" for event in events) < 3:
            events.append(client.receive(60))
    for name, phrase in (("a", "one"), ("b", "two three")):
        said = [e for e in events if e["stream"] == name and e["type"] == "segment"]
        found = [(event["text"], event.get("rejected", False)) for event in said]
        assert (phrase, False) in found
        assert found == segments(recognizer, speech, phrases=[phrase], threshold=LOWEST)
    free = [e["text"] for e in events if e["stream"] == "c" and e["type"] == "segment"]
    assert [(text, False) for text in free] == segments(recognizer, speech)
    (model,) = running.service.models
    wait_until(lambda: not model.captions._guided)


def test_the_engine_for_the_others(
    start_service: Callable[..., Any], recognizer: Recognizer, speech: Samples
) -> None:
    """An artifact has no tokeniser: guided streams use that of the model."""
    pytest.importorskip("dualmode_engine", reason="needs the engine: make engine")
    device = device_in_engine(recognizer)
    assert device is not None
    with start_service(recognizer, Settings(endpointing=SHORT), device) as running:
        found = stream(running, speech, phrases=PHRASES, threshold=LOWEST)
        free = stream(running, speech)
    expected = segments(device, speech, phrases=PHRASES, threshold=LOWEST)
    assert texts(found, "segment") == [text for text, _ in expected]
    assert texts(free, "segment")


def test_written_form(running: Running, recognizer: Recognizer, speech: Samples) -> None:
    guidance: dict[str, Any] = {"phrases": ["twenty two"], "threshold": LOWEST}
    events = stream(running, speech, written=True, **guidance)
    said = [event for event in events if event["type"] in ("segment", "revised")]
    forms = {(event["text"], event["written"]) for event in said}
    assert ("twenty two", "22") in forms
    assert forms <= {("twenty two", "22"), ("", "")}
    assert not any("written" in event for event in stream(running, speech, **guidance))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"phrases": "one"}, "list of strings"),
        ({"phrases": "/etc/passwd"}, "list of strings"),
        ({"phrases": []}, "empty"),
        ({"phrases": [7]}, "strings of at most"),
        ({"phrases": ["one"] * 1001}, "at most 1000 phrases"),
        ({"phrases": ["a" * 201]}, "at most 200 characters"),
        ({"phrases": ["---"]}, "no words"),
        ({"phrases": ["{x}", "x = {x} one"]}, "recursive"),
        ({"phrases": ["{x9}", "x0 = one | two"]
          + [f"x{n} = {{x{n - 1}}} {{x{n - 1}}} {{x{n - 1}}} {{x{n - 1}}}" for n in range(1, 10)]},
         "too large"),
        ({"phrases": ["{x900}", "x0 = one"] + [f"x{n} = {{x{n - 1}}}" for n in range(1, 901)]},
         "nested too deeply"),
        ({"phrases": ["one"], "threshold": 0.5}, "threshold"),
        ({"threshold": -1.0}, "needs phrases"),
        ({"hotwords": {}}, "no hotwords"),
        ({"hotwords": ["one", "one"]}, "twice"),
        ({"hotwords": {"one": float("nan")}}, "strength"),
        ({"hotwords": {"one": True}}, "strength"),
        ({"hotwords": {"one": 21}}, "strength"),
        ({"hotwords": ["one"] * 501}, "at most 500 hotwords"),
        ({"hotwords": 3}, "hotwords"),
        ({"written": 1}, "written"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_any_audio(
    running: Running, fields: dict[str, Any], complaint: str
) -> None:
    with connect(f"{running.ws}/v1/listen", compression=None, proxy=None) as socket:
        socket.send(json.dumps({"type": "start", **fields}))
        said = json.loads(socket.recv(60))
    assert said["type"] == "error"
    assert said["code"] == protocol.BAD_MESSAGE
    assert complaint in said["message"]


def test_a_model_without_a_tokeniser(
    start_service: Callable[..., Any], talkative_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("dualmode_engine", reason="needs the engine: make engine")
    from dualmode.export.engine import export_engine
    from dualmode.model.directory import load_model
    from dualmode.recognizer import load

    loaded = load_model(talkative_model)
    export_engine(loaded, loaded.device_subnet, tmp_path / "device.dual")
    with (
        start_service(load(tmp_path / "device.dual")) as running,
        CaptionClient(running.ws) as client,
    ):
        client.start(hotwords=["the"])
        with pytest.raises(ServiceError, match="cannot encode text"):
            client.receive(60)


def test_a_client_that_leaves_before_its_stream_is_open(running: Running) -> None:
    """The thread of captions lives on, and no stream remains in its group."""
    (model,) = running.service.models
    lane = model.captions
    blocked = threading.Event()
    lane._commands.put(lambda: blocked.wait(60) and None)
    opened = lane.open(lambda progress: None)
    assert opened.cancel()
    blocked.set()
    other = lane.open(lambda progress: None).result(60)
    assert len(lane._group) == 1
    lane.close(other)
    wait_until(lambda: not lane._listeners)
