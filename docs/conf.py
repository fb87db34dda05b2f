"""Settings of the documentation; ``make docs`` builds it."""

import sys
from pathlib import Path

from trueboundary import __version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "trueboundary"
author = "The trueboundary developers"
copyright = "The trueboundary developers"
release = version = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "costs",  # ours, as are the next four
    "gallery",
    "mathml",
    "object_pages",
    "offline",
]
exclude_patterns = ["_build", "_made/thumbnails.md", "_made/costs.md", "_templates"]
html_math_renderer = "mathml"  # drawn by the browser itself: pages open offline
default_role = "py:obj"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"  # the docstrings state shapes and units
python_maximum_signature_line_length = 88
autosummary_generate = True
autosummary_imported_members = True
templates_path = ["_templates"]
# scikit-learn writes these into every estimator, with references into its own documentation.
autodoc_default_options = {
    "exclude-members": "set_fit_request, set_partial_fit_request, set_score_request"
}
numpydoc_show_class_members = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_title = f"trueboundary {version}"
