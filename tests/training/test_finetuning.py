"""The supernet step: its gradients are those of its losses, whatever way they are summed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dualmode.config import ModelConfig, PruningConfig, TrainingConfig
from dualmode.data.batches import Batch
from dualmode.model.masks import draw_masks
from dualmode.model.subnet import SERVER, ChunkedContext, Subnet
from dualmode.model.supernet import Supernet
from dualmode.training.finetuning import accumulate, accumulate_split
from dualmode.training.objective import LossDenominators, Part
from dualmode.training.schedule import Weights

DEVICE = Subnet(ChunkedContext(4, 8, 2), 0.7)


@pytest.fixture
def net() -> Supernet:
    torch.manual_seed(0)
    model = ModelConfig(
        width=32,
        layers=1,
        heads=2,
        feed_forward=48,
        kernel_frames=5,
        subsampling_channels=4,
        predictor_width=16,
        joiner_width=16,
        dropout=0.0,
    )
    net = Supernet(20, model, PruningConfig())
    draw_masks(net.prunable(), net.sparsities)
    return net


def make_batch(rows: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([83, 60, 47])[:rows]
    token_lengths = torch.tensor([5, 3, 0])[:rows]
    tokens = torch.randint(1, 20, (rows, 5), generator=generator)
    for row, count in enumerate(token_lengths.tolist()):
        tokens[row, count:] = 0
    return Batch(
        torch.randn(rows, 83, 80, generator=generator),
        lengths,
        tokens,
        token_lengths,
        ["text"] * rows,
        [str(i) for i in range(rows)],
        1.0,
    )


def take(batch: Batch, rows: list[int]) -> Batch:
    names = ("features", "feature_lengths", "tokens", "token_lengths")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in names})


def gradients(net, batch, config, subnets=(DEVICE,), weights=None):
    net.zero_grad()
    weights = weights or Weights(1.0, config.ctc_weight)
    named = {"server": SERVER} | dict(zip(("device", "sampled"), subnets, strict=False))
    losses = accumulate(
        net,
        batch,
        named,
        config,
        weights,
        LossDenominators(8.0, 40.0),
        lambda loss: loss.backward(),
    )
    return losses, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("distillation", ["none", "ctc", "lattice"])
def test_every_parameter_learns_and_every_loss_is_finite(net, distillation):
    config = TrainingConfig(distillation=distillation)
    losses, found = gradients(net, make_batch(), config)
    assert set(found) == {name for name, _ in net.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert set(losses) == {"server", "device"}
    assert losses["server"].distillation == 0
    assert (losses["device"].distillation > 0) == (distillation != "none")


def test_sharing_the_latents_gives_the_gradient_of_two_separate_passes(net):
    config = TrainingConfig(distillation="none")
    _, together = gradients(net, make_batch(), config)
    _, server_twice = gradients(net, make_batch(), config, subnets=(SERVER,))
    _, device_too = gradients(net, make_batch(), config, subnets=(DEVICE, DEVICE))
    for name, gradient in together.items():
        # server + device = (2 server) / 2 + ((server + 2 device) - (2 server) / 2) / 2
        server = server_twice[name] / 2
        device = (device_too[name] - server) / 2
        torch.testing.assert_close(gradient, server + device, atol=1e-5, rtol=1e-3)


def test_distillation_teaches_the_device_and_not_the_server(net):
    plain = TrainingConfig(distillation="none", ctc_weight=0.0, simple_weight=0.0)
    taught = plain.model_copy(update={"distillation": "ctc", "distillation_weight": 1.0})
    _, without = gradients(net, make_batch(), plain)
    _, with_it = gradients(net, make_batch(), taught)
    difference = with_it["encoder.norm.gain"] - without["encoder.norm.gain"]
    assert difference[1].abs().max() > 1e-6  # gains of chunked context
    assert difference[0].abs().max() < 1e-7  # gains of full context


def test_parts_of_a_batch_add_up_to_the_whole(net):
    """What two processes compute, summed, is what one computes on both parts."""
    config = TrainingConfig(distillation="ctc")
    batch = make_batch(2)
    _, whole = gradients(net, batch, config)
    parts = [gradients(net, take(batch, [row]), config)[1] for row in range(2)]
    for name, gradient in whole.items():
        total = parts[0][name] + parts[1][name]
        torch.testing.assert_close(gradient, total, atol=1e-5, rtol=1e-3)


def test_a_sampled_subnet_is_reported_beside_the_device(net):
    other = Subnet(ChunkedContext(8, 4, 0), 0.0)
    losses, _ = gradients(net, make_batch(), TrainingConfig(), subnets=(DEVICE, other))
    alone, _ = gradients(net, make_batch(), TrainingConfig(), subnets=(other,))
    plain, _ = gradients(net, make_batch(), TrainingConfig())
    assert list(losses) == ["server", "device", "sampled"]
    for term in ("transducer", "simple", "ctc", "distillation"):
        sampled, device = (getattr(losses[name], term) for name in ("sampled", "device"))
        torch.testing.assert_close(sampled, getattr(alone["device"], term))
        torch.testing.assert_close(device, getattr(plain["device"], term))
        assert sampled != device


def test_without_the_transducer_only_encoder_and_ctc_head_learn(net):
    losses, found = gradients(net, make_batch(), TrainingConfig(), weights=Weights(0.0, 1.0))
    assert losses["server"].transducer == losses["device"].simple == 0
    assert losses["device"].ctc > 0
    assert {name.split(".")[0] for name in found} == {"encoder", "ctc"}


SUBNETS = {"server": SERVER, "device": DEVICE, "sampled": Subnet(ChunkedContext(8, 8, 0), 0.0)}


def split(net, batch, rows, config, weights=None):
    """Losses and gradients of a split step, and what each recogniser's sums are divided by."""
    parts = {
        name: Part(torch.tensor(mine, dtype=torch.int64), LossDenominators(5.0 + len(mine), 30.0))
        for name, mine in rows.items()
    }
    net.zero_grad()
    weights = weights or Weights(0.7, 0.4)
    named = {name: SUBNETS[name] for name in rows}
    losses = accumulate_split(net, batch, named, parts, config, weights, torch.Tensor.backward)
    return losses, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def own_batches(net, batch, rows, config):
    """The gradients of each recogniser alone on what it hears, added up."""
    net.zero_grad()
    losses = {}
    for name, mine in rows.items():
        if mine:
            losses |= accumulate(
                net,
                take(batch, mine),
                {name: SUBNETS[name]},
                config,
                Weights(0.7, 0.4),
                LossDenominators(5.0 + len(mine), 30.0),
                torch.Tensor.backward,
            )
    return losses, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("scope", ["encoder", "all"])
@pytest.mark.parametrize(
    "rows",
    [
        {"server": [0, 2], "device": [1]},
        {"server": [2], "device": [0], "sampled": [1]},
        {"server": [0, 1, 2], "device": []},
    ],
)
def test_a_split_step_is_the_recognisers_own_batches_added_up(net, rows, scope):
    net.pruning = net.pruning.model_copy(update={"scope": scope})
    draw_masks(net.prunable(), net.sparsities)
    config = TrainingConfig(step_sharing="split")
    batch = make_batch()
    losses, found = split(net, batch, rows, config)
    expected_losses, expected = own_batches(net, batch, rows, config)
    assert set(found) == set(expected) == {name for name, _ in net.named_parameters()}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    assert list(losses) == list(rows)
    for name, mine in rows.items():
        if mine:
            torch.testing.assert_close(losses[name].transducer, expected_losses[name].transducer)
            torch.testing.assert_close(losses[name].ctc, expected_losses[name].ctc)
        else:
            assert losses[name].transducer == losses[name].ctc == 0


@pytest.mark.parametrize("distillation", ["ctc", "lattice"])
def test_in_a_taught_split_device_learns_from_server_what_it_would_in_a_whole_step(
    net, distillation
):
    config = TrainingConfig(
        step_sharing="split_taught", distillation=distillation, distillation_weight=1.0
    )
    alone = config.model_copy(update={"step_sharing": "split"})
    rows = {"server": [0], "device": [1, 2]}
    losses, taught = split(net, make_batch(), rows, config)
    _, untaught = split(net, make_batch(), rows, alone)
    assert losses["server"].distillation == 0
    shared = LossDenominators(7.0, 30.0)
    batch, weights = take(make_batch(), [1, 2]), Weights(0.7, 0.4)
    both = {"server": SERVER, "device": DEVICE}
    whole = accumulate(net, batch, both, config, weights, shared, torch.Tensor.backward)
    torch.testing.assert_close(losses["device"].distillation, whole["device"].distillation)
    gain = taught["encoder.norm.gain"] - untaught["encoder.norm.gain"]
    assert gain[1].abs().max() > 1e-6  # gains of chunked context
    assert gain[0].abs().max() < 1e-7  # gains of full context


def test_a_split_step_without_the_transducer_trains_encoder_and_ctc_head(net):
    rows = {"server": [0, 2], "device": [1]}
    losses, found = split(
        net, make_batch(), rows, TrainingConfig(step_sharing="split"), Weights(0.0, 1.0)
    )
    assert losses["server"].transducer == losses["device"].simple == 0
    assert {name.split(".")[0] for name in found} == {"encoder", "ctc"}


def test_without_distillation_nobody_is_taught_and_no_teacher_runs(net, monkeypatch):
    config = TrainingConfig(step_sharing="split_taught", distillation="none")
    encoded = []
    encode = net.encode
    monkeypatch.setattr(net, "encode", lambda *args: encoded.append(1) or encode(*args))
    losses, _ = split(net, make_batch(), {"server": [0], "device": [1, 2]}, config)
    assert losses["device"].distillation == 0
    assert len(encoded) == 2
