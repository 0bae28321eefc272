"""Read recipes, shipped ones by name and others by path, with ``section.key=value`` overrides.

The resolved recipe is stored with the model.
"""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dualmode.config import Recipe
from dualmode.errors import RecipeError

_LARGEST_BYTES = 1 << 20
_LOG = logging.getLogger(__name__)


def shipped_recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("dualmode") / "recipes"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_recipe(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by its shipped name or its path, and apply ``section.key=value`` overrides.

    Raises:
        RecipeError: the recipe does not exist or is not YAML, or a key is unknown or out of range.
    """
    tree = _migrated(_read_tree(source))
    for override in overrides:
        _apply(tree, override)
    return parse_recipe(tree, str(source))


def load_stored_recipe(path: Path) -> Recipe:
    """Read the recipe of a model directory, written by this or another minor version.

    Keys that this version does not know are ignored with a warning; keys that are missing get
    their defaults.

    Raises:
        RecipeError: the file is missing or not YAML, or a value is out of range.
    """
    tree = _migrated(_read_tree(path))
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
    for keys in unknown:
        node: Any = tree
        for key in keys[:-1]:
            node = node[key]
        del node[keys[-1]]
        name = ".".join(str(key) for key in keys)
        _LOG.warning("%s: %s is unknown to this version of dualmode and ignored", path, name)
    return parse_recipe(tree, str(path))


def _migrated(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with renamed sections under their new names."""
    training = tree.get("training")
    if isinstance(training, dict) and "device" in training and "device_subnet" not in training:
        training["device_subnet"] = training.pop("device")
    return tree


def parse_recipe(tree: dict[str, Any], source: str) -> Recipe:
    """Validate a recipe given as a tree of dicts; ``source`` names it in messages."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in e['loc']) or '(recipe)'}: {e['msg']}"
            for e in error.errors()
        ]
        raise RecipeError(f"{source} is not a valid recipe:\n" + "\n".join(lines)) from None


def _read_tree(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise RecipeError(f"{path}: no such recipe file")
        text = _read_text(path)
    elif str(source) in shipped_recipes():
        shipped = resources.files("dualmode") / "recipes" / f"{source}.yaml"
        text = shipped.read_text(encoding="utf-8")
    else:
        names = ", ".join(shipped_recipes())
        raise RecipeError(f"no recipe {str(source)!r}: give a .yaml file or one of {names}")
    tree = _parsed(text, str(source))
    if not isinstance(tree, dict):
        raise RecipeError(f"{source} must be a mapping with sections such as model and training")
    return tree


def _read_text(path: Path) -> str:
    if path.stat().st_size > _LARGEST_BYTES:
        raise RecipeError(f"{path} is too large for a recipe: more than {_LARGEST_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as UTF-8 text: {error}") from None


def _parsed(text: str, source: str) -> Any:
    """Parse YAML to plain values; tags that name Python objects are errors."""
    try:
        return yaml.safe_load(text)
    # PyYAML also raises ValueError for invalid dates, and RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise RecipeError(f"{source} is not YAML: {said}") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override!r}: write it as section.key=value")
    *sections, leaf = key.split(".")
    node = tree
    for section in sections:
        node = node.setdefault(section, {})
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override!r}: {section} is not a section")
    node[leaf] = _parsed(raw, f"--set {override!r}")
