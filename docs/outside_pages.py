"""MkDocs hook: pages that live outside docs/ join the site, and links to them are followed.

Links in the repository are relative file paths, so that they work where the repository is
browsed. The site has no place for most files outside docs/: those links become plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that live outside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite links between files of the repository as links between pages of the site."""
    origins = {target: source for source, target in PAGES.items()}
    here = page.file.src_uri
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
