"""The rules of the code base: floors, sizes, names, and what must never be imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "dualmode"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Bottom first. A module imports from lower floors and from its own folder only; files that lie in
# the package's own folder may import those beside them on the same floor.
FLOORS = (
    ("errors", "sections", "config", "recipe_files", "whole_files", "progress", "plots"),
    ("audio", "features", "text"),
    ("model",),
    ("losses", "data", "language"),
    ("runtime",),
    ("decoding",),
    ("streams",),
    ("recognizer",),
    ("evaluation",),
    ("training",),
    ("display",),
    ("teaching", "export"),
    ("quickstart", "archive"),
    ("serving",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
FOLDERS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}

# The facade loads what is asked for, and every module may ask it for the version.
FACADE = "__init__"

LONGEST_FILE = 350
LONGEST_FUNCTION = 60
VAGUE_NAMES = {"utils", "util", "common", "misc", "base", "helpers"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HEAVY = ("torch", "lhotse", "sentencepiece", "scipy", "lightning_fabric", "matplotlib")


def part_of(path: Path) -> str:
    """The folder or file directly under the package that a module belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def dotted(path: Path) -> str:
    return ".".join(("dualmode", *path.relative_to(PACKAGE).with_suffix("").parts))


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every import with its line, those inside functions and type-checking blocks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full, not relative"
            module = node.module or ""
            yield node.lineno, module
            if module in {"dualmode", "dualmode.commands"}:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def fail_if(violations: list[str], rule: str) -> None:
    if violations:
        pytest.fail(rule + "\n  " + "\n  ".join(violations), pytrace=False)


def import_violations(path: Path, tree: ast.Module) -> list[str]:
    """Imports of a module that point up, or sideways to another folder on its own floor."""
    own = part_of(path)
    found = []
    for line, name in imports_of(tree):
        parts = name.split(".")
        if parts[0] != "dualmode" or len(parts) == 1 or parts[1] not in FLOOR:
            continue
        other = parts[1]
        beside = FLOOR[other] == FLOOR[own] and not {other, own} & FOLDERS
        if other != own and not beside and FLOOR[other] >= FLOOR[own]:
            found.append(
                f"{dotted(path)}, line {line}: {own} (floor {FLOOR[own]}) imports "
                f"{name} (floor {FLOOR[other]})"
            )
    return found


def test_every_module_has_a_floor() -> None:
    homeless = sorted({part_of(p) for p in MODULES} - set(FLOOR) - {FACADE})
    fail_if(homeless, "give these a floor in tests/test_architecture.py:")


def test_imports_only_go_down() -> None:
    violations = [
        violation
        for path in MODULES
        if part_of(path) != FACADE
        for violation in import_violations(path, parsed(path))
    ]
    fail_if(
        violations, "imports go to lower floors or the same folder; move the code, not the rule:"
    )


def test_the_rule_on_imports_sees_what_is_hidden() -> None:
    hidden = "def late():\n    from dualmode.training.launch import train\n"
    sideways = "import dualmode.losses.joint\n"
    down = "from dualmode.model.subnet import Subnet\nfrom dualmode import __version__\n"
    path = PACKAGE / "data" / "batches.py"
    assert len(import_violations(path, ast.parse(hidden))) == 1
    assert len(import_violations(path, ast.parse(sideways))) == 1
    assert import_violations(path, ast.parse(down)) == []


def test_no_import_cycles() -> None:
    """Floors forbid cycles between folders; this finds those inside a folder."""
    names = {dotted(p) for p in MODULES}
    graph = {
        dotted(p): {name for _, name in imports_of(parsed(p)) if name in names} for p in MODULES
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycle = " -> ".join((*trail[trail.index(name) :], name))
            pytest.fail(f"modules import each other: {cycle}", pytrace=False)
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_files_are_short() -> None:
    long = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    fail_if(
        [f"{dotted(p)}: {lines} lines" for p, lines in long.items() if lines > LONGEST_FILE],
        f"files have at most {LONGEST_FILE} lines; find the second idea and give it a file:",
    )


def test_functions_are_a_screen_long() -> None:
    violations = []
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                # Signature and docstring explain; the body is what must fit a screen.
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > LONGEST_FUNCTION:
                    violations.append(f"{dotted(path)}.{node.name}: {lines} lines")
    fail_if(violations, f"the body of a function has at most {LONGEST_FUNCTION} lines:")


def test_names_say_something() -> None:
    vague = [dotted(p) for p in MODULES if set(dotted(p).split(".")) & VAGUE_NAMES]
    fail_if(vague, "name a module after what is in it:")


def test_nothing_unpickles() -> None:
    """Models and checkpoints are safetensors and JSON, so loading one runs no code of its maker."""
    violations = []
    for path in MODULES:
        tree = parsed(path)
        violations += [
            f"{dotted(path)}, line {line}: imports {name}"
            for line, name in imports_of(tree)
            if name.split(".")[0] in UNSAFE_MODULES
        ]
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in {"load", "save"}
                and isinstance(node.value, ast.Name)
                and node.value.id == "torch"
            ):
                violations.append(f"{dotted(path)}, line {node.lineno}: torch.{node.attr}")
    fail_if(violations, "use safetensors (dualmode.model.directory):")


def opens_without_encoding(tree: ast.AST) -> Iterator[int]:
    """Lines on which a text file is opened in whatever encoding the machine has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        named = any(keyword.arg == "encoding" for keyword in node.keywords) or "utf-8" in values
        if name in {"read_text", "write_text"} and not named:
            yield node.lineno
        mode = values[0] if name == "open" and values else None
        if isinstance(mode, str) and set(mode) <= set("rwax+t") and not named:
            yield node.lineno


def test_text_files_are_utf_8() -> None:
    assert list(opens_without_encoding(ast.parse("p.open('w')\np.read_text()"))) == [1, 2]
    assert not list(opens_without_encoding(ast.parse("p.open('rb')\np.read_text('utf-8')")))
    root = PACKAGE.parents[1]
    violations = [
        f"{path.relative_to(root)}, line {line}"
        for path in (*MODULES, *(root / "benchmarks").rglob("*.py"))
        for line in opens_without_encoding(parsed(path))
    ]
    fail_if(violations, "text files are read and written as UTF-8; say so:")


def test_public_things_are_documented() -> None:
    violations = []
    for path in MODULES:
        tree = parsed(path)
        if not ast.get_docstring(tree) and path.read_text(encoding="utf-8").strip():
            violations.append(f"{dotted(path)}: no docstring")
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if public and not node.name.startswith("_") and not ast.get_docstring(node):
                violations.append(f"{dotted(path)}.{node.name}: no docstring")
    fail_if(violations, "say what it does, with shapes and units:")


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh process has imported after running ``code``."""
    script = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", ["dualmode", "dualmode.cli", "dualmode.config"])
def test_start_up_is_light(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


def test_the_facade_loads_what_is_asked_for() -> None:
    loaded = loaded_by("import dualmode; dualmode.load")
    assert "sentencepiece" in loaded
    assert "torch" not in loaded, "only the runtime that needs torch may load it"


@pytest.mark.parametrize("room", ["recognizer", "streams", "decoding.beam", "runtime.arrays"])
def test_recognition_itself_needs_no_torch(room: str) -> None:
    """So that other runtimes transcribe where torch is not installed."""
    assert "torch" not in loaded_by(f"import dualmode.{room}")
