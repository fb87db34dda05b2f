"""Red flags: each raised by a planted fault, and none by a classifier without one."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import trueboundary as tb
from trueboundary.attacks import NearestError
from trueboundary.audits import audit
from trueboundary.audits.card_page import page
from trueboundary.audits.flags import FLAGS, page_of_flag
from trueboundary.classifiers import as_classifier
from trueboundary.densities import LowRankGaussian
from trueboundary.problems import MixtureProblem, planar_problem

THREE = planar_problem("three")


@pytest.fixture(scope="module")
def blobs():
    """Two round Gaussians in 20 dimensions whose coordinates lie around 0 and 1."""
    means = torch.zeros(2, 20)
    means[1] = 1.0
    return MixtureProblem(*(LowRankGaussian(m, torch.zeros(20, 0), 0.01) for m in means))


def halfway(x):
    return x.sum(1) - 10


def flags(model, problem, n_points=2, **options):
    card = audit(model, problem, n_points=n_points, n_error_points=100, **options)
    return {flag.name: flag.text for flag in card.flags}


def test_a_clean_network_raises_none(blobs):
    assert flags(halfway, blobs) == {}
    layer = layer_of(1.0)
    assert flags(layer, blobs) == {}
    assert flags(THREE.bayes_classifier(dtype=torch.float64), THREE) == {}
    # Logits whose differences are log probabilities are as good as any.
    assert flags(nn.Sequential(layer, nn.LogSoftmax(1)).eval(), blobs) == {}


def layer_of(scale):
    """`two` as a layer, several times as sure."""
    layer = nn.Linear(20, 2, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight[:] = scale * torch.tensor([[-1.0], [1.0]])
        layer.bias[:] = scale * torch.tensor([10.0, -10.0])
    return layer


def two(x):
    return torch.stack([-halfway(x), halfway(x)], dim=1)


@pytest.mark.parametrize(
    "shown",
    [
        lambda x: two(x).softmax(1),
        lambda x: halfway(x).sigmoid(),
        lambda x: two(x).log_softmax(1)[:, 1],
    ],
    ids=["of both", "of class 1", "log of class 1"],
)
def test_probabilities_of_two_classes(blobs, shown):
    assert "probabilities" in flags(shown, blobs)


def test_probabilities_that_are_said_to_be_some_are_none(blobs):
    said = as_classifier(lambda x: two(x).softmax(1), outputs="probability")
    assert "probabilities" not in flags(said, blobs)
    assert "probabilities" not in flags(as_classifier(two), blobs)
    hidden = as_classifier(lambda x: two(x).softmax(1))
    assert "probabilities" in flags(hidden, blobs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preprocess": (0.0, 1.0)},
        {"preprocess": (0.0, 1.0, (20,))},
        {"preprocess": (0.0, 1.0, (1, 4, 5))},
        {"classes": (0, 1)},
    ],
    ids=str,
)
def test_probabilities_are_seen_however_a_network_is_wrapped(blobs, options):
    sure = nn.Sequential(nn.Flatten(), layer_of(50.0), nn.Softmax(1)).eval()
    found = flags(as_classifier(sure, **options), blobs)
    assert "outputs='probability' where as_classifier wraps" in found["probabilities"]
    assert "rounding hides the boundary" not in found  # no offset is to blame
    said = as_classifier(sure, outputs="probability", **options)
    assert "probabilities" not in flags(said, blobs)


def test_gradients_that_are_not_finite(blobs):
    def rooted(x):
        first = x[:, 0] - 0.5
        root = torch.where(first > 0, first.sqrt(), first)  # NaN on the way back
        return root + halfway(x)

    assert "gradients that are not finite" in flags(rooted, blobs)


class Doubled(nn.Module):
    """Asks for points in double precision."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("one", torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.function(x)


def test_rounding_hides_the_boundary(blobs):
    def far(x):
        return (halfway(x) * 1e-3 + 1e6) - 1e6

    assert "rounding hides the boundary" in flags(far, blobs)
    # In double precision as many digits are left.
    assert flags(Doubled(far), blobs) == {}


def test_an_attack_that_was_not_done(blobs):
    needle = torch.ones(20)
    needle[0] = 12.0

    def ellipsoid(x):
        return (needle * (x - 0.2) ** 2).sum(1) - 4.0

    lazy = NearestError(n_slides=1, n_cuts=0, n_hops=0)
    found = flags(ellipsoid, blobs, n_points=4, attack=lazy)
    assert "twice its budget" in found["attack still improving"]
    assert "attack still improving" not in flags(ellipsoid, blobs, n_points=4)


def test_a_classifier_that_cuts_its_inputs_off(blobs):
    found = flags(lambda x: halfway(x.clamp(0, 1)), blobs)
    assert "beyond [0, 1]" in found["inputs outside the domain"]
    # What it never looks at may lie anywhere.
    assert "inputs outside the domain" not in flags(lambda x: x[:, 0].clamp(-9, 9) - 0.5, blobs)
    # It cuts off what it says, and not what it is told.
    assert "inputs outside the domain" not in flags(lambda x: (99 * halfway(x)).clamp(-1, 1), blobs)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda x: halfway(x / 255), "multiplied by 255"),
        (lambda x: x.sum(1) + 5, "moved from [0, 1] to [-1, 1]"),
    ],
)
def test_a_classifier_of_points_in_another_range(blobs, other, words):
    found = flags(other, blobs)
    assert words in found["inputs outside the domain"]


def test_a_poor_classifier_is_just_poor(blobs):
    assert "inputs outside the domain" not in flags(lambda x: 0 * x[:, 0] - 1, blobs)
    wrong = lambda x: -halfway(x)  # noqa: E731
    assert "inputs outside the domain" not in flags(wrong, blobs)


def test_every_flag_has_a_page_and_the_card_leads_to_it(blobs):
    names = set()
    source = Path(tb.__file__).parent / "audits"
    for file in source.glob("*.py"):
        names |= set(re.findall(r'Flag\(\s*"([a-z ]+)"', file.read_text()))
        names |= set(re.findall(r'AttackStatus\.\w+, "([a-z ]+)"', file.read_text()))
    assert names == set(FLAGS)
    docs = Path(__file__).parents[2] / "docs" / "flags"
    for name in FLAGS:
        slug = name.replace(" ", "-")
        assert page_of_flag(name).startswith(f"# Red flag: {name}\n")
        assert slug in (docs / f"{slug}.md").read_text()
        assert slug in (docs / "index.md").read_text()
    with pytest.raises(ValueError, match="did you mean 'zero gradients'"):
        page_of_flag("zero gradient")
    text = page(audit(lambda x: two(x).softmax(1), blobs, n_points=2, n_error_points=50))
    assert '<a href="#flag-probabilities">' in text
    assert 'id="flag-probabilities"' in text
    assert "How it is seen" in text
