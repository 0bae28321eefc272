"""The page in a headless Chromium, with a WAV as the microphone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from dualmode.recognizer import Recognizer
from dualmode.serving.settings import Settings

from .chromium import CHROMIUM, Page, open_page
from .conftest import SHORT, Running

if CHROMIUM is None:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

Babble = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def recording(babble: Babble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "talk.wav"
    soundfile.write(path, babble(60.0, 4), 16000)
    return path


@pytest.fixture(scope="module")
def page(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("chromium"), recording) as page:
        yield page


def test_speaking_into_the_page(page: Page, running: Running) -> None:
    page.open(running.http)
    page.press(" ")
    page.wait("document.querySelector('#live').textContent.trim()")
    page.wait("document.querySelectorAll('#log p.revised').length >= 2")
    assert page.run("document.querySelector('#talk').getAttribute('aria-pressed')") == "true"
    page.press(" ")
    page.wait("document.querySelector('#status').textContent === 'Ready'")
    assert page.text("#live") == ""
    shown = page.run("document.querySelectorAll('#log p').length")
    assert shown == page.run("document.querySelectorAll('#device-text li').length")
    assert shown == page.run("document.querySelectorAll('#server-text li').length")
    # What device alone had said is gone after a while; what server says stays.
    page.wait("!document.querySelector('#log del')")
    corrected = page.run(
        "[...document.querySelectorAll('#log p')].map(p => p.textContent.trim() || '(nothing)')"
    )
    by_server = page.run(
        "[...document.querySelectorAll('#server-text li span:not(.cost)')].map(s => s.textContent)"
    )
    assert [" ".join(line.split()) for line in corrected] == by_server
    assert page.errors == []


def test_captions_are_saved(page: Page, running: Running) -> None:
    script = """import('/page/words.js').then(({ toSrt }) => toSrt([
      { text: 'open', start: 1, end: 1.04 }, { text: 'the', start: 1.2, end: 1.3 },
      { text: 'door', start: 3, end: 3.5 }]))"""
    page.open(running.http)
    captions = page.run(script)
    assert captions == (
        "1\n00:00:01,000 --> 00:00:02,000\nopen the\n\n2\n00:00:03,000 --> 00:00:04,000\ndoor\n"
    )


def test_a_lost_connection_is_said_and_comes_back(
    page: Page, start_service: Callable[..., Any], recognizer: Recognizer
) -> None:
    with start_service(recognizer, Settings(endpointing=SHORT)) as running:
        page.open(running.http)
        page.press(" ")
        page.wait("document.querySelectorAll('#log p').length >= 1")
        before = page.run("document.querySelectorAll('#log p').length")
        page.run(
            "window.said = []; new MutationObserver(() => window.said.push("
            "document.querySelector('#status').textContent)).observe("
            "document.querySelector('#status'), { childList: true, characterData: true })"
        )
        running.run(drop_connections(running))
        page.wait("window.said.some(text => text.startsWith('Connection lost'))")
        page.wait("window.said.includes('Connected again')")
        page.wait(f"document.querySelectorAll('#log p').length > {before}")
        page.press("Escape")
        page.wait("document.querySelector('#status').textContent === 'Ready'")


async def drop_connections(running: Running) -> None:
    """As if a network had failed: closed, without a word."""
    for protocol in list(running.server.server_state.connections):
        transport = getattr(protocol, "transport", None)
        if "websocket" in type(protocol).__name__.lower():
            transport.abort()


def test_a_file_and_both_sizes(page: Page, running: Running, recording: Path) -> None:
    page.open(running.http, width=390, height=844)
    assert page.run("document.documentElement.scrollWidth") <= 390
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(recording)])
    page.wait("document.querySelectorAll('#log p.revised').length >= 5")
    page.wait("document.querySelector('#status').textContent === 'Ready'")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("document.querySelector('#copy').disabled") is False
