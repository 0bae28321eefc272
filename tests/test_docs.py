"""The documentation site: every public name is in it, every page is reachable, and it builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import dualmode

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: dualmode\.(\w+)$", text, re.MULTILINE)
    assert len(documented) == len(set(documented))
    public = {name for name in dualmode.__all__ if not name.startswith("__")}
    # The error classes are documented together, as a module.
    assert public - {"DualmodeError"} == set(documented) - {"errors"}
    assert "errors" in documented


def test_every_page_is_in_the_navigation() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        from outside_pages import PAGES
    finally:
        sys.path.remove(str(DOCS))
    shown = set(_pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert shown == written | set(PAGES.values()), "mend the nav of mkdocs.yml"


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("needs the extra docs: pip install -e '.[docs]', or make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    reference = (tmp_path / "api.html").read_text(encoding="utf-8")
    for name in dualmode.__all__:
        if not name.startswith("__"):
            assert re.search(rf'id="dualmode\.(\w+\.)*{name}"', reference), name


def _pages_of(tree: str | list[object] | dict[str, object]) -> list[str]:
    """The pages of a part of the navigation, in order."""
    if isinstance(tree, str):
        return [tree]
    branches = tree.values() if isinstance(tree, dict) else tree
    return [page for branch in branches for page in _pages_of(branch)]  # type: ignore[arg-type]
