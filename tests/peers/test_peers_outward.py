"""Our attacks called by other libraries' models, and our classifiers in their hands."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueboundary import ConcentricSpheres, zoo
from trueboundary.attacks import Box, NearestError
from trueboundary.classifiers import (
    ClassifierModule,
    QuadraticNetwork,
    as_classifier,
    misclassified,
    outputs,
)
from trueboundary.peers import as_adv_lib, as_art, as_foolbox, as_torchattacks

foolbox = pytest.importorskip("foolbox")
art_classifiers = pytest.importorskip("art.estimators.classification")
art_attacks = pytest.importorskip("art.attacks.evasion")
torchattacks = pytest.importorskip("torchattacks")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),  # libraries warn of themselves
]

DIM = 12
PLANE = torch.linspace(-1, 1, DIM)


class Plane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(PLANE.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        margin = x.flatten(1) @ self.weight
        return torch.stack([-margin, margin], dim=1)


def samples() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(5, DIM, generator=torch.Generator().manual_seed(1))
    margin = x @ PLANE
    return x, (margin > 0).long(), margin.abs() / PLANE.norm()


def estimator(model: nn.Module, shape: tuple[int, ...], n_classes: int = 2) -> Any:
    return art_classifiers.PyTorchClassifier(
        model, nn.CrossEntropyLoss(), shape, n_classes, clip_values=(0.0, 1.0), device_type="cpu"
    )


def test_ours_takes_the_place_of_theirs_in_every_library() -> None:
    x, y, exact = samples()
    model = Plane().eval()
    attack = NearestError()
    found = {
        "adv-lib": as_adv_lib(attack)(model, x, y),
        "torchattacks": as_torchattacks(attack)(model)(x, y),
        "ART": torch.from_numpy(
            as_art(attack)(estimator=estimator(model, (DIM,))).generate(
                x=x.numpy(), y=np.eye(2)[y.numpy()]
            )
        ),
    }
    fmodel = foolbox.PyTorchModel(model, bounds=(0, 1))
    raw, clipped, is_adv = as_foolbox(attack)(fmodel, x, foolbox.criteria.Misclassification(y))
    assert bool(is_adv.all())
    found |= {"Foolbox": raw, "Foolbox, clipped": clipped}
    own = attack(model, x, y, domain=Box(0.0, 1.0)).x_adv
    for points in found.values():
        assert torch.equal(points, own)
        assert bool(((points - x).norm(dim=1) >= exact * (1 - 1e-5)).all())


def test_foolbox_reads_distances_the_same_way() -> None:
    x, y, _ = samples()
    fmodel = foolbox.PyTorchModel(Plane().eval(), bounds=(0, 1))
    epsilons = [0.01, 0.1, 0.5]
    theirs = foolbox.attacks.L2DeepFoolAttack()(fmodel, x, y, epsilons=epsilons)
    ours = as_foolbox(NearestError())(fmodel, x, y, epsilons=epsilons)
    assert [len(part) for part in ours] == [len(part) for part in theirs]
    assert ours[2].shape == theirs[2].shape
    assert ours[2].dtype == theirs[2].dtype
    # On a plane both find what is nearest, so that both say the same of every radius.
    assert torch.equal(ours[2], theirs[2])


def test_foolbox_aims_at_a_class() -> None:
    x, y, _ = samples()
    fmodel = foolbox.PyTorchModel(Plane().eval(), bounds=(0, 1))
    criterion = foolbox.criteria.TargetedMisclassification(1 - y)
    raw, _, is_adv = as_foolbox(NearestError())(fmodel, x, criterion)
    assert bool(is_adv.all())
    assert torch.equal(fmodel(raw).argmax(1), 1 - y)


def _spheres() -> tuple[ClassifierModule, Tensor]:
    problem = ConcentricSpheres(dim=DIM)
    network = QuadraticNetwork(DIM, 20, generator=torch.Generator().manual_seed(0))
    return network, problem.sample(40, generator=torch.Generator().manual_seed(1))[0]


def _optimal() -> tuple[ClassifierModule, Tensor]:
    problem = zoo.problem("mnist-0-6-symmetric")
    x, _ = problem.sample(20, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    return problem.bayes_classifier(dtype=torch.float32), x


def _three() -> tuple[ClassifierModule, Tensor]:
    with torch.random.fork_rng():
        network = nn.Sequential(nn.Flatten(), nn.Linear(DIM, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.rand(40, DIM, generator=torch.Generator().manual_seed(2))
    return as_classifier(network), x


OURS: dict[str, Callable[[], tuple[ClassifierModule, Tensor]]] = {
    "quadratic network": _spheres,
    "optimal, of digits": _optimal,
    "three classes": _three,
}


@pytest.mark.parametrize("name", OURS)
def test_our_classifiers_are_theirs_unchanged(name: str) -> None:
    with torch.random.fork_rng():  # these libraries draw from it
        _check_theirs(*OURS[name]())


def _check_theirs(classifier: ClassifierModule, x: Tensor) -> None:
    classifier.eval()
    low, high = float(x.min()) - 0.5, float(x.max()) + 0.5
    y = classifier.predict(x)
    x, y = x[:6], y[:6]
    logits = classifier(x)
    n_classes = logits.shape[1]

    fmodel = foolbox.PyTorchModel(classifier, bounds=(low, high))
    assert torch.equal(fmodel(x), logits)
    raw, _, is_adv = foolbox.attacks.L2DeepFoolAttack(steps=200)(fmodel, x, y, epsilons=None)
    assert bool(is_adv.any())
    assert torch.equal(misclassified(outputs(classifier, raw), y), is_adv)

    theirs = art_classifiers.PyTorchClassifier(
        classifier,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        n_classes,
        clip_values=(low, high),
        device_type="cpu",
    )
    assert np.array_equal(theirs.predict(x.numpy()), logits.detach().numpy())
    attack = art_attacks.DeepFool(theirs, max_iter=200, verbose=False)
    points = torch.from_numpy(attack.generate(x.numpy(), np.eye(n_classes)[y.numpy()]))
    assert bool(misclassified(outputs(classifier, points), y).any())

    # torchattacks knows the box between 0 and 1 alone.
    unit = as_classifier(classifier, preprocess=(-low / (high - low), 1 / (high - low)))
    images = (x - low) / (high - low)
    found = torchattacks.DeepFool(unit, steps=200)(images, y)
    assert bool(misclassified(outputs(unit, found), y).any())


def test_warnings_of_ours_do_not_come_from_their_models() -> None:
    x, y, _ = samples()
    fmodel = foolbox.PyTorchModel(Plane().eval(), bounds=(0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_foolbox(NearestError())(fmodel, x, y)
