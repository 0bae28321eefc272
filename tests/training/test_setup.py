"""What a run needs before its first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, Recording
from lhotse.testing.dummies import dummy_cut

from dualmode.config import InitConfig, ModelConfig, PruningConfig, Recipe, TrainingConfig
from dualmode.errors import DataError
from dualmode.features import fbank
from dualmode.model.backbone import Backbone
from dualmode.training import setup

MODEL = ModelConfig(width=16, layers=1, heads=2, feed_forward=24, subsampling_channels=2)


@pytest.mark.parametrize(("total", "count"), [(10, 3), (10, 10), (3, 10), (100, 7), (1, 1)])
def test_a_sample_is_spread_over_the_whole_corpus(total: int, count: int) -> None:
    cuts = CutSet.from_cuts(dummy_cut(number) for number in range(total))
    ids = list(cuts.ids)
    places = [ids.index(name) for name in setup._spread(cuts, count).ids]
    assert len(places) == min(total, count)
    assert places[0] == 0
    gaps = np.diff([*places, total])
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1, "as evenly as whole numbers allow"


@pytest.fixture
def sounds(tmp_path: Path, babble: Callable[..., Any]) -> CutSet:
    """Three utterances of unlike lengths and levels; the shortest is the loudest."""
    cuts = []
    for number, (seconds, gain) in enumerate(((0.5, 3.0), (1.5, 1.0), (1.0, 0.1))):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, np.clip(gain * babble(seconds, seed=number), -1, 1), 16000)
        cuts.append(Recording.from_file(path).to_cut())
    return CutSet.from_cuts(cuts)


def test_features_are_measured_over_frames_and_padding_does_not_count(sounds: CutSet) -> None:
    recipe = Recipe(name="r", model=MODEL)
    model = Backbone(MODEL, PruningConfig())
    setup._measure_features(model, sounds, None, recipe)
    mels = np.concatenate([fbank(cut.load_audio()[0]) for cut in sounds])
    found = model.encoder.subsampling
    np.testing.assert_allclose(found.mean.numpy(), mels.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found.deviation.numpy(), mels.std(axis=0, ddof=1), rtol=1e-4)
    normalised = (mels - found.mean.numpy()) / found.deviation.numpy()
    assert np.abs(normalised.mean(axis=0)).max() < 1e-3


def test_features_that_never_change_do_not_divide_by_zero(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "still.wav", np.zeros(16000), 16000)
    still = CutSet.from_cuts([Recording.from_file(tmp_path / "still.wav").to_cut()])
    model = Backbone(MODEL, PruningConfig())
    setup._measure_features(model, still, None, Recipe(name="r", model=MODEL))
    assert float(model.encoder.subsampling.deviation.min()) == pytest.approx(1e-3)


def test_a_training_set_of_which_nothing_can_be_read_is_an_error(sounds: CutSet) -> None:
    for cut in sounds:
        Path(cut.recording.sources[0].source).unlink()
    with pytest.raises(DataError, match="no file of the training set"):
        setup._measure_features(Backbone(MODEL, PruningConfig()), sounds, None, Recipe(name="r"))


def test_biases_and_norms_do_not_decay_and_a_trained_encoder_learns_slower() -> None:
    init = InitConfig(model="there", learning_rate_factor=0.25)
    recipe = Recipe(name="r", init=init, training=TrainingConfig(weight_decay=0.1))
    model = Backbone(MODEL, PruningConfig())
    model.head = torch.nn.Linear(16, 5)
    optimizer = setup.make_optimizer(model, recipe)
    found = {
        id(parameter): (group["weight_decay"], group["factor"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        decay = 0.1 if parameter.dim() >= 2 and "norm" not in name else 0.0
        factor = 0.25 if name.startswith("encoder.") else 1.0
        assert found[id(parameter)] == (decay, factor), name


@pytest.mark.parametrize(
    ("seconds", "wanted", "cores", "processes"),
    [(120, None, 4, 4), (45, None, 4, 3), (10, None, 4, 1), (120, 7, 2, 7), (120, None, 1, 1)],
)
def test_cores_share_a_batch_while_each_has_enough_of_it(
    seconds: float, wanted: int | None, cores: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "data": {"batch_seconds": seconds},
            "training": {"processes": wanted},
        }
    )
    assert setup.cpu_processes(recipe) == processes
