"""The model that is shipped: loads by name, is small, and understands a voice it has not heard.

The clips are read by eSpeak NG, in voices that no training set of dualmode's has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import dualmode
from dualmode.audio import Samples, to_mono_16khz
from dualmode.cli import app
from dualmode.model.shipped import model_folder, shipped_models
from dualmode.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("one_thread")

SAID = ("set a timer for five minutes", "turn the volume up to thirty", "two nine eight one")


@pytest.fixture(scope="module")
def talk() -> Recognizer:
    assert "talk" in shipped_models()
    return dualmode.load("talk")


@pytest.fixture(scope="module")
def clips() -> list[Samples]:
    pytest.importorskip("espeakng_loader", reason="the extra 'synth' is not installed")
    from dualmode.data.espeak import Espeak
    from dualmode.data.render import VOICES

    espeak, voice = Espeak(), VOICES["test"][3]
    espeak.set_voice(voice.espeak)
    made = []
    for text in SAID:
        speech = espeak.say(text, words_per_minute=150, pitch=voice.pitch, pitch_range=50)
        samples = to_mono_16khz(speech.samples.astype(np.float32), speech.sample_rate_hz)
        made.append(np.pad(0.3 * samples / np.abs(samples).max(), 3200).astype(np.float32))
    return made


@pytest.mark.parametrize("subnet", ["server", "device"])
def test_it_understands(talk: Recognizer, clips: list[Samples], subnet: str) -> None:
    heard = [talk.transcribe(clip, subnet).text.split() for clip in clips]
    right = sum(
        len(set(text.split()) & set(words)) for text, words in zip(SAID, heard, strict=True)
    )
    assert right >= 0.6 * sum(len(set(text.split())) for text in SAID), heard


def test_it_is_small_and_says_what_it_is() -> None:
    folder = model_folder("talk")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in ("AN4", "Speech Commands", "LibriSpeech", "Kokoro"))
    recipe = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert all(path.startswith("runs/talk/") for path in recipe["data"]["train"])


def test_an_export_of_a_shipped_model_carries_its_card(monkeypatch, tmp_path) -> None:
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    from dualmode.export import sherpa_onnx

    given: dict[str, str] = {}

    def keep(*args: object, card: str, **options: object) -> list[object]:
        given["card"] = card
        return []

    monkeypatch.setattr(sherpa_onnx, "export_sherpa_onnx", keep)
    result = CliRunner().invoke(app, ["export", "sherpa-onnx", "talk", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Speech Commands" in given["card"]


def test_a_language_model_is_made_for_it_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "sentences.txt").write_text("turn the volume up\nset a timer\n", encoding="utf-8")
    words = ["lm", str(tmp_path / "sentences.txt"), str(tmp_path / "own.lm"), "--model", "talk"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "own.lm").stat().st_size > 0
