"""Start a run from an existing model: a pre-trained encoder or a recogniser."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from dualmode.config import Recipe
from dualmode.errors import ModelError
from dualmode.model.backbone import Backbone
from dualmode.model.directory import pack_state, read_weights, unpack_state
from dualmode.model.layers import Norms
from dualmode.model.masks import measured_sparsity
from dualmode.model.subnet import trained_subnets
from dualmode.text import TOKENS_MODEL

_ENCODER_KEYS = (
    "width",
    "layers",
    "heads",
    "feed_forward",
    "kernel_frames",
    "subsampling_channels",
    "norms",
)
_RECOGNISER_KEYS = ("predictor_width", "context_tokens", "joiner_width")
_CONTRAST_KEYS = ("codebooks", "entries", "code_width", "projection_width")
_RANDOM_QUANTIZER_KEYS = ("codebooks", "entries", "width", "stacked_mels")
_MASK_KEYS = ("block_outputs", "block_inputs")
# Parts that do not fit a model with frames of another length.
_FRAME_LENGTH_PARTS = ("encoder.subsampling.third", "encoder.subsampling.out")
# Keys that need every weight, or every frame, of the model to start from.
_SAME_FRAME_KEYS = (
    "weight_pull",
    "output_pull",
    "freeze_encoder_steps",
    "freeze_subsampling_steps",
)


class Start(NamedTuple):
    """What a run takes from another model.

    Attributes:
        sparsity_kept: share of the recipe's target sparsity that the masks have: 0 for new masks.
        new: parts that the encoder has but did not take, because the frames have another length.
    """

    sparsity_kept: float
    new: tuple[str, ...]


def recognises(folder: Path) -> bool:
    """Whether a model directory contains a recogniser with tokens, not only an encoder."""
    return (folder / TOKENS_MODEL).is_file()


def start_from(model: Backbone, folder: Path, recipe: Recipe) -> Start:
    """Initialise ``model`` from a model directory: the encoder with its feature statistics, all
    weights if both have the same objective, and the masks if the recipe keeps them.

    If the frames of the two have different lengths, the last layers of the subsampling are not
    taken.

    Raises:
        ModelError: the directory cannot be read, or its shapes differ from the recipe's.
    """
    source, packed = read_weights(folder)
    keep = recipe.init.masks == "keep"
    whole = source.training.objective == recipe.training.objective
    if recipe.training.objective == "pretrain":
        whole = whole and source.pretraining.objective == recipe.pretraining.objective
    _check(folder, source, recipe, whole, keep)
    state = pack_state(model)
    same = source.model.frame_ms == recipe.model.frame_ms
    left = () if same else _FRAME_LENGTH_PARTS
    new = tuple(part for part in left if f"{part}.weight" in state)
    state |= {
        name: value
        for name, value in packed.items()
        if (whole or name.startswith("encoder."))
        and (keep or not name.endswith(".blocks"))
        and name.rpartition(".")[0] not in left
    }
    unpack_state(model, state)
    _share_norms(model, {subnet.streams for subnet in trained_subnets(source).values()})
    if not keep:
        return Start(0.0, new)
    reached = measured_sparsity(model.prunable(), len(model.sparsities) - 1)
    return Start(min(1.0, reached / model.sparsities[-1]), new)


def _share_norms(model: Backbone, streamed: set[bool]) -> None:
    """If only full or only chunked context was trained, start both sets of norms from the trained
    one."""
    if len(streamed) == 1:
        (learnt,) = streamed
        for norms in (module for module in model.modules() if isinstance(module, Norms)):
            for sets in (norms.gain.data, norms.bias.data):
                sets[:] = sets[min(int(learnt), len(sets) - 1)].clone()


def _check(folder: Path, source: Recipe, recipe: Recipe, whole: bool, keep: bool) -> None:
    compared: list[tuple[str, tuple[str, ...]]] = [("model", _ENCODER_KEYS)]
    if whole and recipe.training.objective == "finetune":
        compared.append(("model", _RECOGNISER_KEYS))
    elif whole and recipe.pretraining.objective == "best_rq":
        compared.append(("pretraining.random_quantizer", _RANDOM_QUANTIZER_KEYS))
    elif whole and recipe.pretraining.objective == "phones":
        compared.append(("pretraining", ("phones",)))
    elif whole:
        compared.append(("pretraining", _CONTRAST_KEYS))
    if keep:
        compared.append(("pruning", _MASK_KEYS))
    pairs: list[tuple[str, Any, Any]] = [
        (f"{section}.{key}", *map(attrgetter(f"{section}.{key}"), (source, recipe)))
        for section, keys in compared
        for key in keys
    ]
    if keep:
        counts = (len(source.pruning.sparsities), len(recipe.pruning.sparsities))
        pairs.append(("number of pruning.sparsities", *counts))
    differing = [f"{key} is {a} there and {b} here" for key, a, b in pairs if a != b]
    if differing:
        raise ModelError(
            f"{folder} does not fit the recipe: {'; '.join(differing)}. Make them equal with --set"
            + ("" if not keep else ", or start with --set init.masks=fresh")
        )
    given = [f"init.{key}" for key in _SAME_FRAME_KEYS if getattr(recipe.init, key)]
    if given and source.model.frame_ms != recipe.model.frame_ms:
        raise ModelError(
            f"{folder} has frames of {source.model.frame_ms} ms and the recipe of "
            f"{recipe.model.frame_ms} ms, so a part of the subsampling is new and has to train: "
            f"set {', '.join(given)} to 0, or make model.frame_ms equal with --set"
        )
