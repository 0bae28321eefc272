"""MkDocs hook: adds pages from outside docs/ to the site and rewrites links to them.

README, CONTRIBUTING and the results are elsewhere in the repository; the page on the command line
is generated from the help of the commands. Links in the repository are relative file paths, which
also work when browsing it. Most files outside docs/ are not part of the site; links to them become
plain text.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

import dualmode

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
}
COMMANDS = "cli.md"
REFERENCE = "api.md"
SECTIONS = {
    "Results": ("Transcript", "Word"),
    "Subnets": ("Subnet", "FullContext", "ChunkedContext", "SERVER"),
    "Streams": ("StreamSession", "StreamGroup", "Partial", "Endpointing"),
    "Training and evaluation": ("train", "evaluate"),
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):<code>(?:~[\w.]+\.(?=\w))?")
_EXAMPLES = re.compile(r"^([A-Z][a-z ]+:)\n((?:  \S.*\n)+)", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/, and the page on the command line."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, COMMANDS, content=command_line()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite links between files of the repository as links between pages of the site."""
    here = page.file.src_uri
    if here == REFERENCE:
        return reference(markdown)
    origins = {target: source for source, target in PAGES.items()}
    source = origins.get(here, f"docs/{here}")

    def follow(link: re.Match[str]) -> str:
        image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        if ":" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is None:
            return text
        relative = posixpath.relpath(inside, posixpath.dirname(here) or ".")
        return f"{image}[{text}]({relative}{anchor})"

    return _LINK.sub(follow, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Remove Sphinx roles of docstrings, which Markdown does not interpret."""
    return _ROLE.sub("<code>", html)


def reference(markdown: str) -> str:
    """The API reference, with sections for public names that the page does not contain."""
    missing = set(public_names()) - set(documented(markdown))
    sections = [(title, [n for n in names if n in missing]) for title, names in SECTIONS.items()]
    grouped = {name for _, names in sections for name in names}
    sections.append(("Other names", sorted(missing - grouped)))
    for title, names in sections:
        if names:
            markdown += f"\n## {title}\n\n" + "".join(f"::: dualmode.{n}\n\n" for n in names)
    return markdown


def documented(markdown: str) -> list[str]:
    """The top-level names documented on a page of the reference."""
    names = re.findall(r"^::: dualmode\.(\w+)$", markdown, re.MULTILINE)
    # The error classes are documented together, as a module.
    return ["DualmodeError" if name == "errors" else name for name in names]


def public_names() -> list[str]:
    """The public names of the package."""
    return [name for name in dualmode.__all__ if not name.startswith("__")]


def command_line() -> str:
    """The help of all commands as Markdown, with examples as code."""
    command = [sys.executable, "-m", "typer", "dualmode.cli", "utils", "docs", "--name", "dualmode"]
    done = subprocess.run(
        [*command, "--title", "Command line"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return _EXAMPLES.sub(lambda match: f"{match[1]}\n\n```sh\n{match[2]}```\n", done.stdout)
