"""From synthesised speech to text through the command line: a tiny training, then every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import dualmode
from dualmode.cli import app
from dualmode.evaluation.results import Evaluation
from dualmode.quickstart import run_quickstart
from dualmode.recipe_files import load_recipe

Run = Callable[..., Result]
_PRETRAIN = "training.objective=pretrain"
OBJECTIVES = {
    "quickstart": [],
    "quickstart-pretrain": [_PRETRAIN],
    "quickstart-phones": [_PRETRAIN, "pretraining.objective=phones"],
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"NO_COLOR": "1"})


@pytest.fixture(scope="module")
def trained(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    result = run("train", tiny_recipe, "--out", out, "--set", "training.steps=16")
    assert result.exit_code == 0, result.output
    return out


def test_training_leaves_a_whole_model(trained: Path) -> None:
    left = {p.name for p in trained.iterdir()}
    assert {"config.yaml", "model.safetensors", "tokens.model", "tokens.txt", "README.md"} <= left
    assert load_recipe(trained / "config.yaml").training.steps == 16
    assert (trained / "training" / "training.png").stat().st_size > 1000
    assert list((trained / "training" / "tensorboard").iterdir())
    card = (trained / "README.md").read_text()
    assert "WER" in card
    assert "device" in card


def test_losses_fall(trained: Path) -> None:
    lines = (trained / "training" / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for name in ("server/transducer", "device/transducer"):
        curve = [r[name] for r in records if name in r]
        assert curve[-1] < curve[0]
    assert all(0 <= r["waiting_share"] <= 1 for r in records if "waiting_share" in r)


def test_a_finished_run_has_nothing_left_to_do(trained: Path, tiny_recipe: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    result = run("train", tiny_recipe, "--out", trained, "--set", "training.steps=16")
    assert result.exit_code == 0
    assert (trained / "model.safetensors").read_bytes() == before


def test_evaluate_writes_the_schema(trained: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    figures, texts = tmp_path / "new" / "figures.json", tmp_path / "newer" / "texts.jsonl"
    result = run(
        "evaluate", trained, tiny_corpus / "test", "--json", figures, "--utterances", texts
    )
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    assert set(found) == {"server", "device"}
    for entry in found.values():
        assert {"wer", "cer", "ci95", "rtf", "utterances", "words"} <= set(entry)
        assert entry["utterances"] == 6
    assert found["device"]["sparsity"] == 0.7
    assert found["device"]["latency_ms"]["chunk"] == 320
    assert found["device"]["latency_ms"]["lookahead"] == 80
    assert len(texts.read_text().splitlines()) == 6


def test_evaluate_another_device(trained: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--subnet", "device", "--sparsity", "0.5", "--chunk-ms", "160", "--search", "beam"]
    result = run("evaluate", trained, tiny_corpus / "test", "--json", figures, *options)
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    assert set(found) == {"device"}
    assert found["device"]["sparsity"] == 0.5
    assert found["device"]["latency_ms"]["chunk"] == 160


@pytest.mark.parametrize("options", [[], ["--subnet", "device", "--stream"]])
def test_transcribe(options: list[str], talkative_model: Path, tiny_corpus: Path) -> None:
    files = sorted((tiny_corpus / "test" / "audio").iterdir())[:2]
    result = run("transcribe", talkative_model, *files, *options)
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [name for name, _ in lines] == [str(file) for file in files]
    subnet = "device" if options else "server"
    recognizer = dualmode.load(talkative_model)
    texts = [recognizer.transcribe(file, subnet=subnet).text for file in files]
    assert [text for _, text in lines] == texts
    assert all(texts), "two empty texts would agree on anything"


def test_the_python_interface(talkative_model: Path, tiny_corpus: Path) -> None:
    from dualmode.audio import read_audio

    file = min((tiny_corpus / "test" / "audio").iterdir())
    recognizer = dualmode.load(talkative_model)
    stream = recognizer.stream(subnet="device")
    stream.push(read_audio(file))
    text = stream.finish().text
    assert text == recognizer.transcribe(file, subnet="device").text
    assert text


def test_quickstart_goes_through_all_its_steps(
    tiny_corpus: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real steps, on the tiny corpus and with the tiny recipe in place of its own."""
    home = tmp_path / "o'brien"  # an apostrophe ends a quoted string of YAML
    home.mkdir()
    folders = {split: tiny_corpus / split for split in ("train", "dev", "test")}
    (home / "corpus").symlink_to(tiny_corpus)
    monkeypatch.setattr("dualmode.data.synth.synthesize", lambda out: folders)
    monkeypatch.setattr(
        "dualmode.recipe_files.load_recipe",
        lambda name, overrides=(): (
            load_recipe(tiny_recipe, [*overrides, "training.steps=8", *OBJECTIVES[name]])
            if name in OBJECTIVES
            else load_recipe(name, overrides)
        ),
    )
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        assert run_quickstart(home, None, Console(file=file, width=120))
    said = output.read_text()
    found = json.loads((home / "model" / "evaluation.json").read_text())
    assert set(found) == {"server", "device"}
    for number in range(1, 8):
        assert f"{number} of 7" in said
    assert "MISSED" in said  # eight steps teach nobody to listen, and that is said
    for named in ("training.png", "tensorboard", "my.wav", "train_your_own.md"):
        assert named in said

    with output.open("w") as file:
        assert run_quickstart(home, None, Console(file=file, width=120), pretrain=True)
    assert "pre-training" in output.read_text()
    recipe = load_recipe(home / "pretrained-model" / "config.yaml")
    assert recipe.init.model == str(home / "encoder")


def test_verdicts_are_honest(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from dualmode.quickstart import verdicts

    def found(server: float, device: float) -> Evaluation:
        rates = {"server": server, "device": device}
        results = {
            name: SimpleNamespace(scores=SimpleNamespace(words=SimpleNamespace(rate=rate)))
            for name, rate in rates.items()
        }
        return SimpleNamespace(results=results)  # type: ignore[return-value]

    assert all("reached" in line.plain for line in verdicts(found(0.06, 0.10)))
    server, device = verdicts(found(0.059, 0.1001))
    assert "reached" in server.plain
    assert "MISSED" in device.plain
