"""Floating-point operations of a step, counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.claim.cost import _finetuning, flops_per_audio_second
from dualmode.config import Recipe
from dualmode.training.schedule import Weights

WIDTH, INNER, LAYERS, KERNEL, CHANNELS, TOKENS = 64, 96, 2, 7, 4, 50
RECIPE = Recipe.model_validate(
    {
        "name": "cost",
        "text": {"vocabulary_size": TOKENS},
        "model": {
            "width": WIDTH,
            "layers": LAYERS,
            "heads": 2,
            "feed_forward": INNER,
            "kernel_frames": KERNEL,
            "subsampling_channels": CHANNELS,
            "predictor_width": 32,
            "joiner_width": 32,
            "dropout": 0.0,
        },
        "training": {"subnets": ["server"], "transducer_start": 0.4},
    }
)


def by_hand(frame_ms: int = 40) -> float:
    """Of server with its CTC head, a second of an utterance of 5 s: 500 mel frames."""
    rows, bins = 249, 39  # after the first convolution of stride 2
    frames, half = 124, 19  # after the second
    first = 9 * CHANNELS * rows * bins
    second = 9 * CHANNELS * CHANNELS * frames * half
    if frame_ms == 80:
        frames, half = 61, 9  # after the third
        second += 9 * CHANNELS * CHANNELS * frames * half
    projection = CHANNELS * half * WIDTH * frames
    # Two feed-forward modules, queries, keys, values and output, the gate and its output.
    linear = 4 * WIDTH * INNER + 4 * WIDTH**2 + 3 * WIDTH**2
    attention = 2 * frames * WIDTH
    layers = LAYERS * frames * (linear + attention + KERNEL * WIDTH)
    ctc = frames * WIDTH * TOKENS
    # A multiplication and an addition; forward, and backward to inputs and to weights. Features
    # need no gradient.
    return 2 * (3 * (second + projection + layers + ctc) + 2 * first) / 5


@pytest.mark.parametrize("frame_ms", [40, 80])
def test_the_count_of_the_ctc_part_is_that_by_hand(frame_ms: int) -> None:
    model = RECIPE.model.model_copy(update={"frame_ms": frame_ms})
    recipe = RECIPE.model_copy(update={"model": model})
    assert _finetuning(recipe, Weights(0.0, 1.0)) == pytest.approx(by_hand(frame_ms), rel=1e-6)


def test_codewords_of_the_random_quantiser_cost_the_same_each() -> None:
    def of(entries: int, objective: str = "best_rq") -> float:
        random = RECIPE.pretraining.random_quantizer.model_copy(update={"entries": entries})
        update = {"objective": objective, "random_quantizer": random}
        pretraining = RECIPE.pretraining.model_copy(update=update)
        training = RECIPE.training.model_copy(update={"objective": "pretrain"})
        return flops_per_audio_second(
            RECIPE.model_copy(update={"pretraining": pretraining, "training": training})
        )

    few, more, most = of(64), of(128), of(192)
    assert most - more == pytest.approx(more - few, rel=1e-6)
    assert most > more
    assert of(64, "wav2vec2") == of(192, "wav2vec2")


def test_the_share_of_device_changes_the_cost_from_the_end_of_pruning_on() -> None:
    def of(**training: object) -> float:
        both = {"subnets": ("server", "device"), "transducer_start": 0.4, **training}
        shared = RECIPE.training.model_copy(update=both)
        return flops_per_audio_second(RECIPE.model_copy(update={"training": shared}))

    before, after = of(device_share=0.5), of(device_share=0.75)
    assert before != after
    end = RECIPE.pruning.end
    weights = [Weights(0.0, 1.0), Weights(1.0, RECIPE.training.ctc_weight)]
    both = RECIPE.training.model_copy(update={"subnets": ("server", "device")})
    pruned = both.model_copy(update={"device_share": 0.75})
    first, last = (RECIPE.model_copy(update={"training": one}) for one in (both, pruned))
    expected = 0.4 * _finetuning(first, weights[0]) + (end - 0.4) * _finetuning(first, weights[1])
    expected += (1 - end) * _finetuning(last, weights[1])
    assert of(device_share_when_pruned=0.75) == pytest.approx(expected, rel=1e-3)


def test_stages_of_a_run_are_weighted_by_their_share() -> None:
    alone = _finetuning(RECIPE, Weights(0.0, 1.0))
    full = _finetuning(RECIPE, Weights(1.0, RECIPE.training.ctc_weight))
    assert full > alone
    assert flops_per_audio_second(RECIPE) == pytest.approx(0.4 * alone + 0.6 * full, rel=1e-3)
