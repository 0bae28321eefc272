"""``pip install dualmode`` is enough to transcribe: what is used to train is never imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

TRAINING = (
    "lhotse",
    "jiwer",
    "num2words",
    "lightning_fabric",
    "tensorboard",
    "matplotlib",
    "urllib3",
)

# A finder that knows nothing of these packages, as if they were not installed.
WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAINING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory, babble: Callable[..., np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("light") / "speech.wav"
    soundfile.write(path, babble(2.0), 16000)
    return path


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_transcribing_and_streaming_import_nothing_of_training(
    talkative_model: Path, wav: Path
) -> None:
    code = """
import dualmode
from dualmode.audio import read_audio
rec = dualmode.load(sys.argv[1])
text = rec.transcribe(sys.argv[2], "device", "beam", progress=True).to_srt()
rec.transcribe(sys.argv[2], "server")
stream = rec.stream(endpointing=None)
stream.push(read_audio(sys.argv[2]))
print(len(stream.finish().words) > 2, text.startswith("1\\n00:00"))
"""
    done = run(code, talkative_model, wav)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_the_command_transcribes_without_them(talkative_model: Path, wav: Path) -> None:
    code = "from dualmode.cli import main\nmain()\n"
    done = run(code, "transcribe", talkative_model, wav)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_other_commands_say_what_to_install(
    talkative_model: Path, tmp_path: Path, command: str
) -> None:
    arguments = {
        "evaluate": ["evaluate", talkative_model, tmp_path],
        "train": ["train", "quickstart", "--out", tmp_path / "out"],
    }[command]
    done = run("from dualmode.cli import main\nmain()\n", *arguments)
    assert done.returncode == 1
    assert "pip install 'dualmode[train]'" in done.stderr
    assert "Traceback" not in done.stderr
