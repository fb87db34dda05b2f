"""What the first use of a name loads besides torch: nothing that takes as long as torch itself."""

import subprocess
import sys

import pytest

FIRST = "import torch, trueboundary as tb\ngenerator = torch.Generator().manual_seed(0)\n"
USES = {
    "a network": FIRST + "tb.ReLUNetwork(10, 5, 2, generator=generator)",
    "a module of one's own": "tb.as_classifier(torch.nn.Linear(3, 1))",
    "a linear machine": "from trueboundary.classifiers import LinearSVM\n"
    "LinearSVM(torch.ones(3), bias=0.0)",
    "points": "tb.ConcentricSpheres(10).sample(5, generator=generator)",
    "training and measuring": "tb.train, tb.error_rate, tb.distances, tb.ManifoldAttack, "
    "tb.EllipsoidCertificate",
    "what fits densities": "from trueboundary.densities import MixtureOfFactorAnalyzersEM, "
    "SufficientStatistics",
}
SAYS = "\nimport sys\nprint(*sys.modules)\n"


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Return the names of all modules that are loaded after each use, one after the other."""
    command = [sys.executable, "-c", SAYS.join([*USES.values(), ""])]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    return {use: set(line.split()) for use, line in zip(USES, lines, strict=True)}


@pytest.mark.parametrize("use", [*USES][:4])
def test_classifiers_and_points_need_no_scipy(use: str, loaded: dict[str, set[str]]) -> None:
    assert not {"scipy", "sklearn", "matplotlib"} & loaded[use]


def test_training_and_measuring_need_no_estimators(loaded: dict[str, set[str]]) -> None:
    assert not {"sklearn", "scipy.stats", "matplotlib"} & loaded["training and measuring"]


def test_what_fits_densities_is_there_when_asked_for(loaded: dict[str, set[str]]) -> None:
    assert "sklearn" in loaded["what fits densities"]
