"""Proofs and exact numbers are those of the very classifier that was asked about, or none."""

import math

import numpy as np
import pytest
import torch
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC
from torch import nn
from torch.nn.utils import parametrizations, prune

import trueboundary as tb
from trueboundary.attacks import AttackWarning
from trueboundary.certificates import (
    EllipsoidCertificate,
    LipschitzMixtureCertificate,
    MixtureCertificate,
    SVMCertificate,
    bounds,
    bracket,
    prove_sphere_error_free,
)
from trueboundary.classifiers import (
    RBFSVM,
    BayesOptimal,
    LinearSVM,
    SoftmaxRegression,
    SphereBayes,
    TruncatedSum,
    as_classifier,
    dtype_of,
    from_sklearn,
    outputs,
)
from trueboundary.densities import LowRankGaussian
from trueboundary.measure.proofs import default_proof
from trueboundary.problems import MixtureProblem, planar_problem
from trueboundary.training import train_eval_gap

SPHERES = tb.ConcentricSpheres(dim=3)
GAUSSIANS = [
    LowRankGaussian(torch.tensor([m, 0.0]).double(), torch.zeros(2, 0).double(), 1.0)
    for m in (-1.0, 1.0)
]
PAIR = MixtureProblem(*GAUSSIANS)


def sequence(dtype=torch.float64, n_out=1):
    """Return a network of margin relu(x0) - 0.9, or of two logits with that difference."""
    with torch.random.fork_rng():  # layers draw their values from the global state
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, n_out)).to(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net[0].weight[0, 0] = net[2].weight[-1, 0] = 1.0
        net[2].bias[-1] = -0.9
    return net


def network(dtype=torch.float64):
    return tb.ReLUNetwork(
        3, 8, 1, batch_norm=None, generator=torch.Generator().manual_seed(0), dtype=dtype
    )


def quadratic():
    return tb.QuadraticNetwork(3, 6, generator=torch.Generator().manual_seed(0)).double()


def subclass(kind, *arguments, **settings):
    """Return an instance of a subclass whose margin is larger by 3."""

    class Shifted(kind):
        def margin(self, x):
            return super().margin(x) + 3.0

    return Shifted(*arguments, **settings)


def patched(module, method="margin"):
    original = getattr(module, method)
    vars(module)[method] = lambda x: original(3 * x)
    return module


def hooked(module, part=None):
    (module if part is None else part).register_forward_hook(lambda module, points, out: 3 * out)
    return module


def changed(module, change, *arguments):
    change(*arguments)
    return module


class Normalised(nn.Sequential):
    def forward(self, x):
        return super().forward(3 * x)


def altered():
    """Yield classifiers that compute something else than their layers, in operations known."""
    yield Normalised(*sequence())
    yield hooked(sequence())
    net = sequence()
    yield hooked(net, net[0])
    net = sequence()
    yield changed(net, prune.l1_unstructured, net[0], "weight", 0.5)
    net = sequence()
    yield changed(net, parametrizations.spectral_norm, net[0])
    net = sequence()
    net[0].weight.data += 0.1
    yield changed(net, parametrizations.weight_norm, net[0])
    net = sequence()
    yield changed(net, patched, net[0], "forward")
    yield patched(sequence(), "forward")
    yield patched(network())
    yield subclass(
        tb.ReLUNetwork, 3, 8, 1, batch_norm=None, generator=torch.Generator().manual_seed(0)
    )
    yield subclass(LinearSVM, torch.ones(3), 0.1)


def unread():
    """Yield others that compute what no bound is known of, and what is said of them."""
    net = network()
    net.linear[0] = nn.Sequential(net.linear[0], nn.Tanh())
    yield net, "one of them is now a Sequential"
    yield subclass(TruncatedSum, 3, 2, 0.5), "of a subclass of TruncatedSum"
    yield subclass(SphereBayes, 3), "of a subclass of SphereBayes"
    yield patched(quadratic()), "has a method margin() of its own"
    yield hooked(quadratic()), "has a forward hook"


@pytest.mark.parametrize("classifier", list(altered()))
def test_an_altered_network_gets_the_proof_of_what_it_computes(classifier):
    for each in tb.distances(classifier, SPHERES, n_points=5):
        assert each.method.startswith("RelaxationCertificate below")
        assert (each.lower <= each.upper * (1 + 1e-6)).all()
    x = torch.eye(3).double()
    classifier.eval()
    with torch.no_grad():
        own = outputs(classifier, x.to(dtype_of(classifier))).double()
    low, high = bounds(classifier, x, 0.0)  # of the classifier, not of the layers it began with
    assert low.numpy() == pytest.approx(own.numpy(), abs=1e-5)
    assert high.numpy() == pytest.approx(own.numpy(), abs=1e-5)


UNREAD = list(unread())


@pytest.mark.parametrize(("classifier", "why"), UNREAD, ids=[why for _, why in UNREAD])
def test_an_altered_classifier_without_a_proof_is_told_why(classifier, why):
    for each in tb.distances(classifier, SPHERES, n_points=3):
        assert (each.lower == 0).all()
        assert "no certificate (" in each.method
        assert why in each.method


@pytest.mark.parametrize(
    "classifier",
    [
        subclass(tb.QuadraticNetwork, 3, 6, generator=torch.Generator().manual_seed(0)),
        patched(quadratic()),
        hooked(quadratic()),
        subclass(TruncatedSum, 3, 2, 0.5),
        subclass(SphereBayes, 3),
    ],
    ids=["subclass", "patched", "hooked", "truncated sum", "sphere"],
)
def test_an_altered_classifier_is_sampled(classifier):
    told = tb.error_rate(classifier, SPHERES, n_points=2000)
    for rate in told:
        assert rate.method == "sampling"
        assert rate.reason.startswith("no exact form is known, since this")
    with pytest.raises(ValueError, match="since this"):
        tb.error_rate(classifier, SPHERES, method="exact")


def test_an_optimal_classifier_that_leans_to_one_side_is_not_optimal():
    leaning = subclass(BayesOptimal, *GAUSSIANS)
    zero, _ = tb.error_rate(leaning, PAIR, n_points=20_000)
    assert zero.method == "sampling"
    assert zero.low <= 0.5 * math.erfc(-0.5 / math.sqrt(2)) <= zero.high  # x0 >= -1.5
    found = tb.distances(leaning, PAIR, n_points=5)
    assert all((each.lower == 0).all() for each in found)
    x, y = torch.zeros(1, 2).double(), torch.tensor([0])
    for call in (MixtureCertificate(), LipschitzMixtureCertificate(), bracket):
        with pytest.raises(TypeError, match="Shifted is of a subclass of BayesOptimal"):
            call(leaning, x, y)
        with pytest.raises(TypeError, match="has a method margin"):
            call(patched(BayesOptimal(*GAUSSIANS)), x, y)


def test_a_density_changed_behind_the_classifiers_back():
    zero, one = (
        LowRankGaussian(torch.tensor([m, 0.0]).double(), torch.ones(2, 1).double(), 1.0)
        for m in (-1.0, 1.0)
    )
    classifier = BayesOptimal(zero, one)
    zero.loadings.mul_(3)  # what the density computes was prepared before
    x = torch.ones(1, 2).double()
    for call in (MixtureCertificate(), LipschitzMixtureCertificate(), bracket):
        with pytest.raises(ValueError, match="gives point 0 the margin"):
            call(classifier, x, torch.tensor([1]))


@pytest.mark.parametrize(
    "make", [lambda: network(), lambda: quadratic()], ids=["ReLU", "quadratic"]
)
def test_a_direct_call_says_in_one_sentence_why_there_is_no_proof(make):
    x, y = torch.zeros(1, 3).double() + 0.5, torch.tensor([0])
    reads = "folded" if isinstance(make(), tb.ReLUNetwork) else "ellipsoid"
    calls = [lambda net: EllipsoidCertificate()(net, x, y)]
    if reads == "folded":
        calls = [lambda net: prove_sphere_error_free(net, 1.0, label=0)]
    kind = type(make())

    class Other(kind):
        pass

    inherited = make()
    inherited.__class__ = Other
    for call in calls:
        call(make())
        with pytest.raises(TypeError, match=rf"Other inherits {reads}\(\) from {kind.__name__}"):
            call(inherited)
        with pytest.raises(TypeError, match=r"has a method margin\(\) of its own"):
            call(patched(make()))
        with pytest.raises(TypeError, match="has a forward hook"):
            call(hooked(make()))


def test_machines_that_were_altered_are_refused():
    rbf = (torch.eye(2), torch.tensor([-1.0, 1.0]), 0.1, 1.0)
    for kind, arguments in ((LinearSVM, (torch.ones(2), 0.1)), (RBFSVM, rbf)):
        with pytest.raises(TypeError, match=f"Shifted is of a subclass of {kind.__name__}"):
            SVMCertificate()(subclass(kind, *arguments), torch.zeros(1, 2), torch.tensor([1]))
        with pytest.raises(TypeError, match="has a method margin"):
            SVMCertificate()(patched(kind(*arguments)), torch.zeros(1, 2), torch.tensor([1]))


def test_a_hook_on_all_modules_is_seen():
    handle = nn.modules.module.register_module_forward_hook(lambda module, x, out: 3 * out)
    try:
        found = tb.distances(sequence(), SPHERES, n_points=3)
        rates = tb.error_rate(quadratic(), SPHERES, n_points=100)
    finally:
        handle.remove()
    assert found[0].method.startswith("RelaxationCertificate")  # of the network with its hooks
    assert rates[0].method == "sampling"


def test_a_class_that_was_changed_is_seen_at_the_points(monkeypatch):
    original = tb.QuadraticNetwork.margin
    monkeypatch.setattr(tb.QuadraticNetwork, "margin", lambda self, x: original(self, x) + 1)
    found = tb.distances(quadratic(), SPHERES, n_points=3)
    assert "(3 of 3 points differ)" in found[0].method
    assert (found[0].lower == 0).all()
    assert tb.error_rate(quadratic(), SPHERES, n_points=100)[0].method == "sampling"
    with pytest.raises(ValueError, match="gives point 0 the margin"):
        EllipsoidCertificate()(quadratic(), torch.eye(3), torch.tensor([0, 0, 0]))
    linear = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: linear(self, 2 * x))
    for net in (sequence(), network(), sequence(torch.float32, 2)):
        assert "points differ" in tb.distances(net, SPHERES, n_points=3)[1].method


def test_a_wrapper_that_turns_margins_into_others_gets_the_proof_of_those():
    wrapped = as_classifier(sequence())
    assert default_proof(wrapped)[0] is not None
    wrapped.function = sequence()
    inner, _ = tb.distances(wrapped, SPHERES, n_points=3)
    assert inner.method.startswith("RelaxationCertificate")
    # A wrapper whose class was changed, so that it reads its function as something else.
    original = type(wrapped).outputs
    try:
        type(wrapped).outputs = lambda self, x: original(self, x) - 0.5
        inner, _ = tb.distances(wrapped, SPHERES, n_points=3)
        low, _ = bounds(wrapped, torch.eye(3), 0.0)
    finally:
        type(wrapped).outputs = original
    assert inner.method.startswith("RelaxationCertificate")  # of the wrapper as it is now
    assert low.numpy() == pytest.approx(outputs(wrapped, torch.eye(3).double()).detach() - 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_as_it_was_made_keeps_its_proof(dtype):
    pruned = sequence(dtype)
    prune.l1_unstructured(pruned[0], "weight", 0.5)
    prune.remove(pruned[0], "weight")
    offset = sequence(dtype, 2)
    offset[2].bias.data += 1e4  # of both logits: their difference is left with a few digits
    for net in (sequence(dtype), sequence(dtype, 2), pruned, offset, network(dtype)):
        net.history = (i for i in range(3))  # what cannot be copied
        for each in tb.distances(net, SPHERES, n_points=3):
            assert each.method.startswith("RelaxationCertificate")
    for classifier in (SphereBayes(3, dtype=dtype), TruncatedSum(3, 2, 0.5, dtype=dtype)):
        classifier.history = (i for i in range(3))
        for each in tb.distances(classifier, SPHERES, n_points=3):
            assert each.method.startswith("EllipsoidCertificate")


def test_a_pruned_network_is_measured_and_left_as_it_is():
    net = tb.ReLUNetwork(3, 8, 1, generator=torch.Generator().manual_seed(0))
    prune.l1_unstructured(net.linear[0], "weight", 0.5)
    net(torch.randn(20, 3, generator=torch.Generator().manual_seed(1)))
    state = {key: value.clone() for key, value in net.state_dict().items()}
    assert train_eval_gap(net, torch.eye(3)).maximum > 0
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    net.eval()
    assert tb.error_rate(net, SPHERES, n_points=100)[0].method == "sampling"
    found = tb.distances(net, SPHERES, n_points=3)
    assert all(np.isfinite(each.upper).any() for each in found)


def test_a_proof_speaks_through_a_choice_of_classes_and_a_normalisation():
    layers = sequence(torch.float64, 3)
    problem = MixtureProblem(*(LowRankGaussian(m, torch.zeros(3, 0), 1.0) for m in torch.eye(3)))
    whole = tb.distances(layers, problem, n_points=3)
    assert all(each.method.startswith("RelaxationCertificate") for each in whole)
    shifted = as_classifier(layers, preprocess=(0.5, 2.0))
    pair = as_classifier(layers, classes=(0, 1))
    for adapted, of in ((shifted, problem), (pair, MixtureProblem(*problem.densities[:2]))):
        assert "no proof is known" in default_proof(adapted)[1]
        for each in tb.distances(adapted, of, n_points=3):
            assert each.method.startswith("RelaxationCertificate")
            assert (each.lower <= each.upper * (1 + 1e-6)).all()


# ------------------------------------------------------------- three classes and more

THREE = planar_problem("three")


def fitted(estimator):
    x, y = THREE.sample(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return from_sklearn(estimator.fit(x.numpy(), y.numpy()), x)


def softmax(dtype):
    rule = SoftmaxRegression(2, 3, dtype=dtype)
    weight = torch.tensor([[0.0, 2.0], [-2.0, 0.0], [1.0, -1.0]])
    rule.load_state_dict({"weight": weight, "bias": torch.tensor([-1.0, -1.0, 0.0])})
    return rule


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_rules_of_many_classes_have_exact_distances(dtype):
    layer = nn.Linear(2, 3, device="meta", dtype=dtype).to_empty(device="cpu")
    layer.load_state_dict(softmax(dtype).state_dict())
    for rule in (softmax(dtype), layer, nn.Sequential(nn.Flatten(), layer)):
        for found in tb.distances(rule, THREE, n_points=20):
            assert found.exact.all()
            assert found.method.startswith("LinearCertificate")
            assert (found.lower <= found.upper * (1 + 1e-9)).all()
            assert (found.upper <= found.lower * (1 + 1e-4) + 1e-9).mean() >= 0.5


def test_machines_one_against_rest_have_lower_bounds():
    rule = fitted(OneVsRestClassifier(SVC(gamma=0.5)))
    for found in tb.distances(rule, THREE, n_points=10):
        assert found.method.startswith("SVMCertificate")
        assert (found.lower <= found.upper * (1 + 1e-9)).all()
        assert np.median(found.lower) > 0


def test_votes_one_against_one_have_no_lower_bound_and_say_why():
    rule = fitted(SVC())
    assert default_proof(rule)[0] is None
    with pytest.warns(AttackWarning, match="no gradient to climb"):
        classes = tb.distances(rule, THREE, n_points=3)
    for found in classes:
        assert "votes one against one, so that it is taken by its labels alone" in found.method
        assert (found.lower == 0).all()
        assert not found.exact[found.upper > 0].any()
        without = np.isinf(found.upper)
        assert without.any()
        assert all("no gradient to climb" in found.reasons[i] for i in np.flatnonzero(without))
