"""The HTTP endpoints, through OpenAI's own client where it has a call for it."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from dualmode.audio import read_audio
from dualmode.decoding.formats import to_srt, to_vtt
from dualmode.recognizer import Recognizer
from dualmode.serving.settings import Limits, Settings

from .conftest import Running, wait_until

openai = pytest.importorskip("openai", reason="needs the package openai")

Babble = Callable[..., npt.NDArray[np.float32]]


def client_of(running: Running, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{running.http}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[Any]:
    with client_of(running) as client:
        yield client


@pytest.fixture(scope="module")
def recording(babble: Babble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough for two pieces of server."""
    path = tmp_path_factory.mktemp("recording") / "talk.flac"
    soundfile.write(path, babble(32.0, 5), 16000)
    return path


def test_models(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["device", "server", "babbler/device", "babbler/server"]


@pytest.mark.parametrize("which", ["server", "device", "babbler/server"])
def test_text_is_the_recognizers(
    client: Any, recognizer: Recognizer, recording: Path, which: str
) -> None:
    wanted = recognizer.transcribe(recording, which.rpartition("/")[2])
    found = client.audio.transcriptions.create(model=which, file=recording)
    assert found.text == wanted.text
    assert len(wanted.words) > 3


def test_formats(client: Any, recognizer: Recognizer, recording: Path) -> None:
    wanted = recognizer.transcribe(recording, "server")

    def ask(kind: str) -> Any:
        return client.audio.transcriptions.create(
            model="server", file=recording, response_format=kind
        )

    assert ask("text").strip() == wanted.text
    assert ask("srt") == to_srt(wanted)
    assert ask("vtt") == to_vtt(wanted)


def test_verbose_json(client: Any, recognizer: Recognizer, recording: Path) -> None:
    wanted = recognizer.transcribe(recording, "server")
    found = client.audio.transcriptions.create(
        model="server",
        file=recording,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert found.duration == pytest.approx(32.0, abs=0.01)
    assert [word.word for word in found.words] == [word.text for word in wanted.words]
    assert [word.start for word in found.words] == [word.start_s for word in wanted.words]
    # A word may be cut between two pieces; only the whole text has it whole.
    pieces = "".join(segment.text for segment in found.segments)
    assert pieces.replace(" ", "") == wanted.text.replace(" ", "")
    assert len(found.segments) >= 2
    plain = client.audio.transcriptions.create(
        model="server", file=recording, response_format="verbose_json"
    )
    assert plain.words is None


@pytest.mark.parametrize("which", ["server", "device"])
def test_streamed(client: Any, recognizer: Recognizer, recording: Path, which: str) -> None:
    events = list(client.audio.transcriptions.create(model=which, file=recording, stream=True))
    wanted = recognizer.transcribe(recording, which).text
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == wanted
    assert len(deltas) >= 2
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == wanted


def encoded(samples: npt.NDArray[np.float32], ending: str) -> bytes:
    """A recording as browsers (WebM, Opus) or phones (MP4, AAC) make it."""
    av = pytest.importorskip("av", reason="needs the extra [media]")
    kinds = {"webm": ("webm", "libopus", 48000), "m4a": ("mp4", "aac", 44100)}
    kind, codec, rate_hz = kinds[ending]
    written = io.BytesIO()
    with av.open(written, "w", format=kind) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = 16000
        converter = av.AudioResampler(
            stream.format, "mono", rate_hz, frame_size=stream.codec_context.frame_size or 960
        )
        for part in (*converter.resample(frame), *converter.resample(None), None):
            out.mux(stream.encode(part))
    return written.getvalue()


def samples_of(data: bytes, path: Path) -> npt.NDArray[np.float32]:
    """What it sounds like, decoded as a whole."""
    import av

    with av.open(io.BytesIO(data)) as container:
        rate_hz = container.streams.audio[0].rate
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    soundfile.write(path, np.concatenate(parts), rate_hz, subtype="FLOAT")
    return read_audio(path)


@pytest.mark.parametrize("ending", ["webm", "m4a"])
@pytest.mark.parametrize("which", ["server", "device"])
def test_what_browsers_and_phones_record(
    client: Any, recognizer: Recognizer, babble: Babble, tmp_path: Path, ending: str, which: str
) -> None:
    data = encoded(babble(7.0, 5), ending)
    samples = samples_of(data, tmp_path / "whole.wav")
    assert 6.9 < len(samples) / 16000 < 7.1
    wanted = recognizer.transcribe(samples, which)
    found = client.audio.transcriptions.create(model=which, file=(f"talk.{ending}", data))
    assert found.text == wanted.text
    assert len(wanted.words) > 3


@pytest.mark.parametrize("ending", ["webm", "m4a"])
def test_damaged_recordings(client: Any, babble: Babble, ending: str) -> None:
    """A text or a complaint, and never an internal error."""
    data = encoded(babble(1.0, 5), ending)
    rng = np.random.default_rng(0)
    damaged = [b"", b"\0" * 5000, rng.bytes(5000), data[:40], data[: len(data) // 2]]
    for share in (0.001, 0.01, 0.1):
        flipped = np.frombuffer(data, np.uint8).copy()
        places = rng.random(len(flipped)) < share
        flipped[places] = rng.integers(0, 256, places.sum())
        damaged.append(flipped.tobytes())
    complaints = []
    for content in damaged:
        try:
            client.audio.transcriptions.create(model="device", file=(f"talk.{ending}", content))
        except openai.BadRequestError as error:
            complaints.append(str(error))
    assert len(complaints) >= 3
    assert not any("/tmp" in complaint for complaint in complaints)


def test_what_is_wrong_is_said(client: Any, recording: Path) -> None:
    ask = client.audio.transcriptions.create
    with pytest.raises(openai.NotFoundError, match="babbler/device"):
        ask(model="whisper-1", file=recording)
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="not audio that can be read") as failure:
            ask(model="server", file=("a.wav", io.BytesIO(b"no sound at all")), stream=stream)
        assert "/tmp" not in str(failure.value)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        ask(model="server", file=recording, response_format="docx")


def status(url: str, data: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_forms_that_are_none(running: Running) -> None:
    url = f"{running.http}/v1/audio/transcriptions"
    assert status(url, b"hello") == 400
    assert status(url, b"hello", **{"Content-Type": "multipart/form-data"}) == 400
    assert status(url) == 405
    assert status(f"{running.http}/v2") == 404
    assert status(url, b"hello", Origin="https://evil.example") == 403


def test_limits_and_keys(
    start_service: Callable[..., Any], recognizer: Recognizer, recording: Path
) -> None:
    settings = Settings(Limits(upload_bytes=10_000), keys=("secret", "other"))
    with start_service(recognizer, settings) as running:
        with client_of(running, "wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with client_of(running, "other") as client:
            assert client.models.list()
            with pytest.raises(openai.APIStatusError) as failure:
                client.audio.transcriptions.create(model="server", file=recording)
            assert failure.value.status_code == 413
        assert status(f"{running.http}/metrics") == 401
        assert status(f"{running.http}/healthz") == 200
        assert status(f"{running.http}/") == 200


def test_nothing_is_left(running: Running, client: Any, recording: Path) -> None:
    """A client that leaves in the middle of an answer, and all the others of this file."""
    stream = client.audio.transcriptions.create(model="device", file=recording, stream=True)
    next(iter(stream))
    stream.close()
    wait_until(lambda: running.metric("uploads") == 0)


def test_health_and_metrics(running: Running) -> None:
    assert status(f"{running.http}/healthz") == 200
    assert status(f"{running.http}/readyz") == 200
    with urllib.request.urlopen(f"{running.http}/metrics") as response:
        page = response.read().decode()
    for name in ("streams", "waiting_segments", "caption_delay_seconds_bucket", "audio_seconds"):
        assert f"dualmode_{name}" in page


def test_the_page_is_whole(running: Running) -> None:
    with urllib.request.urlopen(running.http) as response:
        page = response.read().decode()
        policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page
    assert "https://" not in page
    for name in ("style.css", "app.js", "connection.js", "words.js", "recorder.js", "icon.svg"):
        assert status(f"{running.http}/page/{name}") == 200
    assert status(f"{running.http}/page/../app.py") == 404
    assert status(f"{running.http}/page/__init__.py") == 404
