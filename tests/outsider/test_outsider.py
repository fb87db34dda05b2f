"""A package that is not ours brings an attack, a problem, a proof and images, and edits no file."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.data import parse_pair
from trueboundary.problems import fit_image_problem
from trueboundary.testing import check_attack, check_certificate, check_density, check_problem

sys.path.append(str(Path(__file__).parent / "package" / "src"))  # as if it were installed

from outsider import (
    Laplace,
    Octahedron,
    OctahedronCertificate,
    RandomRays,
    TwoScales,
)


def test_it_passes_the_suites() -> None:
    check_attack(RandomRays(), least_success=0.7)
    check_density(Laplace(3, 2.0))
    check_problem(TwoScales())


def test_its_certificate_passes_the_suite() -> None:
    check_certificate(OctahedronCertificate(), Octahedron(2.0), TwoScales())


@pytest.mark.parametrize("attack", [None, RandomRays(n_rays=60)], ids=["ours", "its own"])
def test_its_classifier_is_measured_with_proofs(attack: RandomRays | None) -> None:
    problem = TwoScales()
    optimal = problem.bayes_classifier(dtype=torch.float64)
    for found in tb.distances(optimal, problem, attack=attack, n_points=20):
        assert found.method.startswith("OctahedronCertificate below")
        assert found.exact.all()
        wrong = found.upper == 0
        assert (found.lower[wrong] == 0).all()
        assert (found.lower[~wrong] > 0).all()
        known = ~wrong & np.isfinite(found.upper)
        ratio = found.upper[known] / found.lower[known]
        assert (ratio >= 1 - 1e-6).all()
        if attack is None:  # a check of the proof: nobody's attack knows of it
            assert known.sum() == (~wrong).sum()
            assert (ratio < 1.001).all()


def test_its_error_rates_are_exact_and_those_of_a_sample() -> None:
    problem = TwoScales()
    optimal = problem.bayes_classifier(dtype=torch.float64)
    exact = tb.error_rate(optimal, problem)
    sampled = tb.error_rate(optimal, problem, method="sampling", n_points=50_000)
    for rate, estimate in zip(exact, sampled, strict=True):
        assert rate.method == "exact"
        assert estimate.low < rate.value < estimate.high
        assert math.isclose(rate.log10, math.log10(rate.value))


def test_its_images_are_a_problem_with_a_proven_optimum() -> None:
    source, pair = parse_pair("stripes/upright-level")
    images = source.load(pair, "train")
    problem = fit_image_problem(
        *images.of_classes(*pair),
        image_shape=images.event_shape,
        class_names=pair,
        n_components=source.n_components,
        n_factors=source.n_factors,
    )
    check_problem(problem)
    optimal = problem.bayes_classifier(dtype=torch.float64)
    for found in tb.distances(optimal, problem, n_points=5):
        assert "MixtureCertificate below" in found.method
        assert (np.asarray(found.lower) > 0).all()
        assert found.median_relative_width < 0.01


def test_nothing_of_it_stands_in_our_files() -> None:
    package = Path(tb.__file__).parent
    assert not [file for file in package.rglob("*.py") if "outsider" in file.read_text("utf-8")]
