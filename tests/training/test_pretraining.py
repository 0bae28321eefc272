"""The pre-training step: who sees what, which gradients go where, and what is said of collapse."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dualmode.config import ModelConfig, PretrainingConfig, PruningConfig
from dualmode.data.batches import Batch
from dualmode.data.spans import Hidden, hide
from dualmode.features import Framing
from dualmode.losses.contrastive import contrastive_loss, diversity_loss
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.model.wav2vec import Wav2Vec
from dualmode.training.objective import LossDenominators, Part, Step
from dualmode.training.pretraining import accumulate, judge, measure

CHUNKS = ChunkedContext(4, 8, 2)
DEVICE = Subnet(CHUNKS, 0.7)
SUBNETS = {"server": SERVER, "device": DEVICE}
CONFIG = PretrainingConfig(
    codebooks=2, entries=8, code_width=12, projection_width=10, distractors=6, mask_frames=3
)
MELS = (163, 120, 47)
FRAMING = Framing(40)
TEMPERATURE = 0.8


def make_net(frame_ms: int) -> Wav2Vec:
    torch.manual_seed(0)
    model = ModelConfig(
        width=32,
        layers=2,
        heads=2,
        feed_forward=48,
        kernel_frames=5,
        frame_ms=frame_ms,
        subsampling_channels=4,
        dropout=0.0,
    )
    net = Wav2Vec(model, PruningConfig(), CONFIG)
    draw_masks(net.prunable(), net.sparsities)
    return net


@pytest.fixture
def net() -> Wav2Vec:
    return make_net(40)


def make_batch(noisy: bool = True, framing: Framing = FRAMING) -> Batch:
    generator = torch.Generator().manual_seed(1)
    rows = len(MELS)
    rngs = [np.random.default_rng(seed) for seed in range(rows)]
    return Batch(
        torch.randn(rows, max(MELS), 80, generator=generator),
        torch.tensor(MELS),
        torch.zeros(rows, 0, dtype=torch.int64),
        torch.zeros(rows, dtype=torch.int64),
        [""] * rows,
        [str(i) for i in range(rows)],
        1.0,
        hide([framing.frames(mels) for mels in MELS], rngs, CONFIG, noisy=noisy),
    )


def hidden(batch: Batch) -> Hidden:
    assert batch.hidden is not None
    return batch.hidden


def scale_of(batch: Batch) -> LossDenominators:
    frames = sum(FRAMING.frames(mels) for mels in batch.feature_lengths.tolist())
    return LossDenominators(float(hidden(batch).valid.sum()), float(frames))


def gradients(net: Wav2Vec, batch: Batch, step: Step) -> dict[str, torch.Tensor]:
    net.zero_grad()
    accumulate(net, batch, SUBNETS, CONFIG, TEMPERATURE, step)
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_every_parameter_learns_quantizer_and_front_end_too(net: Wav2Vec) -> None:
    batch = make_batch()
    found = gradients(net, batch, Step(0.5, scale_of(batch)))
    assert set(found) == {name for name, _ in net.named_parameters()}
    silent = [name for name, gradient in found.items() if not gradient.abs().sum() > 0]
    assert not silent
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(net: Wav2Vec) -> None:
    batch = make_batch()
    whole = gradients(net, batch, Step(0.5, scale_of(batch)))
    net.encoder.requires_grad_(False)
    found = gradients(net, batch, Step(0.5, scale_of(batch)))
    net.encoder.requires_grad_(True)
    assert set(found) == {name for name in whole if not name.startswith("encoder.")}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, whole[name], msg=name)


def test_sharing_latents_and_targets_gives_the_gradient_of_the_whole_loss(net: Wav2Vec) -> None:
    batch = make_batch()
    found = gradients(net, batch, Step(0.5, scale_of(batch)))
    where, denominators = hidden(batch), scale_of(batch)
    latents, lengths = net.latents(batch.features, batch.feature_lengths)
    codes = net.quantize(latents, where.frames, where.noise, TEMPERATURE)
    masked = net.hide(latents, where.mask(latents.shape[1]))
    total = latents.new_zeros(())
    for subnet in SUBNETS.values():
        predictions = net.predictions(net.encode(masked, lengths, subnet), where.frames)
        total = (
            total
            + contrastive_loss(
                predictions,
                net.targets(codes),
                codes.entries,
                where.distractors,
                where.valid,
                CONFIG.similarity_temperature,
            ).loss
            / denominators.targets
        )
    diversity = diversity_loss(codes.probabilities[where.valid].mean(dim=0))
    real = torch.cat([latents[row, :length] for row, length in enumerate(lengths.tolist())])
    penalty = real.square().mean()
    total = total + 2 * (CONFIG.diversity_weight * diversity + CONFIG.penalty_weight * penalty)
    net.zero_grad()
    total.backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_parts_of_a_batch_add_up_to_the_whole(net: Wav2Vec) -> None:
    """Two processes, each with a part, together give the gradient of one with all of it; the
    diversity of codes is that of all of them, too."""
    batch = make_batch()
    whole = gradients(net, batch, Step(0.5, scale_of(batch)))
    parts = [take(batch, slice(0, 1)), take(batch, slice(1, 3))]
    sums = [probabilities(net, part) for part in parts]
    alone = scale_of(batch)
    shared = LossDenominators(alone.targets / 2, alone.frames / 2, 2)
    found = [gradients(net, part, Step(0.5, shared, total=lambda _: sum(sums))) for part in parts]
    for name, gradient in whole.items():
        mean = (found[0][name] + found[1][name]) / 2
        torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-3, msg=name)


def test_who_hears_nothing_in_a_step_adds_nothing(net: Wav2Vec) -> None:
    batch, everything = make_batch(), torch.arange(3)
    parts = {
        "server": Part(everything, scale_of(batch)),
        "device": Part(everything[:0], LossDenominators(1.0, 1.0)),
    }
    net.zero_grad()
    losses = accumulate(
        net, batch, SUBNETS, CONFIG, TEMPERATURE, Step(0.5, scale_of(batch), parts=parts)
    )
    assert losses["device"].contrastive == 0 < losses["server"].contrastive
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_a_split_step_is_the_recognisers_own_batches_added_up(net: Wav2Vec) -> None:
    """All but the diversity of codes, which is that of the whole batch."""
    batch, config = make_batch(), CONFIG.model_copy(update={"diversity_weight": 0.0})
    heard = {"server": slice(0, 1), "device": slice(1, 3)}
    own = {name: take(batch, rows) for name, rows in heard.items()}
    parts = {name: Part(torch.arange(3)[rows], scale_of(own[name])) for name, rows in heard.items()}
    net.zero_grad()
    step = Step(0.5, scale_of(batch), parts=parts)
    together = accumulate(net, batch, SUBNETS, config, TEMPERATURE, step)
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    for name, mine in own.items():
        alone = Step(0.5, scale_of(mine))
        losses = accumulate(net, mine, {name: SUBNETS[name]}, config, TEMPERATURE, alone)
        torch.testing.assert_close(losses[name].contrastive, together[name].contrastive)
        assert losses[name].accuracy == together[name].accuracy
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-3, msg=name)


def take(batch: Batch, rows: slice) -> Batch:
    where = hidden(batch)
    assert where.noise is not None
    part = Hidden(where.frames[rows], where.valid[rows], where.distractors[rows], where.noise[rows])
    return replace(
        batch,
        features=batch.features[rows],
        feature_lengths=batch.feature_lengths[rows],
        hidden=part,
    )


def probabilities(net: Wav2Vec, batch: Batch) -> torch.Tensor:
    where = hidden(batch)
    latents, _ = net.latents(batch.features, batch.feature_lengths)
    codes = net.quantize(latents, where.frames, where.noise, TEMPERATURE)
    return codes.probabilities[where.valid].sum(dim=0).detach()


def test_targets_do_not_see_the_mask_and_predictions_not_what_it_hides(net: Wav2Vec) -> None:
    batch = make_batch()
    where = hidden(batch)
    latents, lengths = net.latents(batch.features, batch.feature_lengths)
    latents = latents.detach().requires_grad_()
    targets = net.targets(net.quantize(latents, where.frames, where.noise, TEMPERATURE))
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(targets.sum(), net.hidden, retain_graph=True)
    (seen,) = torch.autograd.grad(targets[where.valid].square().sum(), latents)
    mask = where.mask(latents.shape[1])
    assert seen[mask].abs().sum() > 0
    assert seen[~mask].abs().sum() == 0
    predicted = net.predictions(net.encode(net.hide(latents, mask), lengths, SERVER), where.frames)
    (seen,) = torch.autograd.grad(predicted[where.valid].square().sum(), latents)
    assert seen[mask].abs().sum() == 0
    assert seen[~mask].abs().sum() > 0


@pytest.mark.parametrize(("stride", "read"), [(4, 7), (8, 15)])
def test_device_predicts_from_its_window_alone(stride: int, read: int) -> None:
    net, batch = make_net(10 * stride), make_batch(framing=Framing(10 * stride))
    features = batch.features[:1].clone().requires_grad_()
    latents, lengths = net.latents(features, batch.feature_lengths[:1])
    mask = hidden(batch).mask(latents.shape[1])[:1]
    encoded = net.encode(net.hide(latents, mask), lengths, DEVICE)
    for frame in (5, 11, 160 // stride - 18):
        at = torch.tensor([[frame]])
        (seen,) = torch.autograd.grad(
            net.predictions(encoded, at).square().sum(), features, retain_graph=True
        )
        heard = torch.nonzero(seen.abs().sum(dim=(0, 2))).flatten()
        last = (frame // CHUNKS.chunk + 1) * CHUNKS.chunk + CHUNKS.lookahead - 1
        assert int(heard.max()) <= stride * last + read - 1


def test_a_padded_batch_gives_the_losses_of_its_rows(net: Wav2Vec) -> None:
    batch = make_batch()
    together = accumulate(
        net, batch, SUBNETS, CONFIG, TEMPERATURE, Step(0.5, LossDenominators(1.0, 1.0))
    )
    rows = [
        accumulate(
            net,
            take(batch, slice(row, row + 1)),
            SUBNETS,
            CONFIG,
            TEMPERATURE,
            Step(0.5, LossDenominators(1.0, 1.0)),
        )
        for row in range(len(MELS))
    ]
    for name in SUBNETS:
        total = sum(row[name].contrastive for row in rows)  # type: ignore[union-attr]
        torch.testing.assert_close(together[name].contrastive, total, rtol=1e-4, atol=1e-3)


def sums(counts: torch.Tensor, negative: float) -> torch.Tensor:
    frames = float(counts[0].sum())
    one = [3.0 * frames, 0.5 * frames, 0.95 * frames, negative * frames]
    return torch.cat([torch.tensor([frames, *one, *one], dtype=torch.float64), counts.flatten()])


def test_collapse_is_named_with_what_to_change() -> None:
    even = torch.full((2, 8), 10.0, dtype=torch.float64)
    healthy = judge(sums(even, 0.1), tuple(SUBNETS), CONFIG, 0.5)
    assert not healthy.warnings
    assert healthy.values["dev/codes/perplexity_1"] == pytest.approx(8)
    assert healthy.values["dev/codes/used_2"] == 1
    assert healthy.values["dev/device/accuracy"] == pytest.approx(0.5)
    single = even.clone()
    single[1] = torch.tensor([80.0, 0, 0, 0, 0, 0, 0, 0])
    (warning,) = judge(sums(single, 0.1), tuple(SUBNETS), CONFIG, 0.5).warnings
    assert "codebook 2 has collapsed" in warning
    assert "pretraining.diversity_weight" in warning


def test_predictions_that_are_one_vector_have_collapsed_whichever_it_is(net: Wav2Vec) -> None:
    dev: Any = SimpleNamespace(batches=lambda: [(make_batch(noisy=False), None)])
    torch.manual_seed(7)
    net.from_frames.weight.data.zero_()
    net.from_frames.bias.data.normal_()
    found = judge(measure(net, dev, SUBNETS, CONFIG), tuple(SUBNETS), CONFIG, 0.5)
    told = [warning for warning in found.warnings if "predictions have collapsed" in warning]
    assert [warning.split("'")[0] for warning in told] == ["server", "device"]
    assert abs(found.values["dev/server/positive_similarity"]) < 0.9
    begun = judge(measure(net, dev, SUBNETS, CONFIG), tuple(SUBNETS), CONFIG, 0.05)
    assert not [warning for warning in begun.warnings if "predictions" in warning]
