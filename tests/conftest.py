"""Shared by all tests: a corpus of seconds, and a model that babbles instead of being silent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import typer
import yaml

TINY: dict[str, Any] = {
    "name": "tiny",
    "text": {"vocabulary_size": 40},
    "model": {
        "width": 16,
        "layers": 2,
        "heads": 2,
        "feed_forward": 32,
        "kernel_frames": 5,
        "subsampling_channels": 4,
        "predictor_width": 16,
        "joiner_width": 16,
    },
    "pruning": {"sparsities": [0.5, 0.7], "start": 0.1, "end": 0.7, "every_steps": 2},
    "data": {"batch_seconds": 20, "buckets": 3, "max_seconds": 12, "workers": 1},
    "training": {
        "steps": 32,
        "sampled_subnet": True,
        "learning_rate": 0.003,
        "warmup_steps": 5,
        "average_decay": 0.9,
        "precision": "32",
        "log_every_steps": 4,
        "validate_every_steps": 8,
        "checkpoint_every_steps": 4,
        "validation_utterances": 4,
        "device_subnet": {
            "chunk_frames": 8,
            "left_frames": 16,
            "lookahead_frames": 2,
            "sparsity": 0.7,
        },
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that processes which share the files finish together."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


SENTENCES = ["enter two nine eight one", "open the door", "it is half past six", "spell zebra"]


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart corpus of two minutes: train, dev and test folders."""
    from dualmode.data.synth import synthesize

    out = tmp_path_factory.mktemp("corpus")
    synthesize(out, train_hours=0.03, dev_utterances=4, test_utterances=6)
    return out


@pytest.fixture(scope="session")
def tiny_recipe(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a recipe that trains on the tiny corpus for seconds."""
    folders = {split: [str(tiny_corpus / split)] for split in ("train", "dev")}
    tree = {**TINY, "data": {**TINY["data"], **folders}}
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def babbling_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an untrained model whose text, though nonsense, follows from the audio."""
    import torch

    from dualmode.model.directory import save_model
    from dualmode.model.masks import draw_masks
    from dualmode.model.supernet import Supernet
    from dualmode.recipe_files import parse_recipe
    from dualmode.text import train_tokens

    out = tmp_path_factory.mktemp("model")
    recipe = parse_recipe(TINY, "tiny")
    tokens = train_tokens(SENTENCES, recipe.text, out)
    torch.manual_seed(0)
    model = Supernet(tokens.size, recipe.model, recipe.pruning)
    with torch.no_grad():
        # An untrained joiner prefers nothing much; blown up, it has opinions on every frame.
        model.joiner.out.weight.mul_(30)
    draw_masks(model.prunable(), recipe.pruning.sparsities)
    save_model(out, model, recipe)
    return out


@pytest.fixture
def parse_command() -> Callable[[str], None]:
    """Parse a shell line that runs dualmode, without running it; raises what the parser raises."""
    from dualmode.cli import app

    def parse(line: str) -> None:
        words = shlex.split(re.sub(r" > \S+$", "", line), comments=True)
        words = words[words.index("dualmode") + 1 :]
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            if words and words[0] in {"--help", "--version"}:
                return
            assert words, f"{line}: a group of commands needs one of {', '.join(command.commands)}"
            assert words[0] in command.commands, f"{line}: no command {words[0]}"
            command = command.commands[words.pop(0)]
        if words != ["--help"]:
            command.make_context(command.name, words)

    return parse


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks so small lose more to waiting for a second thread than it computes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def babble() -> Callable[..., npt.NDArray[np.float32]]:
    """Make (S,) samples of so many seconds, the same for the same seed."""
    return _babble


def _babble(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Tones and noise whose loudness and pitch change from syllable to syllable."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 16000)
    syllable = np.arange(count) // 2400
    loudness = rng.uniform(0.001, 0.3, size=count // 2400 + 1)[syllable]
    pitch = rng.uniform(100, 3000, size=count // 2400 + 1)[syllable]
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / 16000) + 0.3 * rng.standard_normal(count)
    return (loudness * wave).astype(np.float32)


@pytest.fixture(scope="session")
def talkative_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an untrained model that says words, with pauses, in both subnets.

    Its only sparsity is 0.5 and applies to predictor and joiner too; device has chunks of 4
    frames and 2 of look-ahead.
    """
    return _talkative(tmp_path_factory.mktemp("talkative"), 40)


@pytest.fixture(scope="session")
def talkative_80ms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like ``talkative_model``, with frames of 80 ms."""
    return _talkative(tmp_path_factory.mktemp("talkative80"), 80)


def _talkative(out: Path, frame_ms: int) -> Path:
    import torch

    from dualmode.features import fbank
    from dualmode.model.directory import save_model
    from dualmode.model.subnet import SERVER, device_subnet
    from dualmode.model.supernet import Supernet
    from dualmode.recipe_files import parse_recipe
    from dualmode.text import train_tokens

    device = {"chunk_frames": 4, "left_frames": 8, "lookahead_frames": 2}
    recipe = parse_recipe(
        {
            "name": "talkative",
            "text": {"vocabulary_size": 36},
            "model": {**TINY["model"], "frame_ms": frame_ms},
            "pruning": {"sparsities": [0.5], "scope": "all"},
            "training": {"device_subnet": device},
        },
        "talkative",
    )
    tokens = train_tokens(["one two three four five six seven"] * 3, recipe.text, out)
    # With others it says the same word all the time, or nothing.
    seed, sureness, blank = {40: (13, 2.5, 1.5), 80: (18, 2.0, 2.0)}[frame_ms]
    torch.manual_seed(seed)
    net = Supernet(tokens.size, recipe.model, recipe.pruning).eval()
    mels = torch.from_numpy(fbank(_babble(20.0, 99))).unsqueeze(0)
    lengths = torch.tensor([mels.shape[1]])

    def frames() -> torch.Tensor:
        subnets = (SERVER, device_subnet(recipe))
        return torch.cat([net.recognize(mels, lengths, subnet)[0][0] for subnet in subnets])

    with torch.no_grad():
        for layer in net.prunable():
            layer.blocks.copy_(torch.rand(layer.blocks.shape) < 0.5)
        net.encoder.subsampling.mean.fill_(-6.0)
        net.encoder.subsampling.deviation.fill_(4.0)
        # Frames spread out, so that what is heard decides what is said.
        net.joiner.from_frames.weight.div_(frames().std(dim=0).unsqueeze(1))
        net.joiner.from_frames.bias.sub_(frames().mean(dim=0))
        net.joiner.out.weight.mul_(sureness)
        net.joiner.out.bias[0] += blank
        net.joiner.out.bias[torch.tensor(tokens.word_starts)] += 0.5
    save_model(out, net, recipe)
    return out


@pytest.fixture
def check_probe_figures() -> Callable[[dict[str, Any], str], None]:
    """Check what `dualmode probe` wrote for a network of two layers: whole counts of frames, which
    its printed table shows."""

    def check(found: dict[str, Any], output: str) -> None:
        assert set(found["layers"]) == {
            f"{name}/{kind}" for name in ("server", "device") for kind in ("trained", "random")
        }
        scored = found["frames"]["scored"]
        for rates in found["layers"].values():
            assert len(rates) == 2
            for rate in rates:
                assert rate * scored == pytest.approx(round(rate * scored), abs=1e-6)
                assert f" {rate:.1%} " in output

    return check
