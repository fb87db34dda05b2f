"""What the first use of a name loads besides torch: nothing that takes as long as torch itself."""

import subprocess
import sys

import pytest

LOADED = "\nimport sys\nprint(*sys.modules)"
FIRST = "import torch, trueboundary as tb\ngenerator = torch.Generator().manual_seed(0)\n"
USES = {
    "a network": FIRST + "tb.ReLUNetwork(10, 5, 2, generator=generator)",
    "a module of one's own": FIRST + "tb.as_classifier(torch.nn.Linear(3, 1))",
    "a linear machine": "import torch\nfrom trueboundary.classifiers import LinearSVM\n"
    "LinearSVM(torch.ones(3), bias=0.0)",
    "points": FIRST + "tb.ConcentricSpheres(10).sample(5, generator=generator)",
}


def loaded_by(code: str) -> set[str]:
    """Return the names of all modules that are loaded after running `code`."""
    command = [sys.executable, "-c", code + LOADED]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return set(process.stdout.split())


@pytest.mark.parametrize("use", USES)
def test_classifiers_and_points_need_no_scipy(use: str) -> None:
    assert not {"scipy", "sklearn", "matplotlib"} & loaded_by(USES[use])


def test_what_fits_densities_is_there_when_asked_for() -> None:
    code = "from trueboundary.densities import MixtureOfFactorAnalyzersEM, SufficientStatistics"
    assert "sklearn" in loaded_by(code)


def test_training_and_measuring_need_no_estimators() -> None:
    code = (
        FIRST + "tb.train, tb.error_rate, tb.distances, tb.ManifoldAttack, tb.EllipsoidCertificate"
    )
    assert not {"sklearn", "scipy.stats", "matplotlib"} & loaded_by(code)
