"""Live streams by the engine as a whole, compared with features and search in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dualmode.decoding.stream import Partial
from dualmode.decoding.transcript import Transcript, Word
from dualmode.errors import AudioError, DualmodeError
from dualmode.export.engine import export_engine
from dualmode.model.directory import load_model
from dualmode.recognizer import Recognizer, load
from dualmode.runtime import load_runtime
from dualmode.serving.client import CaptionClient
from dualmode.serving.lanes import CaptionGroup
from dualmode.serving.live_recognizer import (
    LiveModel,
    caption_group,
    device_in_engine,
    load_live,
)
from dualmode.serving.settings import Settings

from .conftest import SHORT

pytest.importorskip("dualmode_engine", reason="needs the engine: make engine")

Samples = npt.NDArray[np.float32]
Babble = Callable[..., Samples]
Event = dict[str, Any]


@pytest.fixture(scope="module")
def device(
    talkative_model: Path, recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory
) -> Recognizer:
    """Device of the talkative model in the engine, with calibrated confidences and fp32 weights:
    int8 would amplify the rounding errors by which two implementations of features differ."""
    loaded = load_model(talkative_model)
    path = tmp_path_factory.mktemp("live") / "device.dual"
    export_engine(loaded, loaded.device_subnet, path, weights="fp32")
    live = LiveModel(load_runtime(path), recognizer.model)
    decoding = live.recipe.decoding.model_copy(update={"confidence_slope": 0.7})
    live.recipe = live.recipe.model_copy(update={"decoding": decoding})
    return Recognizer(live)


def in_python(device: Recognizer) -> CaptionGroup:
    return device.stream_group("device", endpointing=SHORT, keep_finished=False)


def without_confidences(words: tuple[Word, ...]) -> list[tuple[Any, ...]]:
    return [(word.text, word.start_s, word.end_s) for word in words]


def confidences(found: Any) -> list[float]:
    return [word.confidence for words in found for word in words]


@dataclass
class Said:
    """What each step says of each stream before the streams end, and their last transcripts."""

    steps: list[Any] = field(default_factory=list)
    rest: list[Any] = field(default_factory=list)
    words: list[tuple[Word, ...]] = field(default_factory=list)

    def step(self, name: int, partial: Partial | None, done: bool) -> None:
        seen = None
        if partial is not None:
            self.words += [partial.words, *(one.words for one in partial.finished)]
            finished = [(without_confidences(one.words), one.seconds) for one in partial.finished]
            seen = without_confidences(partial.words), partial.stable, finished
        self.steps.append((name, seen, done))

    def end(self, transcript: Transcript) -> None:
        self.words.append(transcript.words)
        self.rest.append((without_confidences(transcript.words), transcript.seconds))


def run(group: CaptionGroup, audios: list[Samples], seed: int) -> Said:
    """Streams join at different times, get blocks of different lengths, and one is closed early."""
    rng = np.random.default_rng(seed)
    names: dict[int, int] = {}
    streams: list[Any] = []
    places = [0] * len(audios)
    said = Said()

    def drain() -> None:
        while moved := group.advance():
            for stream in moved:
                said.step(names[id(stream)], stream.partial(), stream.done)

    while len(streams) < len(audios) or any(
        p < len(a) for p, a in zip(places, audios, strict=True)
    ):
        if len(streams) < len(audios):
            streams.append(group.open())
            names[id(streams[-1])] = len(streams) - 1
        for number, stream in enumerate(streams):
            size = int(rng.integers(0, 9000))
            block = audios[number][places[number] : places[number] + size]
            places[number] += size
            if number == 1 and places[1] > 30000:
                stream.close()
            elif len(block):
                stream.push(block)
        drain()
    for number, stream in enumerate(streams):
        if number != 1:
            stream.end()
            while not stream.done:
                assert group.advance()
            said.end(stream.transcript())
    assert not group.advance()
    return said


@given(seed=st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_every_step_says_the_same(device: Recognizer, babble: Babble, seed: int) -> None:
    audios = [babble(seconds, seed + number) for number, seconds in enumerate((5.5, 4.0, 3.1))]
    audios[0][30000:45000] = 0
    audios.append(np.zeros(int(seed % 700), np.float32))
    found, expected = (
        run(group, audios, seed) for group in (caption_group(device, SHORT), in_python(device))
    )
    for one, other in zip(found.steps, expected.steps, strict=True):
        assert one == other
    assert found.rest == expected.rest
    np.testing.assert_allclose(
        confidences(found.words), confidences(expected.words), atol=1e-3, rtol=0
    )
    assert any(partial and partial[2] for _, partial, _ in found.steps), "no segment has ended"


def events_of(running: Any, samples: Samples) -> list[Event]:
    with CaptionClient(running.ws) as client:
        client.start()
        client.send(samples)
        client.finish()
        events = [event for event in client.events() if event["type"] != "partial"]
    return sorted(events, key=lambda event: str(event["type"]))  # each type is in order


def test_events_are_the_same(
    start_service: Callable[..., Any],
    recognizer: Recognizer,
    device: Recognizer,
    babble: Babble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Segments, the audio that server receives of them, and words with times and confidences."""
    samples = np.round(np.clip(babble(7.5, 4), -0.99, 0.99) * 32768).astype(np.int16)
    samples[40000:60000] = 0
    with start_service(recognizer, Settings(endpointing=SHORT), device) as running:
        found = events_of(running, samples)
    chosen: list[Recognizer] = []

    def python(speaking: Recognizer, endpointing: Any) -> CaptionGroup:
        chosen.append(speaking)
        return in_python(speaking)

    monkeypatch.setattr("dualmode.serving.models.caption_group", python)
    with start_service(recognizer, Settings(endpointing=SHORT), device) as running:
        expected = events_of(running, samples)
    assert chosen == [device]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        words, others = one.pop("words", []), other.pop("words", [])
        assert one == other
        for word, same in zip(words, others, strict=True):
            assert word.pop("confidence") == pytest.approx(same.pop("confidence"), abs=2e-3)
            assert word == same
    assert sum(event["type"] == "segment" for event in found) >= 2
    assert any(event["type"] == "revised" and event["text"] for event in found)


def test_what_cannot_be_pushed(device: Recognizer, babble: Babble) -> None:
    group = caption_group(device, SHORT)
    stream, other = group.open(), group.open()
    with pytest.raises(AudioError, match="NaN"):
        stream.push(np.full(400, np.nan, np.float32))
    with pytest.raises(DualmodeError, match="not done"):
        stream.transcript()
    other.close()
    with pytest.raises(DualmodeError, match="finished"):
        other.push(babble(0.1))
    stream.push(babble(0.3))
    stream.end()
    with pytest.raises(DualmodeError, match="finished"):
        stream.end()
    while not stream.done:
        assert list(group.advance()) == [stream]


@pytest.mark.parametrize(
    ("option", "engine"), [([], True), (["--live", "engine"], True), (["--live", "model"], False)]
)
def test_the_command_exports_device(
    talkative_model: Path, monkeypatch: pytest.MonkeyPatch, option: list[str], engine: bool
) -> None:
    from dualmode.cli import app
    from dualmode.serving.engine_group import EngineGroup
    from dualmode.serving.server import DrainingServer

    kinds = []

    def look(server: DrainingServer) -> None:
        for model in server._service.models:
            kinds.append(type(model.captions._group))
            model.stop()

    monkeypatch.setattr(DrainingServer, "run", look)
    monkeypatch.setattr("dualmode.serving.server.log_as_json", lambda: None)
    done = CliRunner().invoke(app, ["serve", str(talkative_model), *option])
    assert done.exit_code == 0, done.output
    assert [kind is EngineGroup for kind in kinds] == [engine]


def test_only_a_model_directory_has_a_device_to_export(device: Recognizer) -> None:
    assert device_in_engine(device) is None


def test_an_export_of_another_model(talkative_model: Path, tmp_path: Path) -> None:
    loaded = load_model(talkative_model)
    export_engine(loaded, loaded.device_subnet, tmp_path / "device.dual")
    with pytest.raises(DualmodeError, match="other tokens"):
        load_live(tmp_path / "device.dual", load("talk"))
