"""A model on disk: a directory with config.yaml, model.safetensors, tokens.model and tokens.txt.

Masks are stored in model.safetensors, packed eight blocks to a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dualmode.config import Recipe
from dualmode.errors import ModelError, RecipeError, TextError
from dualmode.model.compact import Storage, compacted, restored
from dualmode.model.masks import pack_bits, prunable, unpack_bits
from dualmode.model.shipped import model_folder, shipped_models
from dualmode.model.subnet import Subnet, device_subnet
from dualmode.model.supernet import Supernet
from dualmode.recipe_files import load_stored_recipe
from dualmode.text import Tokens
from dualmode.whole_files import replace_text, replacing

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
CARD = "README.md"
FORMAT_VERSION = 2  # increased when older versions of dualmode cannot read the new format
_OLDEST_READER: dict[Storage, int] = {"float32": 1, "float16": 1, "int8": 2}  # format versions


@dataclass(frozen=True)
class LoadedModel:
    """A supernet ready to run, with its recipe and tokens."""

    model: Supernet
    recipe: Recipe
    tokens: Tokens

    @property
    def device_subnet(self) -> Subnet:
        return device_subnet(self.recipe)


def pack_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers on the CPU, with masks packed to bits."""
    masks = {f"{name}.blocks" for name in prunable(model)}
    return {
        key: pack_bits(value) if key in masks else value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }


def unpack_state(model: nn.Module, packed: dict[str, Tensor]) -> None:
    """Load the output of ``pack_state`` into ``model``.

    Raises:
        ModelError: names or shapes do not fit the model.
    """
    shapes = {f"{name}.blocks": layer.blocks.shape for name, layer in prunable(model).items()}
    try:
        state = {
            key: unpack_bits(value, shapes[key]) if key in shapes else value
            for key, value in packed.items()
        }
        model.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the weights do not fit the recipe: {error}") from None


def save_model(
    out: Path, model: nn.Module, recipe: Recipe, *, storage: Storage = "float32"
) -> None:
    """Write weights and recipe. The tokens are written when they are trained.

    Each file is written atomically, so a process that is killed leaves a usable model.

    Args:
        storage: type of the stored matrices, smaller for distribution; loading converts them back.
    """
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / CONFIG, recipe.to_yaml())
    written = {"format": f"dualmode-{_OLDEST_READER[storage]}"}
    replace_tensors(out / WEIGHTS, compacted(pack_state(model), storage), written)


def copy_model(source: str | Path, out: Path, *, storage: Storage = "float32") -> None:
    """Copy the files of a model directory that recognition needs, and its card if it has one.

    Raises:
        ModelError: ``source`` is not a model, or ``out`` is the same directory.
    """
    folder = model_folder(source)
    if folder.resolve() == out.resolve():
        raise ModelError(f"{out} is the model to copy: choose another folder")
    loaded = load_model(folder)
    loaded.tokens.save(out)
    save_model(out, loaded.model, loaded.recipe, storage=storage)
    if (folder / CARD).is_file():
        replace_text(out / CARD, (folder / CARD).read_text(encoding="utf-8"))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> LoadedModel:
    """Read a model directory, given by its path or by the name of a shipped model.

    Raises:
        ModelError: the directory is missing, incomplete or corrupt.
    """
    folder = model_folder(path)
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is available: use cpu")
    missing = [n for n in (CONFIG, WEIGHTS, "tokens.model") if not (folder / n).is_file()]
    if missing == ["tokens.model"] and is_pretrained(folder):
        raise ModelError(
            f"{folder} is pre-trained and not a recogniser yet; fine-tune it: "
            f"dualmode train RECIPE --init {folder} --out DIR"
        )
    if missing:
        raise ModelError(
            f"{folder} is not a model: {', '.join(missing)} missing; "
            f"use a directory that `dualmode train --out` wrote{_or_shipped()}"
        )
    recipe, packed = read_weights(folder)
    try:
        tokens = Tokens.load(folder)
    except TextError as error:
        raise ModelError(f"{folder} cannot be loaded: {error}") from None
    _check_shapes(folder, tokens, recipe, packed)
    model = Supernet(tokens.size, recipe.model, recipe.pruning)
    unpack_state(model, packed)
    return LoadedModel(model.to(device).eval(), recipe, tokens)


def _check_shapes(folder: Path, tokens: Tokens, recipe: Recipe, packed: dict[str, Tensor]) -> None:
    """Compare the recipe with the weights before a model is allocated: the recipe of an untrusted
    model may ask for more memory than there is.

    Raises:
        ModelError: names or shapes differ.
    """
    with torch.device("meta"):
        expected = pack_shapes(Supernet(tokens.size, recipe.model, recipe.pruning))
    shapes = {name: tuple(value.shape) for name, value in packed.items()}
    if shapes != expected:
        differing = [n for n in {**expected, **shapes} if expected.get(n) != shapes.get(n)]
        name = differing[0]
        raise ModelError(
            f"{folder}: the weights do not fit the recipe in {len(differing)} places; the first, "
            f"{name}, is {expected.get(name, 'absent')} in {CONFIG} and "
            f"{shapes.get(name, 'absent')} in {WEIGHTS}"
        )


def pack_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that :func:`pack_state` returns."""
    masks = {f"{name}.blocks" for name in prunable(model)}
    return {
        name: (-(-value.numel() // 8),) if name in masks else tuple(value.shape)
        for name, value in model.state_dict().items()
    }


def _or_shipped() -> str:
    names = ", ".join(shipped_models())
    return f", or the name of a shipped model: {names}" if names else ""


def is_pretrained(folder: Path) -> bool:
    """Whether pre-training wrote this directory: it has an encoder, but no tokens."""
    try:
        return load_stored_recipe(folder / CONFIG).training.objective == "pretrain"
    except RecipeError:
        return False


def read_weights(folder: Path) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe and the packed weights of a model directory, pre-trained or fine-tuned.

    Raises:
        ModelError: one of them is missing or corrupt.
    """
    try:
        _check_version(folder)
        recipe, stored = load_stored_recipe(folder / CONFIG), load_file(folder / WEIGHTS)
    except (RecipeError, SafetensorError, OSError) as error:
        raise ModelError(f"{folder} cannot be loaded: {error}") from None
    if "credits" not in recipe.model_fields_set:  # the last key of every stored recipe
        raise ModelError(f"{folder / CONFIG} is truncated: copy or download the model again")
    try:
        return recipe, restored(stored)
    except ModelError as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be loaded: {error}") from None


def _check_version(folder: Path) -> None:
    """Reject a directory whose format is newer than this version of dualmode.

    Raises:
        ModelError: the format is newer, or unknown.
        SafetensorError, OSError: the file cannot be read.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        written = (file.metadata() or {}).get("format", "dualmode-1")
    name, _, number = written.partition("-")
    if name != "dualmode" or not number.isdigit():
        raise ModelError(f"{folder / WEIGHTS} has the unknown format {written!r}")
    if int(number) > FORMAT_VERSION:
        raise ModelError(
            f"{folder} has the format {written}, and this version of dualmode reads up to "
            f"dualmode-{FORMAT_VERSION}: upgrade it (pip install --upgrade dualmode)"
        )


def replace_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically."""
    with replacing(path) as part:
        save_file(tensors, part, metadata)
