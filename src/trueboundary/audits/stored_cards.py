"""Robustness cards as plain data and back, for the store of runs."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from trueboundary.audits.flags import Flag
from trueboundary.audits.robustness_card import ClassAudit, RobustnessCard, Verdict
from trueboundary.measure import ErrorRate

__all__ = ["card_from_plain", "card_to_plain"]

_BRACKETS = ("lower", "upper", "best_lower", "best_upper", "room")
_PLAIN = ("subject", "problem", "method", "optimality", "settings", "notes")


def card_to_plain(card: RobustnessCard) -> dict[str, Any]:
    """Return a card without its pictures as values that JSON can hold, every number exact.

    Of an error rate by splitting the numbers are kept and not its levels; nor is kept into which
    classes errors go.
    """
    return {
        **{name: getattr(card, name) for name in _PLAIN},
        "verdict": asdict(card.verdict),
        "flags": [asdict(flag) for flag in card.flags],
        "classes": [
            {
                "label": part.label,
                "name": part.name,
                "rate": {
                    f.name: getattr(part.rate, f.name)
                    for f in fields(ErrorRate)
                    if f.name not in ("splitting", "into")
                },
                **{name: getattr(part, name).tolist() for name in _BRACKETS},
                "other": part.other.tolist(),
                "reasons": list(part.reasons),
            }
            for part in card.classes
        ],
    }


def card_from_plain(values: dict[str, Any]) -> RobustnessCard:
    """Rebuild the card that `card_to_plain` described.

    Examples
    --------
    >>> from trueboundary.audits import audit
    >>> from trueboundary.audits.stored_cards import card_from_plain, card_to_plain
    >>> from trueboundary.problems import planar_problem
    >>> card = audit(lambda x: x[:, 0], planar_problem("a"), n_points=2, n_error_points=100)
    >>> str(card_from_plain(card_to_plain(card))) == str(card)
    True
    """
    verdict = values["verdict"]
    ranges = {name: tuple(verdict[name]) for name in ("share", "share_of_room")}
    classes = [
        ClassAudit(
            label=part["label"],
            name=part["name"],
            rate=ErrorRate(**{**part["rate"], "warnings": tuple(part["rate"]["warnings"])}),
            **{name: np.array(part[name], dtype=np.float64) for name in _BRACKETS},
            other=np.array(part["other"], dtype=np.int64),
            reasons=tuple(part["reasons"]),
        )
        for part in values["classes"]
    ]
    plain = {name: values[name] for name in _PLAIN}
    plain |= {name: tuple(plain[name]) for name in ("optimality", "notes")}
    return RobustnessCard(
        **plain,
        classes=tuple(classes),
        verdict=Verdict(**{**verdict, **ranges}),
        flags=tuple(Flag(**flag) for flag in values["flags"]),
    )
