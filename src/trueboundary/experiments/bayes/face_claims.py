"""What the attacks on faces say about the paper's claims, row by row of its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from trueboundary.experiments.base import Measurement, Rows
from trueboundary.experiments.bayes.bayes_capacity import SWEEPS
from trueboundary.experiments.bayes.bayes_trades import BETAS
from trueboundary.experiments.bayes.four_classifiers import claims_on_four
from trueboundary.experiments.bayes.pixel_changes import claims_on_pixels
from trueboundary.experiments.bayes.published import printed_numbers, printed_table
from trueboundary.experiments.images.attack_tables import (
    chosen,
    deviation_from,
    estimate,
    names_of,
    nearest_distances,
)
from trueboundary.experiments.images.attacked_images import Floats, distances
from trueboundary.experiments.images.image_plans import words_of
from trueboundary.experiments.summaries import (
    largest_deviation,
    mean_estimate,
    mean_of_points,
    ratio_of_means,
)
from trueboundary.plurals import plural
from trueboundary.runs import Run

Claims = dict[str, Callable[[], Measurement]]

#: The CNN counts as brittle up to this share of the optimal classifier's mean attack.
_BRITTLE = 0.5


def of_all(runs: Mapping[str, Run], rows: Rows) -> Claims:
    """Return what holds for all attributes at once, and the rows of Table 1 and Figure 7."""
    found = claims_on_four(runs, rows, brittle=_BRITTLE)
    return (
        {f"{claim}-faces": measure for claim, measure in found.items()}
        | _table("B2.6-{}", rows, "accuracy")
        | _table("B3.7-{}", rows, "mean_l2")
    )


def of_pixels(attacked: Mapping[str, Run]) -> Claims:
    """Return the shares of pixels that attacks change visibly, by the words for a classifier."""
    return {f"{claim}-faces": measure for claim, measure in claims_on_pixels(attacked).items()}


def of_contrast(runs: Mapping[str, Run], names: Sequence[str]) -> Claims:
    """Return the mean attacks on the optimal classifiers, and half the subspace distances."""
    claims: Claims = {}
    for name in names:
        for variant in ("symmetric", "asymmetric"):
            claim = f"B1.7-{words_of(name)}-{variant}"
            if printed_numbers(claim):
                attack = distances(runs[f"{name}/{variant}/gradient-fixed"])
                claims[claim] = partial(_fixed_steps, attack)
    if "celeba/Male" in names:
        apart = runs["celeba/Male/subspaces"].arrays["distance"]
        found = nearest_distances(runs, "celeba/Male/symmetric")
        n = len(apart)
        claims["B1.12a-faces"] = lambda: Measurement(*mean_of_points(apart), n=n)
        claims["B1.12b-faces"] = lambda: Measurement(*ratio_of_means(found, apart / 2), n=n)
    return claims


def _fixed_steps(attack: Floats) -> Measurement:
    n_failed, points = int(np.isinf(attack).sum()), plural(len(attack), "point")
    note = f"Journal version's fixed steps; {n_failed} of {points} not changed."
    return Measurement(*mean_of_points(attack), n=len(attack), note=note)


def of_sweeps(rows: Rows) -> Claims:
    """Return the deviations of width, depth and samples from Figure 9, by attribute."""
    claims: Claims = {}
    for name, sweeps in SWEEPS.items():
        shared = [r for r in chosen(rows, dataset=name) if r["value"] in sweeps[r["sweep"]]]
        if shared:
            claims[f"B3.9-{words_of(name)}"] = partial(
                largest_deviation,
                {f"{r['sweep']} {r['value']:,}": estimate(r, "mean_l2") for r in shared},
                [sweeps[r["sweep"]][r["value"]] for r in shared],
                n=min(r["n_points"] for r in shared),
            )
    return claims


def of_trades(rows: Rows) -> Claims:
    """Return the deviations from Figure 10's means over attributes, along beta."""
    along = {beta: chosen(rows, beta=beta) for beta in BETAS if chosen(rows, beta=beta)}
    claims: Claims = {}
    for claim, value in (("B3.10a", "mean_l2"), ("B3.10b", "accuracy")):
        paper = dict(zip(BETAS, printed_numbers(claim), strict=True))
        if along:
            claims[claim] = partial(
                largest_deviation,
                {
                    f"beta {beta}": mean_estimate([estimate(r, value) for r in own])
                    for beta, own in along.items()
                },
                [paper[beta] for beta in along],
                n=sum(r["n_points"] for r in next(iter(along.values()))),
                relative=value == "mean_l2",
            )
    return claims


def of_real(rows: Rows, transfers: Rows) -> Claims:
    """Return the deviations from the paper's tables and figures on real faces."""
    male = chosen(rows, dataset="celeba/Male")
    networks = [row | {"classifier": row["trained_on"]} for row in transfers]
    return (
        _table("B2.8-{}", rows, "accuracy")
        | _table("B3.11-{}", rows, "mean_l2")
        | _table("B2.9a", male, "accuracy")
        | _table("B2.9b", male, "mean_l2")
        | _table("B2.9c", male, "accuracy_under_attack")
        | _table("B2.7-{}", networks, "accuracy")
    )


def _table(claim: str, rows: Rows, value: str) -> Claims:
    """Return each row's largest deviation from the paper's, for the faces that both have."""
    return {
        claim.format(name.partition("/")[2]): partial(
            deviation_from, numbers, chosen(rows, dataset=name), value
        )
        for name, numbers in printed_table(claim, names_of(rows)).items()
    }
