"""``dualmode serve`` as a process: it starts, serves, and drains on SIGTERM."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from dualmode.serving.client import CaptionClient


def test_sigterm_drains(
    talkative_model: Path, babble: Callable[..., npt.NDArray[np.float32]]
) -> None:
    command = [sys.executable, "-m", "dualmode", "serve", str(talkative_model), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line, "the process ended"
            address = re.search(r"running on http://([0-9.:]+)", json.loads(line)["event"])
        with CaptionClient(f"ws://{address[1]}") as client:
            client.start()
            client.send(babble(2.0, 4))
            while client.receive(60)["type"] != "partial":
                pass
            process.send_signal(signal.SIGTERM)
            events = list(client.events())
        assert any(event["type"] == "segment" and event["text"] for event in events)
        # uvicorn raises the signal again once everything has ended.
        assert process.wait(60) == -signal.SIGTERM
        lines = [json.loads(line) for line in process.stderr]
    finally:
        process.kill()
    closed = [line for line in lines if line["event"] == "connection closed"]
    assert [line["code"] for line in closed] == [1001]
    said = next(event["text"] for event in events if event.get("text"))
    assert not any(said in json.dumps(line) for line in lines), "logs hold no text"


def test_options_that_are_wrong(talkative_model: Path, tmp_path: Path) -> None:
    from dualmode.cli import app

    empty = tmp_path / "keys.txt"
    empty.write_text("\n", encoding="utf-8")
    for path, complaint in ((empty, "no keys in it"), (tmp_path / "absent", "--keys")):
        done = CliRunner().invoke(app, ["serve", str(talkative_model), "--keys", str(path)])
        assert done.exit_code == 1
        assert complaint in done.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_door_is_said(
    talkative_model: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualmode.cli import app
    from dualmode.serving.server import DrainingServer

    monkeypatch.setattr(DrainingServer, "run", lambda server: None)
    monkeypatch.setattr("dualmode.serving.server.log_as_json", lambda: None)
    done = CliRunner().invoke(app, ["serve", str(talkative_model), "--host", host])
    assert done.exit_code == 0, done.output
    assert "--keys" in done.output
