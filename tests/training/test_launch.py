"""What goes wrong in one of several processes is told as what it is."""

from __future__ import annotations

import multiprocessing

import pytest

from dualmode.errors import DataError, DualmodeError
from dualmode.recipe_files import load_recipe, parse_recipe
from dualmode.training.launch import train


def test_an_error_of_a_process_arrives_as_itself(tmp_path, tiny_recipe):
    recipe = load_recipe(tiny_recipe, ["training.processes=2", "data.dev=[nowhere]"])
    with pytest.raises(DataError, match="nowhere"):
        train(recipe, tmp_path)


def test_without_corpora_the_message_says_which_keys_to_set(tmp_path):
    with pytest.raises(DualmodeError, match=r"data\.train"):
        train(parse_recipe({"name": "empty", "training": {"processes": 1}}, "empty"), tmp_path)


def test_what_an_earlier_run_left_does_not_pass_for_this_one(tmp_path, tiny_recipe):
    recipe = load_recipe(
        tiny_recipe, ["training.processes=1", "training.steps=2", "training.warmup_steps=1"]
    )
    for name in ("tokens.model", "evaluation.json", ".part-7-model.safetensors", "notes.txt"):
        (tmp_path / name).write_text("old")
    assert train(recipe, tmp_path).finished
    assert (tmp_path / "tokens.model").read_bytes() != b"old"
    assert not (tmp_path / "evaluation.json").exists()
    assert not (tmp_path / ".part-7-model.safetensors").exists()
    assert (tmp_path / "notes.txt").exists()


def test_an_error_leaves_no_data_worker_behind(tmp_path, tiny_recipe, monkeypatch):
    """They ignore SIGTERM, so a process that left them running would wait for them for ever."""

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("dualmode.training.loop._save", fail)
    recipe = load_recipe(tiny_recipe, ["training.processes=1", "training.steps=4"])
    with pytest.raises(OSError, match="no space left") as caught:
        train(recipe, tmp_path / "model")
    assert caught.tb is not None, "the traceback, which holds the frames of the loop, is alive"
    assert not multiprocessing.active_children()
