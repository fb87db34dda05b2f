"""Write formulas as MathML, which browsers draw by themselves: no script, no font, no network.

Docutils has the converter. A formula that it cannot convert is a warning, which `make docs` takes
for an error.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(converted(node, as_block=False))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """Write a formula with lines of its own."""
    self.body.append(f'<div class="math-block">{converted(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def converted(node: nodes.Element, *, as_block: bool) -> str:
    """Return the MathML of a formula, or its source where it cannot be converted."""
    tex = node.astext()
    try:
        return str(tex2mathml(tex, as_block=as_block))
    except (MathError, SyntaxError, AssertionError) as error:
        LOGGER.warning("this formula is no MathML (%s): %s", error, tex, location=node)
        return f"<code>{escape(tex)}</code>"
