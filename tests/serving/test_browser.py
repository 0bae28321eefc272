"""The page that recognises by itself: what the service offers, and that nothing is sent."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from typer.testing import CliRunner

from dualmode.errors import DualmodeError
from dualmode.recognizer import Recognizer
from dualmode.serving.browser import ENGINE_FILES, BrowserEngine, read_engine_files
from dualmode.serving.settings import Settings

from .chromium import CHROMIUM, Page, open_page
from .conftest import SHORT, Running

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "web"
SECONDS = 12.0


def why_not() -> str | None:
    """Why the engine cannot be tried in a browser here."""
    if CHROMIUM is None:
        return "needs Chromium: apt-get install chromium"
    if not all((BUILD / name).is_file() for name in ENGINE_FILES):
        return "needs the engine for browsers: make web"
    for name in ("recognizer.js", "worker.js"):
        if (BUILD / name).read_bytes() != (ROOT / "web" / name).read_bytes():
            return "build/web is older than web/: make web"
    return None


@pytest.fixture(scope="module")
def engine(talkative_model: Path) -> BrowserEngine:
    """Device of the babbling model, with files that stand for the engine where it is not built."""
    from dualmode.export.engine import engine_artifact
    from dualmode.model.directory import load_model

    loaded = load_model(talkative_model)
    artifact = engine_artifact(loaded, loaded.device_subnet).to_bytes()
    files = dict.fromkeys(ENGINE_FILES, b"") if why_not() else read_engine_files(BUILD)
    return BrowserEngine(files, artifact, loaded.device_subnet, loaded.model.encoder.framing)


@pytest.fixture(scope="module")
def offering(
    start_service: Callable[..., Any], recognizer: Recognizer, engine: BrowserEngine
) -> Iterator[Running]:
    with start_service(recognizer, Settings(endpointing=SHORT), None, engine) as running:
        yield running


def get(url: str, key: str | None = None) -> tuple[int, dict[str, str], bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_what_is_offered(offering: Running, running: Running, engine: BrowserEngine) -> None:
    offer = json.loads(get(f"{offering.http}/page/offer.json")[2])["browser"]
    assert offer["chunk_ms"] == 160
    assert offer["sparsity"] == 0.5
    assert offer["bytes"] >= len(engine.artifact)
    assert get(f"{offering.http}/v1/device.dual")[2] == engine.artifact
    assert get(f"{offering.http}/page/engine/other.js")[0] == 404
    status, headers, _ = get(f"{offering.http}/page/engine/engine.wasm")
    assert (status, headers["content-type"]) == (200, "application/wasm")
    assert json.loads(get(f"{running.http}/page/offer.json")[2]) == {"browser": None}
    for path in ("/v1/device.dual", "/page/engine/engine.js"):
        assert get(running.http + path)[0] == 404


def test_the_policy_is_wider_only_with_an_engine(offering: Running, running: Running) -> None:
    name = "content-security-policy"
    assert "wasm-unsafe-eval" not in get(running.http)[1][name]
    # A worker has the policy of its own file.
    for path in ("/", "/page/app.js", "/page/engine/worker.js"):
        policy = get(offering.http + path)[1][name]
        assert "script-src 'self' 'wasm-unsafe-eval';" in policy
        assert "connect-src 'self';" in policy


def test_the_model_needs_the_key(
    start_service: Callable[..., Any], recognizer: Recognizer, engine: BrowserEngine
) -> None:
    with start_service(recognizer, Settings(keys=("secret",)), None, engine) as running:
        assert get(f"{running.http}/page/offer.json")[0] == 200
        assert get(f"{running.http}/v1/device.dual")[0] == 401
        assert get(f"{running.http}/v1/device.dual", "secret")[2] == engine.artifact


def test_a_folder_without_the_engine(talkative_model: Path, tmp_path: Path) -> None:
    from dualmode.cli import app

    with pytest.raises(DualmodeError, match="make web"):
        read_engine_files(tmp_path)
    done = CliRunner().invoke(app, ["serve", str(talkative_model), "--browser", str(tmp_path)])
    assert done.exit_code == 1
    assert "make web" in done.output


@pytest.mark.parametrize("artifact", [False, True])
def test_the_command_offers_it(
    talkative_model: Path,
    engine: BrowserEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    artifact: bool,
) -> None:
    """The artifact is device of the model, or the one that live streams use."""
    from dualmode.cli import app
    from dualmode.serving import server

    if artifact:
        pytest.importorskip("dualmode_engine", reason="needs the engine")
    for name in ENGINE_FILES:
        (tmp_path / name).write_bytes(name.encode())
    live = tmp_path / "device.dual"
    live.write_bytes(engine.artifact)
    services: list[Any] = []
    monkeypatch.setattr(server, "log_as_json", lambda: None)
    monkeypatch.setattr(server.DrainingServer, "run", lambda one: services.append(one._service))
    command = ["serve", str(talkative_model), "--browser", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, *(["--live", str(live)] if artifact else [])])
    assert done.exit_code == 0, done.output
    offered = services[0]._browser
    services[0].models.stop()
    assert offered.artifact == engine.artifact
    assert offered.subnet == engine.subnet
    assert offered.files == {name: name.encode() for name in ENGINE_FILES}


# ---- in Chromium ----


@pytest.fixture(scope="module")
def recording(
    babble: Callable[..., npt.NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "talk.wav"
    soundfile.write(path, babble(SECONDS, 4), 16000)
    return path


@pytest.fixture(scope="module")
def page(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if reason := why_not():
        pytest.skip(reason)
    with open_page(tmp_path_factory.mktemp("chromium"), recording) as page:
        yield page


def switch_on(page: Page, address: str) -> None:
    page.open(address)
    page.wait("!document.querySelector('div.offered').hidden")
    page.press("b")
    wait_for_engine(page)


def wait_for_engine(page: Page) -> None:
    page.wait("!document.querySelector('#talk').disabled")
    assert page.text("#status") == "Ready"
    assert page.run("document.querySelector('#local').checked") is True


def test_the_microphone_is_recognised_in_the_browser(page: Page, offering: Running) -> None:
    switch_on(page, offering.http)
    before = len(page.requested)
    page.press(" ")
    page.wait("document.querySelectorAll('#device-text li').length >= 1")
    assert page.run("document.querySelector('#local').disabled") is True
    assert page.text("#device-delay").endswith("s")
    page.press(" ")
    page.wait("document.querySelector('#status').textContent === 'Ready'")
    assert page.run("document.querySelector('#local').disabled") is False
    assert page.run("document.querySelectorAll('#server-text li').length") == 0
    # The recorder is part of the page; nothing else was asked for, and nothing sent.
    assert set(page.requested[before:]) <= {f"{offering.http}/page/recorder.js"}
    assert page.errors == []


def test_a_file_is_recognised_as_by_the_engine(
    page: Page, offering: Running, engine: BrowserEngine, recording: Path, tmp_path: Path
) -> None:
    dualmode_engine = pytest.importorskip("dualmode_engine", reason="needs the engine")
    switch_on(page, offering.http)
    before = len(page.requested)
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(recording)])
    page.wait("document.querySelectorAll('#log p').length >= 1")
    page.wait("document.querySelector('#status').textContent === 'Ready'")
    shown = page.run("[...document.querySelectorAll('#log p')].map(p => p.textContent).join(' ')")

    path = tmp_path / "device.dual"
    path.write_bytes(engine.artifact)
    samples = soundfile.read(recording, dtype="float32")[0]
    heard = (np.round(samples * 32767) / 32768).astype(np.float32)
    wanted = dualmode_engine.Model(path).transcribe(heard).text
    assert wanted
    assert shown == wanted
    assert page.requested[before:] == []
    assert offering.metric("connections") == 0
    assert page.run("document.documentElement.scrollWidth <= innerWidth") is True
    assert page.errors == []


def test_switched_off_it_is_the_service_again(page: Page, offering: Running) -> None:
    page.open(offering.http)
    page.wait("!document.querySelector('div.offered').hidden")
    page.run("document.querySelector('#local').focus()")
    page.press(" ")
    wait_for_engine(page)
    assert page.run("document.activeElement.id") == "local"
    assert page.run("document.body.dataset.where") == "browser"
    page.press(" ")
    assert page.run("document.body.dataset.where") == "service"
    page.run("document.activeElement.blur()")
    page.press(" ")
    page.wait("document.querySelector('#status').textContent === 'Listening'")
    assert f"{offering.ws}/v1/listen" in page.requested
    page.press("Escape")
    page.wait("document.querySelector('#status').textContent === 'Ready'")
