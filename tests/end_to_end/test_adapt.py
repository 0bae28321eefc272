"""``dualmode adapt``: from a model and a CutSet to an adapted model."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.commands.adapt import _weights
from dualmode.model.directory import load_model
from dualmode.recipe_files import load_stored_recipe


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_model_is_adapted_with_and_without_replay(
    babbling_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    mine, other = tiny_corpus / "dev", tiny_corpus / "test"
    short = ("--set", "training.steps=1", "--set", "training.processes=1")
    said = run("adapt", babbling_model, mine, "--out", tmp_path / "pulled", *short)
    assert "WER below is that of the training data" in said
    pulled = load_stored_recipe(tmp_path / "pulled" / "config.yaml")
    assert (pulled.init.weight_pull, pulled.init.output_pull) == (5, 5)
    old, new = (load_model(folder) for folder in (babbling_model, tmp_path / "pulled"))
    assert old.tokens.pieces == new.tokens.pieces
    replay = ("--dev", other, "--replay", other)
    said = run("adapt", babbling_model, mine, "--out", tmp_path / "replayed", *replay, *short)
    assert "training data" not in said
    replayed = load_stored_recipe(tmp_path / "replayed" / "config.yaml")
    assert (replayed.init.weight_pull, replayed.init.output_pull) == (1, 1)
    assert len(replayed.data.weights) == 2


def test_frames_of_80_ms_from_a_model_with_frames_of_40(
    babbling_model: Path, tiny_recipe: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Pre-trained, fine-tuned from it, and evaluated in times of longer frames."""
    tree = yaml.safe_load(tiny_recipe.read_text(encoding="utf-8"))
    tree["model"]["frame_ms"] = 80
    # Tokens as long as those of a real vocabulary, so that they fit into the frames.
    tree["text"]["vocabulary_size"] = 120
    tree["training"] |= {"steps": 2, "processes": 1, "checkpoint_every_steps": 2}
    tree["data"]["workers"] = 0
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    spans = ["--set", "training.objective=pretrain", "--set", "pretraining.objective=best_rq"]
    no_masks = ["--set", "data.time_masks=0", "--set", "data.frequency_masks=0"]
    first, second = tmp_path / "pretrained", tmp_path / "model"
    said = run("pretrain", path, "--out", first, "--init", babbling_model, *spans, *no_masks)
    assert "encoder.subsampling.third" in said
    assert "encoder.subsampling.out start from random weights" in " ".join(said.split())
    said = run("train", path, "--out", second, "--init", first)
    assert "random weights" not in said
    assert "chunks of 640 ms, 160 ms look-ahead" in (second / "README.md").read_text("utf-8")
    run("evaluate", second, tiny_corpus / "dev", "--subnet", "device", "--json", tmp_path / "j")
    found = json.loads((tmp_path / "j").read_text(encoding="utf-8"))["device"]["latency_ms"]
    assert (found["chunk"], found["lookahead"], found["worst_case"]) == (640, 160, 800)


def test_replay_is_heard_as_long_as_the_own_recordings(tiny_corpus: Path) -> None:
    from dualmode.data.manifests import read_cuts

    mine, others = [tiny_corpus / "dev"], [tiny_corpus / "train", tiny_corpus / "test"]
    weights = _weights(mine, others)
    seconds = [sum(cut.duration for cut in read_cuts(path)) for path in (*mine, *others)]
    heard = [weight * length for weight, length in zip(weights, seconds, strict=True)]
    assert abs(heard[0] - heard[1] - heard[2]) < 1e-6
    assert _weights(mine, []) == []
