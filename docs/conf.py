"""How Sphinx makes the site out of the Markdown files; `scripts/docs` runs it with the repository as its source.

The files stay as plain as GitHub shows them: what the site needs besides, its navigation, is added here. The README is
the first page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx

project = "kfadapter-grpc"
root_doc = "README"
extensions = ["myst_parser"]
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "docs/**.md"]
exclude_patterns = [".*", "build", "src", "tests", "benchmarks", "examples", "protos", "requirements", "scripts"]

myst_heading_anchors = 3  # as on GitHub
suppress_warnings = ["myst.xref_ambiguous"]

html_theme = "furo"
html_title = project
html_static_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
smartquotes = False  # what is to be typed stays as it is typed
html_show_sphinx = False
html_show_copyright = False
html_additional_pages = {"index": "first_page.html"}
templates_path = ["templates"]

NAVIGATION = {
    "Guides": (
        "docs/getting-started",
        "docs/runs",
        "docs/deploy",
        "docs/security",
        "docs/observability",
        "docs/training-manager",
        "docs/embedded",
    ),
    "Reference": (
        "docs/reference/api/README",
        "docs/reference/cli/README",
        "docs/reference/clients",
        "docs/reference/settings",
        "docs/reference/errors",
        "docs/reference/metrics",
        "docs/reference/doctor",
        "docs/reference/check",
        "docs/reference/kfp-versions",
        "docs/reference/runbooks",
        "docs/reference/releases",
    ),
    "Inside": (
        "docs/architecture",
        "docs/benchmarks",
        "docs/robustness",
        "docs/adr/README",
        "CONTRIBUTING",
        "SECURITY",
        "CODE_OF_CONDUCT",
        "CHANGELOG",
    ),
}
"""The pages that stand at the left; those that list others take them along."""
CHILDREN = ("docs/reference/cli", "docs/reference/api", "docs/adr")
"""Folders whose README lists the other pages."""


def setup(app: Sphinx) -> None:
    """Has the navigation added to what is read."""
    app.connect("source-read", _add_navigation)


def _add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Adds what stands at the left to the pages that list others."""
    found = app.env.found_docs
    if page == root_doc:
        trees = (_tree((one for one in pages if one in found), caption) for caption, pages in NAVIGATION.items())
        source[0] += "".join(trees)
    folder = page.removesuffix("/README")
    if folder in CHILDREN:
        source[0] += _tree(sorted(one for one in found if one.startswith(f"{folder}/") and one != page))


def _tree(pages: Iterable[str], caption: str = "") -> str:
    names = "".join(f"/{page}\n" for page in pages)
    options = f":hidden:\n:caption: {caption}\n" if caption else ":hidden:\n"
    return f"\n```{{toctree}}\n{options}\n{names}```\n"
