"""The linear probe: frames get the labels of the tokens beside them, and what is there is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lhotse import CutSet, MonoCut
from typer.testing import CliRunner

from dualmode.cli import app
from dualmode.errors import DataError
from dualmode.evaluation.frame_probe import (
    _accuracy,
    _frames,
    _held,
    load_encoder,
    probe,
    reframed,
    spread,
)
from dualmode.features import Framing
from dualmode.model.directory import load_model, save_model
from dualmode.model.subnet import trained_subnets

UTTERANCES, FRAMES, CLASSES = 40, 30, 4


def test_blanks_take_the_label_of_the_nearest_token_within_reach() -> None:
    path = np.array([0, 0, 0, 0, 7, 0, 0, 9, 0, 0, 0, 0, 0])
    assert spread(path, reach=2).tolist() == [-1, -1, 7, 7, 7, 7, 9, 9, 9, 9, -1, -1, -1]
    assert spread(np.zeros(3, dtype=np.int64), reach=3).tolist() == [-1] * 3


@pytest.mark.parametrize(("own", "other"), [(40, 80), (80, 40), (80, 80)])
def test_labels_of_an_aligner_with_other_frames_are_those_of_the_same_time(
    own: int, other: int
) -> None:
    source, target = Framing(own), Framing(other)
    for mels in (15, 16, 95, 103, 104, 211):
        count = target.frames(mels)
        found = reframed(np.arange(source.frames(mels)), source, target, count)
        assert len(found) == count
        # The middle of a frame lies a frame after its start.
        apart_ms = own * (found + 1) - other * (np.arange(count) + 1)
        assert (np.abs(apart_ms[:-1]) <= own // 2).all()
        assert (np.abs(apart_ms) <= own).all()


def test_about_a_fifth_is_held_out_by_name_alone() -> None:
    names = [f"utterance-{number}" for number in range(1000)]
    held = [_held(name) for name in names]
    assert 0.15 < np.mean(held) < 0.25
    assert held == [_held(name) for name in names]


def test_frames_that_tell_their_label_are_told_apart_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = [[rng.integers(CLASSES, size=FRAMES) for _ in range(UTTERANCES)]]
    held_out = [np.arange(UTTERANCES) % 5 == 0]
    noise = torch.from_numpy(rng.normal(size=(UTTERANCES, FRAMES, 8)).astype(np.float32))
    telling = noise.clone()
    telling[..., :CLASSES] += 6 * torch.nn.functional.one_hot(torch.tensor(np.stack(labels[0])))
    assert _accuracy([telling], labels, held_out) > 0.95
    assert _accuracy([noise], labels, held_out) < 0.45
    unlabelled = [[np.where(np.arange(FRAMES) < 5, row, -1) for row in labels[0]]]
    assert _accuracy([telling], unlabelled, held_out) > 0.9


def test_too_little_speech_is_an_error() -> None:
    rows = [[np.array([1, 2])]]
    with pytest.raises(DataError, match="too few utterances"):
        _accuracy([torch.zeros(1, 2, 3)], rows, [np.array([True])])


def test_frames_are_those_of_the_layers_in_order(talkative_model: Path) -> None:
    """So the last layer's, after the encoder's norm, are what the encoder gives."""
    trained, random, recipe = load_encoder(talkative_model)
    torch.manual_seed(0)
    lengths = torch.tensor([123, 80])
    batch = SimpleNamespace(features=torch.randn(2, 123, 80), feature_lengths=lengths)
    for subnet in trained_subnets(recipe).values():
        for model in (trained, random):
            with torch.inference_mode():
                *_, (last,) = _frames(model, [batch], subnet)
                latents, counts = model.latents(batch.features, lengths)
                expected = model.encode(latents, counts, subnet)
                found = model.encoder.norm(last, model.active_weights(subnet))
            for row, count in enumerate(counts.tolist()):
                torch.testing.assert_close(found[row, :count], expected[row, :count])


def test_random_weights_are_as_good_as_themselves(
    talkative_model: Path, make_cut: Callable[..., MonoCut], tmp_path: Path
) -> None:
    """A directory that holds the very weights that a probe draws for comparison."""
    cuts = CutSet.from_cuts(
        make_cut(name, "one two three", 3.0) for name in ("a", "bb", "ccc", "dddd", "eeeee")
    )
    assert {_held(cut.id) for cut in cuts} == {True, False}
    loaded = load_model(talkative_model)
    found = probe(talkative_model, cuts, loaded)
    assert found.layers["server", "trained"] != found.layers["server", "random"]
    assert found.layers["server", "trained"] != found.layers["device", "trained"]

    _, random, recipe = load_encoder(talkative_model)
    model = load_model(talkative_model).model
    model.encoder.load_state_dict(random.encoder.state_dict())
    save_model(tmp_path, model, recipe)
    again = probe(tmp_path, cuts, loaded)
    for name in trained_subnets(recipe):
        assert again.layers[name, "trained"] == again.layers[name, "random"]
        assert again.layers[name, "random"] == found.layers[name, "random"]
    assert again.frames == found.frames
    assert again.most_frequent == found.most_frequent


def test_the_command_prints_and_writes_what_was_measured(
    talkative_model: Path,
    make_cut: Callable[..., MonoCut],
    tmp_path: Path,
    check_probe_figures: Callable[..., None],
) -> None:
    cuts = tmp_path / "cuts.jsonl.gz"
    names = ("a", "bb", "ccc", "dddd", "eeeee")
    CutSet.from_cuts(make_cut(name, "one two three", 3.0) for name in names).to_file(cuts)
    figures, model = tmp_path / "new" / "probe.json", str(talkative_model)
    arguments = ["probe", model, str(cuts), "--aligner", model, "--json", str(figures)]
    result = CliRunner().invoke(app, arguments, env={"NO_COLOR": "1", "COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text(encoding="utf-8"))
    check_probe_figures(found, result.output)
