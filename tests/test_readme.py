"""What the documents say is true: commands parse, targets and files exist, Python runs."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import soundfile
import yaml

import dualmode
from benchmarks.claim import __main__ as claim
from benchmarks.claim.profiles import PROFILES
from dualmode.errors import RecipeError
from dualmode.recipe_files import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(document: Path, language: str = "") -> list[str]:
    """Fenced blocks of a language, and for the empty language and sh the indented ones too."""
    text = document.read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    if language in {"", "sh"}:
        outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found += re.findall(r"(?:^ {4}\S.*\n)+", outside, re.MULTILINE)
    return found


def shell_lines(document: Path) -> list[str]:
    """Everything in a document that a reader may paste into a shell."""
    lines = [line.strip() for block in blocks(document, "sh") for line in block.splitlines()]
    return [
        line.removeprefix("$ ")
        for line in (*lines, *inline_commands(document.read_text(encoding="utf-8")))
        if re.match(
            r"(\$ )?((make|dualmode|torchrun|python -m dualmode) |python -m benchmarks)", line
        )
    ]


def inline_commands(text: str) -> list[str]:
    """Commands between backquotes; a benchmark may be named without arguments."""
    found = re.findall(
        r"`((?:make|dualmode|torchrun) [^`]+|python -m benchmarks\.[a-z_]+(?:\s[^`]+)?)`", text
    )
    return [" ".join(command.split()) for command in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_parse(document: Path, parse_command: Callable[[str], None]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"\$\((?:if \$\()?([A-Z]+)\)", makefile))
    for line in shell_lines(document):
        if "-m benchmarks" in line:
            parse_benchmark(line)
        elif line.startswith("make "):
            words = line.split()[1:]
            assert {w for w in words if "=" not in w} <= targets, line
            assert {w.partition("=")[0] for w in words if "=" in w} <= variables, line
        else:
            # A command that is merely named, without arguments, has to exist.
            parse_command(f"{line} --help" if len(line.split()) == 2 else line)


class ParsedError(Exception):
    """The arguments of a benchmark can be parsed; it need not run."""


def parse_benchmark(line: str) -> None:
    """Parse a line that runs a benchmark by the benchmark's own parser, without running it.

    Raises:
        AssertionError: there is no such benchmark, or its parser refuses the arguments.
    """
    words = shlex.split(line)
    module, *words = words[words.index("-m") + 1 :]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), line
    if not words or words == ["--help"]:
        return
    if module == "benchmarks.claim":
        given = claim._arguments(words)
        profile = PROFILES[given.profile]
        for recipe in profile.recipes.values():
            load_recipe(recipe, [*profile.changes, *given.set])
        return
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if str(missing.name).startswith(("benchmarks", "dualmode.")):
            raise
        return  # it compares with a package that is not installed here
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *arguments: object) -> NoReturn:
        parse(parser, *arguments)  # type: ignore[call-overload]
        raise ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *words])
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        try:
            found.main()
        except ParsedError:
            return
        except SystemExit:
            raise AssertionError(f"its parser refuses {line}") from None
    raise AssertionError(f"{module} does not parse its arguments")


def check_training(line: str) -> None:
    """Check recipe and ``--set`` of a line that trains or pre-trains.

    Raises:
        AssertionError: no such recipe, or it is for the other command.
        RecipeError: a key does not exist, or its value is not valid.
    """
    words = shlex.split(line, comments=True)
    at = words.index("dualmode") + 1
    command, recipe, *_ = (*words[at:], "", "")
    changes = [word for before, word in pairwise(words) if before == "--set"]
    if recipe[:1].islower() and not recipe.endswith(".yaml"):
        assert recipe in shipped_recipes(), line
        resolved = load_recipe(recipe, changes)
        assert (resolved.training.objective == "pretrain") == (command == "pretrain"), line
    elif changes != ["KEY=VALUE"]:  # a placeholder or a file of the reader's: keys alone
        load_recipe("speech-pretrain" if command == "pretrain" else "speech", changes)


def test_documents_have_commands_to_check() -> None:
    assert sum(len(shell_lines(document)) for document in DOCUMENTS) >= 20
    assert "make quickstart" in "\n".join(shell_lines(ROOT / "README.md"))
    lines = [line for document in DOCUMENTS for line in shell_lines(document)]
    assert any("dualmode pretrain" in line and "--set" in line for line in lines)
    assert len({line.split()[2] for line in lines if line.startswith("python -m bench")}) >= 8


def test_every_result_has_a_command_that_is_checked() -> None:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        assert "**Command**" in section, title
        assert inline_commands(section.partition("**Command**")[2]), title


def test_the_checks_of_commands_can_fail() -> None:
    parse_benchmark("python -m benchmarks.talk --an4 CUTS --other A B")
    for wrong in ("talk --an4 CUTS --ohter A", "tlak", "claim --profile none"):
        with pytest.raises((AssertionError, SystemExit)):
            parse_benchmark(f"python -m benchmarks.{wrong}")
    check_training("dualmode pretrain speech-pretrain --out x --set 'data.train=[data/audio]'")
    for setting in ("pretraining.entriez=3", "data.train=[x", "pretraining.entries=none"):
        with pytest.raises(RecipeError):
            check_training(f"dualmode pretrain speech-pretrain --out x --set '{setting}'")
    with pytest.raises(AssertionError):
        check_training("dualmode train speech-pretrain --out x")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_recipes_and_keys_exist(document: Path) -> None:
    for line in shell_lines(document):
        if re.search(r"dualmode (?:pre)?train ", line):
            check_training(line)
    tree = yaml.safe_load(load_recipe("quickstart").to_yaml())
    sections = r"`((?:text|data|model|training|pruning|pretraining|init|decoding)(?:\.[a-z_]+)+)"
    for key in re.findall(sections, document.read_text(encoding="utf-8")):
        node = tree
        for part in key.split(".") if not key.endswith((".py", ".cpp", ".safetensors")) else ():
            assert part in node, f"{document.name} speaks of {key}"
            node = node[part]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_python_examples_run(
    babbling_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the README's Python in one program, as a reader would type it, on a small model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    shutil.copytree(babbling_model, tmp_path / "runs" / "quickstart" / "model")
    noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write(tmp_path / "recording.wav", noise, 16000)
    program = "\n".join(blocks(ROOT / "README.md", "python"))
    assert "dualmode.load" in program
    exec(compile(program, "README.md", "exec"), {})


def test_the_tree_names_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.partition("## The tree")[2]
    shown: list[Path] = []
    folder = {4: Path()}
    for line in tree.splitlines():
        entry = re.match(r"( {4,})(\S+)(?:\s|$)", line)
        if entry is None:
            continue
        indent, path = len(entry[1]), folder[len(entry[1])] / entry[2]
        folder[indent + 2] = path
        shown.append(path)
    assert len(shown) == len(set(shown))
    absent = [str(path) for path in shown if not (ROOT / path).exists()]
    assert not absent, "the tree shows what is not there"
    modules = {
        path.relative_to(ROOT)
        for path in (ROOT / "src" / "dualmode").rglob("*.py")
        if not path.name.startswith("__")
    }
    missing = sorted(str(path) for path in modules - set(shown))
    assert not missing, "the tree lacks modules: give each a line"


def test_versions_agree() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert str(cited) == dualmode.__version__
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{dualmode.__version__}"' in project
    assert f"## {dualmode.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    named = (*project["dependencies"], *extras)
    wanted = {plain(re.split(r"[<>=\[]", name)[0]) for name in named} - {"dualmode"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    assert wanted <= {plain(pin.partition("==")[0]) for pin in pins}


def plain(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
