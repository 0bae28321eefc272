"""The step of BEST-RQ: its targets, which gradients go where, and what is learnt."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dualmode.config import ModelConfig, PretrainingConfig, PruningConfig, Recipe
from dualmode.data.batches import Batch, hidden_of
from dualmode.data.spans import hide
from dualmode.errors import ModelError
from dualmode.features import Framing
from dualmode.losses.masked_prediction import masked_prediction_loss
from dualmode.model.best_rq import BestRq
from dualmode.model.directory import save_model
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.recipe_files import parse_recipe
from dualmode.training.best_rq import accumulate, judge, measure
from dualmode.training.initialize import start_from
from dualmode.training.objective import LossDenominators, Part, Step

CHUNKS = ChunkedContext(4, 8, 2)
DEVICE = Subnet(CHUNKS, 0.7)
SUBNETS = {"server": SERVER, "device": DEVICE}
RANDOM = {"codebooks": 2, "entries": 8, "width": 6}
CONFIG = PretrainingConfig.model_validate(
    {"objective": "best_rq", "mask_frames": 3, "random_quantizer": RANDOM}
)
MELS = (163, 120, 47)
FRAMING = Framing(40)
MODEL = ModelConfig(
    width=32,
    layers=2,
    heads=2,
    feed_forward=48,
    kernel_frames=5,
    subsampling_channels=4,
    dropout=0.0,
)


def make_net(frame_ms: int) -> BestRq:
    torch.manual_seed(0)
    model = MODEL.model_copy(update={"frame_ms": frame_ms})
    net = BestRq(model, PruningConfig(), CONFIG, 5)
    draw_masks(net.prunable(), net.sparsities)
    return net


@pytest.fixture
def net() -> BestRq:
    return make_net(40)


def make_batch(framing: Framing = FRAMING) -> Batch:
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
        hide([framing.frames(mels) for mels in MELS], rngs, CONFIG, noisy=True),
    )


def take(batch: Batch, rows: slice) -> Batch:
    return replace(
        batch,
        features=batch.features[rows],
        feature_lengths=batch.feature_lengths[rows],
        hidden=hidden_of(batch).of(torch.arange(len(MELS))[rows]),
    )


def scale_of(batch: Batch) -> LossDenominators:
    frames = sum(FRAMING.frames(mels) for mels in batch.feature_lengths.tolist())
    return LossDenominators(float(hidden_of(batch).valid.sum()), float(frames))


def gradients(net: BestRq, batch: Batch, step: Step) -> dict[str, torch.Tensor]:
    net.zero_grad()
    accumulate(net, batch, SUBNETS, step)
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_spans_are_those_of_wav2vec_without_distractors_and_noise() -> None:
    lengths = [FRAMING.frames(mels) for mels in MELS]
    ours, theirs = (
        hide(lengths, [np.random.default_rng(row) for row in range(3)], config, noisy=True)
        for config in (CONFIG, CONFIG.model_copy(update={"objective": "wav2vec2"}))
    )
    assert torch.equal(ours.frames[:, : theirs.frames.shape[1]], theirs.frames)
    assert torch.equal(ours.valid, theirs.valid)
    assert ours.noise is None
    assert theirs.noise is not None
    assert (ours.distractors.shape[2], theirs.distractors.shape[2]) == (0, CONFIG.distractors)


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_every_parameter_learns_and_the_quantizer_does_not(frame_ms: int) -> None:
    net, batch = make_net(frame_ms), make_batch(Framing(frame_ms))
    before = copy.deepcopy(net.quantizer.state_dict())
    found = gradients(net, batch, Step(0.5, scale_of(batch)))
    assert set(found) == {name for name, _ in net.named_parameters()}
    assert not [name for name, gradient in found.items() if not gradient.abs().sum() > 0]
    assert not [name for name in found if name.startswith("quantizer")]
    torch.optim.AdamW(net.parameters(), lr=0.1).step()
    for name, value in net.quantizer.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(net: BestRq) -> None:
    batch = make_batch()
    whole = gradients(net, batch, Step(0.5, scale_of(batch)))
    net.encoder.requires_grad_(False)
    found = gradients(net, batch, Step(0.5, scale_of(batch)))
    assert set(found) == {name for name in whole if not name.startswith("encoder.")}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, whole[name], msg=name)


def test_sharing_latents_gives_the_gradient_of_the_cross_entropy_of_masked_frames(
    net: BestRq,
) -> None:
    batch = make_batch()
    found = gradients(net, batch, Step(0.5, scale_of(batch)))
    where = hidden_of(batch)
    latents, lengths = net.latents(batch.features, batch.feature_lengths)
    targets = net.targets(batch.features, batch.feature_lengths, where.frames)[where.valid]
    masked = net.hide(latents, where.mask(latents.shape[1]))
    total = latents.new_zeros(())
    for subnet in SUBNETS.values():
        logits = net.logits(net.encode(masked, lengths, subnet), where.frames)[where.valid]
        chosen = logits.log_softmax(-1).gather(-1, targets[..., None])
        total = total - chosen.mean()
    net.zero_grad()
    total.backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_parts_of_a_batch_add_up_to_the_whole(net: BestRq) -> None:
    """Two processes, each with a part, together give the gradient of one with all of it."""
    batch = make_batch()
    whole = gradients(net, batch, Step(0.5, scale_of(batch)))
    alone = scale_of(batch)
    shared = LossDenominators(alone.targets / 2, alone.frames / 2, 2)
    parts = [take(batch, slice(0, 1)), take(batch, slice(1, 3))]
    found = [gradients(net, part, Step(0.5, shared)) for part in parts]
    for name, gradient in whole.items():
        mean = (found[0][name] + found[1][name]) / 2
        torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-3, msg=name)


def test_the_use_of_codes_is_that_of_all_processes(net: BestRq) -> None:
    batch = make_batch()
    alone = Step(0.5, scale_of(batch))
    part = take(batch, slice(0, 1))
    seen: list[torch.Tensor] = []

    def noted(local: torch.Tensor) -> torch.Tensor:
        seen.append(local)
        return local

    whole = accumulate(net, batch, SUBNETS, replace(alone, total=noted))
    both = accumulate(net, part, SUBNETS, replace(alone, total=lambda _: seen[0]))
    assert torch.equal(whole["codes"].perplexity, both["codes"].perplexity)  # type: ignore[union-attr]
    assert seen[0].sum() == 2 * hidden_of(batch).valid.sum()


def test_a_split_step_is_the_recognisers_own_batches_added_up(net: BestRq) -> None:
    batch = make_batch()
    heard = {"server": slice(0, 1), "device": slice(1, 3)}
    own = {name: take(batch, rows) for name, rows in heard.items()}
    parts = {name: Part(torch.arange(3)[rows], scale_of(own[name])) for name, rows in heard.items()}
    net.zero_grad()
    together = accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch), parts=parts))
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    for name, mine in own.items():
        losses = accumulate(net, mine, {name: SUBNETS[name]}, Step(0.5, scale_of(mine)))
        for term in ("cross_entropy", "accuracy"):
            torch.testing.assert_close(getattr(losses[name], term), getattr(together[name], term))
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-3, msg=name)


def test_who_hears_nothing_in_a_step_adds_nothing(net: BestRq) -> None:
    batch, everything = make_batch(), torch.arange(3)
    parts = {
        "server": Part(everything, scale_of(batch)),
        "device": Part(everything[:0], LossDenominators(1.0, 1.0)),
    }
    losses = accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch), parts=parts))
    assert losses["device"].cross_entropy == 0 < losses["server"].cross_entropy  # type: ignore[union-attr]


def test_predictions_do_not_see_what_the_mask_hides(net: BestRq) -> None:
    batch = make_batch()
    where = hidden_of(batch)
    latents, lengths = net.latents(batch.features, batch.feature_lengths)
    latents = latents.detach().requires_grad_()
    mask = where.mask(latents.shape[1])
    for subnet in SUBNETS.values():
        logits = net.logits(net.encode(net.hide(latents, mask), lengths, subnet), where.frames)
        (seen,) = torch.autograd.grad(logits[where.valid].square().sum(), latents)
        assert seen[mask].abs().sum() == 0
        assert seen[~mask].abs().sum() > 0


@pytest.mark.parametrize(("stride", "read"), [(4, 7), (8, 15)])
def test_device_predicts_from_its_window_alone(stride: int, read: int) -> None:
    net, batch = make_net(10 * stride), make_batch(Framing(10 * stride))
    features = batch.features[:1].clone().requires_grad_()
    latents, lengths = net.latents(features, batch.feature_lengths[:1])
    mask = hidden_of(batch).mask(latents.shape[1])[:1]
    encoded = net.encode(net.hide(latents, mask), lengths, DEVICE)
    for frame in (5, 11, 160 // stride - 18):
        logits = net.logits(encoded, torch.tensor([[frame]]))
        (seen,) = torch.autograd.grad(logits.square().sum(), features, retain_graph=True)
        heard = torch.nonzero(seen.abs().sum(dim=(0, 2))).flatten()
        last = (frame // CHUNKS.chunk + 1) * CHUNKS.chunk + CHUNKS.lookahead - 1
        assert int(heard.max()) <= stride * last + read - 1


def test_both_recognisers_learn_a_tiny_problem(net: BestRq) -> None:
    batch = make_batch()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(accumulate(net, batch, SUBNETS, Step(0.5, scale_of(batch))))
        optimizer.step()
    for name in SUBNETS:
        first, last = losses[0][name], losses[-1][name]
        assert float(last.cross_entropy) < 0.7 * float(first.cross_entropy)  # type: ignore[union-attr]
        assert last.accuracy > first.accuracy + 0.1  # type: ignore[union-attr]


def dev_of(batch: Batch) -> Any:
    return SimpleNamespace(batches=lambda: [(batch, None)])


def test_measured_figures_are_those_of_the_masked_frames(net: BestRq) -> None:
    batch = make_batch()
    where, scale = hidden_of(batch), scale_of(batch)
    values = judge(measure(net, dev_of(batch), SUBNETS), tuple(SUBNETS), CONFIG.random_quantizer, 1)
    losses = accumulate(net, batch, SUBNETS, Step(0.5, scale))
    for name in SUBNETS:
        for term in ("cross_entropy", "accuracy"):
            expected = float(getattr(losses[name], term))
            assert values.values[f"dev/{name}/{term}"] == pytest.approx(expected, rel=1e-4)
    targets = net.targets(batch.features, batch.feature_lengths, where.frames)[where.valid]
    shares = [torch.bincount(book, minlength=8) / len(book) for book in targets.T]
    most = float(sum(share.max() for share in shares)) / len(shares)
    assert values.values["dev/codes/most_frequent"] == pytest.approx(most)
    assert values.values["dev/codes/used_2"] == pytest.approx(float((shares[1] > 0).float().mean()))


def test_empty_predictions_and_unused_codes_are_named(net: BestRq) -> None:
    batch, config = make_batch(), CONFIG.random_quantizer
    net.classify.weight.data.zero_()
    net.classify.bias.data.zero_()
    told = judge(measure(net, dev_of(batch), SUBNETS), tuple(SUBNETS), config, 0.5).warnings
    assert [warning.split(" ")[0] for warning in told] == ["server", "device"]
    assert not judge(measure(net, dev_of(batch), SUBNETS), tuple(SUBNETS), config, 0.05).warnings
    net.quantizer.codewords[1] = net.quantizer.codewords[1, :1]
    told = judge(measure(net, dev_of(batch), SUBNETS), tuple(SUBNETS), config, 0.05).warnings
    assert len(told) == 1
    assert told[0].startswith("codebook 2 uses 1.0 of 8")


def test_the_loss_ignores_padding_and_averages_codebooks() -> None:
    torch.manual_seed(3)
    logits, targets = torch.randn(2, 4, 3, 5), torch.randint(5, (2, 4, 3))
    valid = torch.tensor([[True, True, False, False], [True, True, True, True]])
    found = masked_prediction_loss(logits, targets, valid)
    chosen = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(found.loss, -chosen[valid].mean(dim=-1).sum())
    right = (logits.argmax(-1) == targets).float()[valid].mean(dim=-1).sum()
    torch.testing.assert_close(found.correct, right)


def recipe(objective: str, **random: int) -> Recipe:
    tree = {
        "name": "small",
        "model": {"width": 16, "layers": 1, "heads": 2, "feed_forward": 24},
        "pretraining": {"objective": objective, "random_quantizer": {**RANDOM, **random}},
        "training": {"objective": "pretrain"},
    }
    return parse_recipe(tree, "test")


def build(of: Recipe, seed: int) -> BestRq:
    torch.manual_seed(seed)
    return BestRq(of.model, of.pruning, of.pretraining, seed)


def test_another_run_from_its_end_keeps_the_targets(tmp_path: Any) -> None:
    ours = recipe("best_rq")
    source, model = build(ours, 1), build(ours, 2)
    save_model(tmp_path / "first", source, ours)
    start_from(model, tmp_path / "first", ours)
    for name, value in source.state_dict().items():
        if not name.endswith(".blocks"):
            assert torch.equal(model.state_dict()[name], value), name
    with pytest.raises(ModelError, match=r"random_quantizer\.entries is 8 there and 16 here"):
        start_from(
            build(recipe("best_rq", entries=16), 3),
            tmp_path / "first",
            recipe("best_rq", entries=16),
        )


def test_from_the_other_objective_only_the_encoder_comes(tmp_path: Any) -> None:
    ours = recipe("best_rq")
    source = build(ours, 1)
    save_model(tmp_path / "first", source, recipe("wav2vec2"))
    model = build(ours, 2)
    before = copy.deepcopy(model.quantizer.state_dict())
    start_from(model, tmp_path / "first", ours)
    weight = model.encoder.subsampling.out.weight
    assert torch.equal(weight, source.encoder.subsampling.out.weight)
    for name, value in model.quantizer.state_dict().items():
        assert torch.equal(value, before[name])
