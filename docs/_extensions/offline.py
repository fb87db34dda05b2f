"""Refuse pages that would ask another machine for a script, a style, a font or a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: What a browser fetches by itself when it shows a page or reads a style sheet.
FETCHED = re.compile(
    r"""<(?:script|img|link|iframe|source|video|audio)\b[^>]*?\b(?:src|href)=["']((?:https?:)?//[^"']+)"""
    r"""|(?:@import\s+|url\()["']?((?:https?:)?//[^"')]+)""",
    flags=re.I,
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the step that comes after the pages are written."""
    app.connect("build-finished", look_for_requests)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def look_for_requests(app: Sphinx, exception: Exception | None) -> None:
    """Warn, which `make docs` takes for an error, of every address that a page would fetch."""
    if exception is not None or app.builder.format != "html":
        return
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    for file in sorted(Path(app.outdir).rglob("*")):
        if file.suffix in (".html", ".css"):
            for address in requests(file.read_text(encoding="utf-8")):
                logger.warning("%s fetches %s", file.relative_to(app.outdir), address)


def requests(text: str) -> list[str]:
    """Return the addresses of other machines that a page or a style sheet fetches by itself."""
    return [found[1] or found[2] for found in FETCHED.finditer(text)]
