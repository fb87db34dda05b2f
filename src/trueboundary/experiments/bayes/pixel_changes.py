"""Whether small attacks change pixels invisibly, and larger ones many visibly (Section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from trueboundary.experiments.base import Measurement
from trueboundary.experiments.images.attacked_images import distances
from trueboundary.experiments.images.sheets import visible_share_of_images
from trueboundary.experiments.summaries import Estimate, extreme, mean_of_points
from trueboundary.runs import Run

#: A mean attack (L2) below the first is small in the paper's words; "around 3", its other number,
#: begins halfway between the two.
SMALL, AROUND_3 = 1.5, 2.25


def claims_on_pixels(
    attacked: Mapping[str, Run], holds_for: str = ""
) -> dict[str, Callable[[], Measurement]]:
    """Return what measures the shares of pixels that attacks change by more than 5/255.

    Parameters
    ----------
    attacked : mapping of str to Run
        An `AttackedImages` of each classifier, by the words for it in a note.
    holds_for : str
        On which images, where the paper speaks of others.
    """
    means = {words: mean_of_points(distances(run))[0] for words, run in attacked.items()}

    def measured(small: bool) -> Measurement:
        visible = {
            words: visible_share_of_images(run)
            for words, run in attacked.items()
            if (means[words] < SMALL if small else means[words] >= AROUND_3)
        }
        if not visible:
            return Measurement(math.nan)
        note = ", ".join(
            f"{words} {100 * share:.3g} % (mean L2 {means[words]:.2f})"
            for words, (share, *_) in visible.items()
        )
        shares = [_complement(one) if small else one for one in visible.values()]
        return Measurement(
            *extreme(shares, min),
            n=min(len(distances(attacked[words])) for words in visible),
            note=f"Pixels changed by more than 5/255: {note}.",
            holds_for=holds_for,
        )

    return {"B1.17a": lambda: measured(small=True), "B1.17b": lambda: measured(small=False)}


def _complement(share: Estimate) -> Estimate:
    """Return the share of the other pixels."""
    value, low, high = share
    return 1 - value, None if high is None else 1 - high, None if low is None else 1 - low
