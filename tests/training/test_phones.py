"""The step of classifying phones: which gradients go where, and what is learnt."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dualmode.config import ModelConfig, PruningConfig
from dualmode.data.batches import Batch, phones_in
from dualmode.errors import DataError
from dualmode.features import Framing
from dualmode.model.masks import draw_masks
from dualmode.model.phones import PhoneClassifier
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.training.objective import LossDenominators, Part, Step
from dualmode.training.phones import accumulate, judge, measure

SUBNETS = {"server": SERVER, "device": Subnet(ChunkedContext(4, 8, 2), 0.7)}
MELS = (163, 120, 47)
PHONES = 5
FRAMING = Framing(80)
MODEL = ModelConfig(
    width=32,
    layers=2,
    heads=2,
    feed_forward=48,
    kernel_frames=5,
    subsampling_channels=4,
    frame_ms=80,
    dropout=0.0,
)


@pytest.fixture
def net() -> PhoneClassifier:
    torch.manual_seed(0)
    made = PhoneClassifier(MODEL, PruningConfig(), PHONES, 4)
    draw_masks(made.prunable(), made.sparsities)
    return made


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    frames = [FRAMING.frames(mels) for mels in MELS]
    phones = torch.randint(-1, PHONES, (len(MELS), max(frames), 4), generator=generator)
    for row, length in enumerate(frames):
        phones[row, length:] = -1
    return Batch(
        torch.randn(len(MELS), max(MELS), 80, generator=generator),
        torch.tensor(MELS),
        torch.zeros(len(MELS), 0, dtype=torch.int64),
        torch.zeros(len(MELS), dtype=torch.int64),
        [""] * len(MELS),
        [str(i) for i in range(len(MELS))],
        1.0,
        phones=phones,
    )


def take(batch: Batch, rows: slice) -> Batch:
    lengths = batch.feature_lengths[rows]
    return replace(
        batch, features=batch.features[rows], feature_lengths=lengths, phones=phones_in(batch)[rows]
    )


def scale_of(batch: Batch) -> LossDenominators:
    return LossDenominators(float((phones_in(batch) >= 0).sum()), 1.0)


def gradients(net: PhoneClassifier) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return found


def test_the_gradient_is_that_of_both_cross_entropies(net: PhoneClassifier) -> None:
    batch = make_batch()
    accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch)))
    found = gradients(net)
    targets = phones_in(batch)
    total = torch.zeros(())
    for subnet in SUBNETS.values():
        encoded, _ = net(batch.features, batch.feature_lengths, subnet)
        chosen = net.logits(encoded).log_softmax(-1)[targets >= 0]
        total = total - chosen.gather(-1, targets[targets >= 0][:, None]).mean()
    total.backward()
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert set(found) == {name for name, _ in net.named_parameters()}


def test_a_split_step_is_the_recognisers_own_batches_added_up(net: PhoneClassifier) -> None:
    batch = make_batch()
    heard = {"server": slice(0, 1), "device": slice(1, 3)}
    own = {name: take(batch, rows) for name, rows in heard.items()}
    parts = {name: Part(torch.arange(3)[rows], scale_of(own[name])) for name, rows in heard.items()}
    together = accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch), parts=parts))
    found = gradients(net)
    for name, mine in own.items():
        losses = accumulate(net, mine, {name: SUBNETS[name]}, Step(0.5, scale_of(mine)))
        for term in ("cross_entropy", "accuracy"):
            torch.testing.assert_close(getattr(losses[name], term), getattr(together[name], term))
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3, msg=name)


def test_who_hears_nothing_in_a_step_adds_nothing(net: PhoneClassifier) -> None:
    batch, everything = make_batch(), torch.arange(3)
    parts = {
        "server": Part(everything, scale_of(batch)),
        "device": Part(everything[:0], LossDenominators(1.0, 1.0)),
    }
    losses = accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch), parts=parts))
    assert losses["device"].cross_entropy == 0 < losses["server"].cross_entropy


def test_both_recognisers_learn_and_the_figures_of_a_validation_are_theirs(
    net: PhoneClassifier,
) -> None:
    batch = make_batch()
    dev: Any = SimpleNamespace(batches=lambda: [(batch, None)])
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    before = judge(measure(net, dev, SUBNETS, PHONES), tuple(SUBNETS)).values
    for _ in range(40):
        optimizer.zero_grad()
        accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch)))
        optimizer.step()
    after = judge(measure(net, dev, SUBNETS, PHONES), tuple(SUBNETS)).values
    losses = accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch)))
    for name in SUBNETS:
        assert after[f"dev/{name}/accuracy"] > before[f"dev/{name}/accuracy"] + 0.1
        for term in ("cross_entropy", "accuracy"):
            expected = float(getattr(losses[name], term))
            assert after[f"dev/{name}/{term}"] == pytest.approx(expected, rel=1e-4)
    targets = phones_in(batch)[phones_in(batch) >= 0]
    most = float(torch.bincount(targets).max()) / len(targets)
    assert after["dev/phones/most_frequent"] == pytest.approx(most)


def test_a_development_set_without_phones_says_so() -> None:
    with pytest.raises(DataError, match=r"pretraining\.phones"):
        judge(torch.zeros(2 * 2 + PHONES), ("server", "device"))


def test_a_batch_without_phones_says_so() -> None:
    with pytest.raises(DataError, match="classifying phones"):
        phones_in(replace(make_batch(), phones=None))
