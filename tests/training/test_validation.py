"""Word errors while training: those of the transcripts, counted for each recogniser by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jiwer
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from dualmode.data.batches import Batch, Position
from dualmode.decoding.greedy import GreedySearch
from dualmode.features import fbank
from dualmode.model.directory import LoadedModel, load_model
from dualmode.model.subnet import SERVER, trained_subnets
from dualmode.runtime.pytorch import TorchRuntime
from dualmode.training.validation import word_error_counts

TEXTS = ("one two three", "four", "seven six five four one", "two two")


@pytest.fixture(scope="module")
def loaded(talkative_model: Path) -> LoadedModel:
    return load_model(talkative_model)


@pytest.fixture(scope="module")
def dev(babble: Callable[..., Any]) -> Any:
    """Four utterances of unlike lengths in two batches."""
    mels = [torch.from_numpy(fbank(babble(1.0 + n, seed=n))) for n in range(4)]

    def batch(rows: slice) -> Batch:
        mine = mels[rows]
        none = torch.zeros(len(mine), dtype=torch.int64)
        return Batch(
            pad_sequence(mine, batch_first=True),
            torch.tensor([len(mel) for mel in mine]),
            none[:, None],
            none,
            list(TEXTS[rows]),
            [str(n) for n in range(4)][rows],
            1.0,
        )

    def batches() -> Any:
        yield batch(slice(0, 3)), Position()
        yield batch(slice(3, 4)), Position()

    return SimpleNamespace(batches=batches, mels=mels)


@torch.inference_mode()
def transcripts(loaded: LoadedModel, dev: Any, subnet: Any, penalty: float = 0.0) -> list[str]:
    """What greedy search finds in each utterance alone."""
    model, texts = loaded.model, []
    for mel in dev.mels:
        frames, lengths = model(mel[None], torch.tensor([len(mel)]), subnet)
        search = GreedySearch(TorchRuntime(model, subnet), blank_penalty=penalty)
        projected = model.project_frames(frames, subnet).numpy()
        state = search.advance(search.start(1), projected, lengths.numpy())
        texts.append(loaded.tokens.decode([token.id for token in search.best(state)[0]]))
    return texts


def errors(hypotheses: list[str]) -> int:
    output = jiwer.process_words(list(TEXTS), hypotheses)
    return output.insertions + output.deletions + output.substitutions


def counted(loaded: LoadedModel, dev: Any, subnets: Any, **how: Any) -> list[float]:
    settings = {"blank_penalty": 0.0, "by_ctc": False} | how
    found = word_error_counts(loaded.model, dev, loaded.tokens, subnets, **settings)
    return found.tolist()


def test_each_recognisers_errors_and_the_words_of_all(loaded: LoadedModel, dev: Any) -> None:
    subnets = trained_subnets(loaded.recipe)
    said = {name: transcripts(loaded, dev, subnet) for name, subnet in subnets.items()}
    assert all("".join(texts) for texts in said.values()), "a silent model would show nothing"
    expected = [errors(texts) for texts in said.values()]
    assert counted(loaded, dev, subnets) == [*expected, 11]
    swapped = dict(reversed(subnets.items()))
    assert counted(loaded, dev, swapped) == [*expected[::-1], 11]


def test_before_the_transducer_learns_the_ctc_head_is_measured(
    loaded: LoadedModel, dev: Any
) -> None:
    model, said = loaded.model, []
    with torch.inference_mode():
        for mel in dev.mels:
            frames, lengths = model(mel[None], torch.tensor([len(mel)]), SERVER)
            path = model.ctc_log_probs(frames)[0, : int(lengths)].argmax(dim=1)
            tokens = [int(t) for t in torch.unique_consecutive(path) if t != 0]
            said.append(loaded.tokens.decode(tokens))
    assert counted(loaded, dev, {"server": SERVER}, by_ctc=True) == [errors(said), 11]


@pytest.mark.parametrize("penalty", [-2.0, 1.5, 50.0])
def test_a_blank_penalty_is_taken_off_blanks_log_probability(
    loaded: LoadedModel, dev: Any, penalty: float
) -> None:
    """So it finds what a joiner with a lower bias for blank finds."""
    subnets = trained_subnets(loaded.recipe)
    other = copy.deepcopy(loaded.model)
    with torch.no_grad():
        other.joiner.out.bias[0] -= penalty
    biased = LoadedModel(other, loaded.recipe, loaded.tokens)
    assert counted(loaded, dev, subnets, blank_penalty=penalty) == counted(biased, dev, subnets)
    for subnet in subnets.values():
        ours = transcripts(loaded, dev, subnet, penalty)
        assert ours == transcripts(biased, dev, subnet)
        if penalty > 0:
            plain = transcripts(loaded, dev, subnet)
            assert len(" ".join(ours)) > len(" ".join(plain)), "blank loses, so more is said"
