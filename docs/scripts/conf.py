"""The site of these pages, by Sphinx: `make site`. Pages are read where they lie, links and all; nothing is fetched.

`docs/README.md` is the table of contents: each of its lists becomes a part of the navigation, so that a page that it
does not name fails the build. `docs/reference/python.md` lists modules; on the site, their docstrings follow the list.
"""

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

from mcis_cli import __version__

FRONT, CONTENTS, MODULES = "README", "docs/README", "docs/reference/python"
ROOT = Path(__file__).parents[2]

project = "mcis"
author = "the authors of mcis"
version = release = __version__
html_title = "mcis"

root_doc = FRONT
include_patterns = ["*.md", "docs/**.md", "examples/**.md"]
exclude_patterns = [".*", "build", "dist", "demo", "*.egg-info", "mcis_cli", "tests", "benchmarks", "fuzz"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 3
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
man_pages = [("docs/reference/cli", "mcis", "from images with tags to pixel masks", author, 1)]


def setup(app: Sphinx) -> None:
    """Complete three pages as they are read, and name the first one so that browsers find it."""
    app.connect("source-read", complete)
    app.connect("autodoc-skip-member", without_places)
    app.connect("build-finished", name_first_page)


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Add to a page what the repository has elsewhere: the navigation, or docstrings."""
    if page == FRONT:
        source[0] += "\n\n" + "\n\n".join(navigation((ROOT / f"{CONTENTS}.md").read_text(encoding="utf-8")))
    elif page == CONTENTS:
        source[0] = f"---\norphan: true\n---\n\n{source[0]}"
    elif page == MODULES:
        source[0] = "## ".join(with_docstrings(part) for part in re.split(r"^## ", source[0], flags=re.MULTILINE))


def navigation(contents: str) -> Iterator[str]:
    """A hidden table of contents for each list, captioned by the line in bold above it."""
    for caption, entries in re.findall(r"^\*\*(.+)\*\*\n\n((?:[- ] .+\n)+)", contents, re.MULTILINE):
        links = re.findall(r"\]\(([^)#:]+)\.md\)", entries)
        pages = [posixpath.normpath(posixpath.join("/docs", link)) for link in links]
        yield "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"])


def with_docstrings(part: str) -> str:
    """A part of the page of modules, each module's docstrings after the list."""
    link = r"\[`(mcis_cli[\w.]*)`\]\(\.\./\.\./mcis_cli/[\w/]+\.py\)"
    found = [f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n\n" for name in re.findall(link, part)]
    return re.sub(link, r"{py:mod}`\1`", part) + "\n".join(["", *found])


def without_places(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out that a field of a named tuple has a place in it: what it is stands in the docstring of the tuple."""
    return True if type(member).__name__ == "_tuplegetter" else None


def name_first_page(app: Sphinx, error: Exception | None) -> None:
    """Browsers and servers look for `index.html`."""
    if not error and app.builder.format == "html":
        shutil.copyfile(app.outdir / f"{FRONT}.html", app.outdir / "index.html")
