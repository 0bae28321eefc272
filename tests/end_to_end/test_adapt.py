"""``dualmode adapt``: from a model and a CutSet to an adapted model."""

from __future__ import annotations

from pathlib import Path

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


def test_replay_is_heard_as_long_as_the_own_recordings(tiny_corpus: Path) -> None:
    from dualmode.data.manifests import read_cuts

    mine, others = [tiny_corpus / "dev"], [tiny_corpus / "train", tiny_corpus / "test"]
    weights = _weights(mine, others)
    seconds = [sum(cut.duration for cut in read_cuts(path)) for path in (*mine, *others)]
    heard = [weight * length for weight, length in zip(weights, seconds, strict=True)]
    assert abs(heard[0] - heard[1] - heard[2]) < 1e-6
    assert _weights(mine, []) == []
