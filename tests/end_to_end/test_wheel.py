"""The wheel holds all that recognition needs, and nothing of it lies in the source tree alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]


def test_the_wheel_transcribes(
    talkative_model: Path, tmp_path: Path, babble: Callable[..., np.ndarray]
) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # built elsewhere: leaves no trace
        shutil.copy(ROOT / name, source / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    subprocess.run([*pip, *build, tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("dualmode-*.whl")
    installed = tmp_path / "installed"
    options = ["install", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, *options, installed, wheel], check=True)
    soundfile.write(tmp_path / "speech.wav", babble(2.0), 16000)
    code = (
        "import sys, dualmode\n"
        "assert dualmode.__file__.startswith(sys.argv[1]), dualmode.__file__\n"
        "from dualmode.recipe_files import shipped_recipes\n"
        "assert 'quickstart' in shipped_recipes()\n"
        "print(dualmode.load(sys.argv[2]).transcribe(sys.argv[3], 'device').text)\n"
    )
    arguments = [installed, talkative_model, tmp_path / "speech.wav"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 2
