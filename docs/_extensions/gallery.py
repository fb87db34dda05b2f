"""Draw the figures of the stored runs in `evidence` into pages of the documentation.

They are drawn when the pages are built, and again only when the runs or the package changed: the
repository holds no picture of what it can draw.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from sphinx.application import Sphinx

    from trueboundary.report.collect import Section

ROOT = Path(__file__).parents[2]
EVIDENCE = ROOT / "evidence"
#: Width and height of all small pictures, so that they stand in rows; shown at about half of it.
THUMBNAIL = (440, 330)
NONE_HERE = "The folder `evidence` is not here, so that there is nothing to draw from.\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the step that comes before the pages are read."""
    # The theme's colours of code (accessible-pygments) let everybody log to the terminal.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    app.connect("builder-inited", lambda app: draw_gallery(Path(app.srcdir) / "_made"))
    return {"parallel_read_safe": True}


def draw_gallery(folder: Path) -> None:
    """Write a page of figures for each paper, and the thumbnails of all, if any is out of date."""
    thumbnails = folder / "thumbnails.md"
    plans = sorted(EVIDENCE.rglob("plans/*.json"))
    pictures = ROOT.glob("docs/images/*.png")
    sources = [*plans, *pictures, *ROOT.glob("src/trueboundary/**/*.*"), Path(__file__)]
    newest = max(file.stat().st_mtime for file in sources)
    if thumbnails.exists() and thumbnails.stat().st_mtime > newest:
        return
    (folder / "small").mkdir(parents=True, exist_ok=True)
    if not plans:
        thumbnails.write_text(NONE_HERE, encoding="utf-8")
        return

    from trueboundary.experiments.papers import title
    from trueboundary.report.collect import collect_material

    material = collect_material(EVIDENCE, [])
    text, pages = "", ""
    for paper in material.papers:
        sections = [part for part in material.sections if part.experiment.paper == paper]
        page = f"# Figures: {title(paper)}\n"
        text += f"## {title(paper)}\n\n:::{{container}} gallery\n"
        for section in sections:
            page += f"\n## {section.experiment.title}\n"
            page += f"\n`trueboundary run {section.experiment.id}`\n"
            for name, heading, caption in drawn(section, folder):
                text += tile(name, heading, f"#figure-{name}")
                page += (
                    f"\n(figure-{name})=\n### {heading}\n\n![{heading}]({name}.png)\n\n{caption}\n"
                )
        (folder / f"{paper}.md").write_text(page, encoding="utf-8")
        pages += f"_made/{paper}\n"
        text += ":::\n\n"
    text += "## In other pages\n\n:::{container} gallery\n" + committed(folder) + ":::\n\n"
    thumbnails.write_text(f"{text}```{{toctree}}\n:hidden:\n\n{pages}```\n", encoding="utf-8")


def tile(name: str, heading: str, target: str) -> str:
    """Return a small picture with its heading, both of which lead to the large one."""
    return f"\n[![](_made/small/{name}.png) {heading}]({target})\n"


def committed(folder: Path) -> str:
    """Return tiles of the pictures that lie in the repository, each leading to its page."""
    docs = folder.parent
    shown = re.compile(r"!\[([^\]]+)\]\((?:\.\./)*images/([\w-]+)\.png\)")
    tiles = ""
    for page in sorted(docs.rglob("*.md")):
        if page.is_relative_to(folder):
            continue
        for heading, name in shown.findall(page.read_text(encoding="utf-8")):
            if (docs / "images" / f"{name}.png").exists():  # some are left out of archives
                make_small(docs / "images" / f"{name}.png", folder)
                tiles += tile(name, heading, f"/{page.relative_to(docs).as_posix()}")
    return tiles


def make_small(file: Path, folder: Path) -> None:
    """Write the small form of a picture."""
    with Image.open(file) as picture:
        small = ImageOps.pad(picture.convert("RGB"), THUMBNAIL, color="white")
        small.quantize(64).save(folder / "small" / file.name, optimize=True)


def drawn(section: Section, folder: Path) -> list[tuple[str, str, str]]:
    """Draw the figures of an experiment; return name, title and caption of each."""
    from trueboundary.report.figure_files import draw_picture

    if section.analysis is None:
        raise RuntimeError(f"{section.experiment.id} cannot be drawn: {section.problem}")
    found = []
    for panel in section.analysis.panels:
        (folder / f"{panel.name}.png").write_bytes(draw_picture(panel).png)
        make_small(folder / f"{panel.name}.png", folder)
        found.append((panel.name, panel.title, panel.caption))
    return found
