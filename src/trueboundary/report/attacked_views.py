"""Attacked images as the page's viewer steps through them: original, attacked and difference."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trueboundary.experiments.base import ImagePair
from trueboundary.report.collect import Material
from trueboundary.report.figure_files import png_uri

#: Differences are drawn this many times as large, so that invisible ones are seen.
MAGNIFICATION = 4


def attacked_views(material: Material) -> list[dict[str, Any]]:
    """Return what the viewer shows: per panel with attacked images, its classifiers' images."""
    views = []
    for section in material.sections:
        for panel in () if section.analysis is None else section.analysis.panels:
            if panel.pairs:
                names = dict.fromkeys(pair.classifier for pair in panel.pairs)
                own = {name: [p for p in panel.pairs if p.classifier == name] for name in names}
                classifiers = [{"name": n, "images": _records(pairs)} for n, pairs in own.items()]
                views.append({"title": panel.title, "classifiers": classifiers})
    return views


def _records(pairs: Sequence[ImagePair]) -> list[dict[str, str]]:
    records = []
    for pair in pairs:
        change = pair.attacked - pair.original
        found = math.isfinite(pair.distance)
        words = f"{pair.classifier}. Class {pair.label}, decided as {pair.decisions[0]}; "
        if found:
            words += (
                f"attacked, as {pair.decisions[1]}, {pair.distance:.2f} away (L2), no pixel "
                f"changed by more than {np.abs(change).max():.2f}"
            )
        else:
            words += "the attack found no error"
        records.append(
            {
                "original": png_uri(encode(pair.original)),
                "attacked": png_uri(encode(pair.attacked)),
                "difference": png_uri(encode(0.5 + MAGNIFICATION * change / 2)),
                "words": words,
            }
        )
    return records


def encode(image: NDArray[np.floating[Any]]) -> bytes:
    """Return an image ``(channels, height, width)`` from 0 (black) to 1 (white) as a PNG file.

    Values beyond are clipped; there are one channel or three.

    Examples
    --------
    >>> encode(np.zeros((1, 2, 2)))[1:4]
    b'PNG'
    """
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, "png")
    return stream.getvalue()
