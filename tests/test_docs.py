"""The documentation site: every public name is in it, every page is reachable, and it builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import dualmode

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The hook by which pages outside docs/ join the site."""
    pytest.importorskip("mkdocs", reason="needs the extra docs: pip install -e '.[docs]'")
    spec = spec_from_file_location("outside_pages", DOCS / "outside_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_in_the_reference(hook: ModuleType) -> None:
    written = (DOCS / "api.md").read_text(encoding="utf-8")
    assert set(hook.documented(written)) <= {*dualmode.__all__, "DualmodeError"}
    names = hook.documented(hook.reference(written))
    assert len(names) == len(set(names))
    assert {name for name in dualmode.__all__ if not name.startswith("__")} <= set(names)


def test_every_page_is_in_the_navigation(hook: ModuleType) -> None:
    shown = set(_pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert shown == {*written, *hook.PAGES.values(), hook.COMMANDS}, "mend the nav of mkdocs.yml"


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    for package in ("mkdocs", "mkdocstrings"):
        pytest.importorskip(package, reason="needs the extra docs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    reference = (tmp_path / "api.html").read_text(encoding="utf-8")
    for name in dualmode.__all__:
        if not name.startswith("__"):
            assert re.search(rf'id="dualmode\.(\w+\.)*{name}"', reference), name
    assert not re.search(r":(class|func|meth|mod|attr|data|exc):", reference)


def _pages_of(tree: str | list[object] | dict[str, object]) -> list[str]:
    """The pages of a part of the navigation, in order."""
    if isinstance(tree, str):
        return [tree]
    branches = tree.values() if isinstance(tree, dict) else tree
    return [page for branch in branches for page in _pages_of(branch)]  # type: ignore[arg-type]
