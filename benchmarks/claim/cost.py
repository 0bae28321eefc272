"""The cost of a training in floating-point operations, by torch's counter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.supernet_step import make_batch
from dualmode.config import Recipe
from dualmode.data.spans import hide
from dualmode.features import Framing
from dualmode.model.best_rq import BestRq
from dualmode.model.subnet import Subnet, device_subnet, trained_subnets
from dualmode.model.supernet import Supernet
from dualmode.model.wav2vec import Wav2Vec
from dualmode.training import best_rq, finetuning, pretraining
from dualmode.training.objective import LossDenominators, Part, Step
from dualmode.training.schedule import Weights
from dualmode.training.sharing import assign_rows

_SECONDS = 60.0  # 12 utterances, so that the shares of a split step are accurate
_ONE = LossDenominators(1.0, 1.0)


def flops_per_audio_second(recipe: Recipe) -> float:
    """FLOPs of forward and backward passes of all recognisers of a recipe, per second of audio.

    They are estimated on 5-second utterances of noise. Masked weights count as dense, because
    training computes with them. A sampled subnet counts as device. The optimiser, augmentation and
    element-wise operations are not counted.
    """
    training = recipe.training
    # Stages of a run begin with the transducer, and with device's share once the masks are fixed.
    start = training.transducer_start if training.objective == "finetune" else 0.0
    end = 1.0 if training.device_share_when_pruned is None else recipe.pruning.end
    marks = sorted({0.0, start, end, 1.0})
    return sum((b - a) * _stage(recipe, a >= start, a >= end) for a, b in pairwise(marks))


def _stage(recipe: Recipe, transducer: bool, pruned: bool) -> float:
    if recipe.training.objective == "pretrain":
        return _pretraining(recipe, pruned)
    weights = Weights(1.0, recipe.training.ctc_weight) if transducer else Weights(0.0, 1.0)
    return _finetuning(recipe, weights, pruned)


@contextmanager
def flop_counter() -> Iterator[FlopCounterMode]:
    """torch's counter with additional formulas.

    It has no formula for the fused attention of CPUs, which would count as 0. In the backward pass
    of a convolution it ignores groups, so that a depthwise one would count as a dense one.
    """
    formulas = {torch.ops.aten.convolution_backward: _convolution_backward}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with sdpa_kernel(SDPBackend.MATH), counter:
        yield counter


def _convolution_backward(
    grad_out: Sequence[int], _x: Sequence[int], weight: Sequence[int], *rest: Any, **_: Any
) -> int:
    """The FLOPs of the forward pass for each of input and weight that has a gradient."""
    wanted = rest[-1]  # whether input, weight and bias have gradients
    positions = grad_out[0] * math.prod(grad_out[2:])
    return 2 * positions * math.prod(weight) * sum(map(bool, wanted[:2]))


def _subnets(recipe: Recipe) -> dict[str, Subnet]:
    subnets = trained_subnets(recipe)
    if recipe.training.sampled_subnet:
        subnets["sampled"] = device_subnet(recipe)
    return subnets


def _parts(recipe: Recipe, names: list[str], rows: int, pruned: bool) -> dict[str, Part] | None:
    """The parts of the recognisers in a split step."""
    if recipe.training.step_sharing == "all" or len(names) == 1:
        return None
    assigned = assign_rows(rows, names, recipe.training, step=0, rank=0, world=1, pruned=pruned)
    return {name: Part(part, _ONE) for name, part in assigned.items()}


def _finetuning(recipe: Recipe, weights: Weights, pruned: bool = False) -> float:
    batch = make_batch(_SECONDS, recipe.text.vocabulary_size, torch.device("cpu"))
    model = Supernet(recipe.text.vocabulary_size, recipe.model, recipe.pruning)
    subnets, backward = _subnets(recipe), torch.Tensor.backward
    parts = _parts(recipe, list(subnets), len(batch.ids), pruned)
    with flop_counter() as counter:
        if parts is None:
            finetuning.accumulate(model, batch, subnets, recipe.training, weights, _ONE, backward)
        else:
            finetuning.accumulate_split(
                model, batch, subnets, parts, recipe.training, weights, backward
            )
    return float(counter.get_total_flops()) / batch.seconds


def _pretraining(recipe: Recipe, pruned: bool) -> float:
    batch = make_batch(_SECONDS, recipe.text.vocabulary_size, torch.device("cpu"))
    framing = Framing(recipe.model.frame_ms)
    frames = [framing.frames(length) for length in batch.feature_lengths.tolist()]
    rngs = [np.random.default_rng(row) for row in range(len(frames))]
    hidden = hide(frames, rngs, recipe.pretraining, noisy=True)
    subnets = _subnets(recipe)
    step = Step(0.5, _ONE, parts=_parts(recipe, list(subnets), len(batch.ids), pruned))
    masked, config = replace(batch, hidden=hidden), recipe.pretraining
    if config.objective == "best_rq":
        predictor = BestRq(recipe.model, recipe.pruning, config, recipe.training.seed)
        with flop_counter() as counter:
            best_rq.accumulate(predictor, masked, subnets, step)
    else:
        model = Wav2Vec(recipe.model, recipe.pruning, config)
        with flop_counter() as counter:
            pretraining.accumulate(model, masked, subnets, config, 1.0, step)
    return float(counter.get_total_flops()) / batch.seconds
