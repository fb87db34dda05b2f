"""Keep the pages of single objects out of the sidebar, which is drawn anew on every page.

They are reached from the table of their room. With some 300 entries in it, the sidebar would take
most of the time that the documentation takes to build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sphinx.ext.autosummary import autosummary_toc

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the step that comes before tables of contents are collected."""
    app.connect("doctree-read", forget_tables_of_contents, priority=100)
    return {"parallel_read_safe": True}


def forget_tables_of_contents(app: Sphinx, tree: nodes.document) -> None:
    """Take the hidden tables of contents of summaries out of a page."""
    for found in list(tree.findall(autosummary_toc)):
        found.parent.remove(found)
