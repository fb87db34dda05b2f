"""What a user hands over comes back as it was, and every verb says what is doubtful about it."""

import copy
import functools
import types
import warnings

import pytest
import torch
from torch import nn

import trueboundary as tb
from trueboundary.attacks import AttackWarning
from trueboundary.classifiers import (
    BinaryClassifier,
    CallableClassifier,
    ClassifierWarning,
    as_classifier,
    dtype_of,
    evaluated,
    margin,
    margin_and_gradient,
    misclassified,
    modules_of,
    probability_doubts,
)
from trueboundary.rare_events import RareEventWarning, Splitting, estimate_error_rate

PROBLEM = tb.ConcentricSpheres(dim=4)


@pytest.fixture(autouse=True)
def _own_weights():
    """Let layers draw their first weights without touching the global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normalised():
    """A network whose batch statistics are far from its running ones."""
    network = tb.ReLUNetwork(4, 8, 1, generator=seeded())
    network(PROBLEM.sample(50, generator=seeded())[0])
    return network.train()


class Counting(nn.Module):
    """Counts its calls in a buffer, in any mode: once in place and once by a new tensor."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("others", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.others = self.others + 1
        return self.linear(x)


def in_list(network):
    held = [network]
    return lambda x: held[0](x)


class Wrapper:
    def __init__(self, network):
        self.network = network

    def __call__(self, x):
        return self.network(x)

    def method(self, x):
        return self.network(x)


class Slotted:
    __slots__ = ("network",)

    def __init__(self, network):
        self.network = network

    def __call__(self, x):
        return self.network(x)


def in_function_within(network):
    def inner(x):
        def innermost(points):
            return HELD["network"](points)

        return innermost(x)

    HELD["network"] = network
    return inner


def in_python_module(network):
    AWAY.away_network = network
    return lambda x: AWAY.away_network(x)


def in_class(network):
    class Model:
        held = network

        def helper(self, x):
            return self.held(x)

        def predict(self, x):
            return self.helper(x)

    return Model().predict


def through_globals(network):
    class Model:
        def __call__(self, x):
            return HELD["network"](x)

    HELD["network"] = network
    return Model()


HELD = {}
AWAY = types.ModuleType("away")

WAYS_TO_GIVE_A_MODULE = {
    "module": lambda network: network,
    "function": lambda network: lambda x: network(x),
    "list": in_list,
    "method": lambda network: network.forward,
    "partial": lambda network: functools.partial(lambda f, x: f(x), network),
    "object": Wrapper,
    "method of an object": lambda network: Wrapper(network).method,
    "wrapped": lambda network: as_classifier(lambda x: network(x)),
    "object with slots": Slotted,
    "function within a function": in_function_within,
    "attribute of a Python module": in_python_module,
    "attribute of a class": in_class,
    "global of a method": through_globals,
    "data-parallel module": nn.DataParallel,
}


@pytest.mark.parametrize("way", WAYS_TO_GIVE_A_MODULE)
def test_a_network_in_training_mode_is_measured_in_eval_mode_and_left_as_it_was(way):
    network = normalised()
    truth = tb.error_rate(copy.deepcopy(network).eval(), PROBLEM, method="sampling", n_points=2000)
    before = copy.deepcopy(network.state_dict())
    rates = tb.error_rate(
        WAYS_TO_GIVE_A_MODULE[way](network), PROBLEM, method="sampling", n_points=2000
    )
    assert [rate.n_errors for rate in rates] == [rate.n_errors for rate in truth]
    assert all("training mode" in str(rate) for rate in rates)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any("training mode" in str(rate) for rate in truth)


def test_every_verb_says_that_the_network_came_in_training_mode():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    x, y = PROBLEM.sample(8, generator=seeded())
    few = Splitting(n_particles=20, n_replicates=2, min_probability=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RareEventWarning)
        split = estimate_error_rate(network, PROBLEM, 0, splitting=few, generator=seeded())
    results = [
        split,
        *tb.distances(network, PROBLEM, n_points=3),
        *tb.optimality(network, PROBLEM, n_points=3, method="sampling", n_error_points=100),
        tb.ManifoldAttack(n_steps=5)(network, x, y),
    ]
    for result in results:
        assert sum("training mode" in sentence for sentence in result.warnings) == 1
    assert network.training
    assert network[2].training


def test_a_plain_network_in_training_mode_is_nothing_to_talk_about():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    with evaluated(network) as sentences:
        assert not network.training
    assert sentences == ()
    assert network.training


def test_a_frozen_layer_stays_frozen():
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
    network[0].eval()
    with evaluated(network) as sentences:
        assert not network.training
    assert sentences == ()  # the one layer that depends on the mode was in eval mode already
    assert network.training
    assert not network[0].training


def test_buffers_are_as_before_whatever_the_forward_does():
    network = Counting()
    for way in (lambda x: network(x), network):
        tb.error_rate(way, PROBLEM, method="sampling", n_points=10)
        assert network.calls == 0
        assert network.others == 0


class Unusual(nn.Module):
    """Has buffers that are made late, changed behind autograd's back, or made in inference mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.register_buffer("hidden", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("empty", None)
        with torch.inference_mode():
            self.register_buffer("inference", torch.zeros(2))

    def forward(self, x):
        self.hidden.data += 1
        self.empty = x.mean(0)
        with torch.inference_mode():
            self.inference += 1
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.zeros(()))
        return self.linear(x)


def test_unusual_buffers_are_as_before():
    network = Unusual()
    before = copy.deepcopy(network.state_dict())
    tb.error_rate(network, PROBLEM, method="sampling", n_points=10)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert network.empty is None


def test_a_scripted_network_is_measured_in_eval_mode_and_left_as_it_was():
    plain = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    plain(2 + PROBLEM.sample(50, generator=seeded())[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)  # of torch 2.14, that it is deprecated
        network = torch.jit.script(copy.deepcopy(plain))
    truth = tb.error_rate(plain.eval(), PROBLEM, method="sampling", n_points=500)
    rates = tb.error_rate(network, PROBLEM, method="sampling", n_points=500)
    assert [rate.n_errors for rate in rates] == [rate.n_errors for rate in truth]
    assert network.training
    assert torch.equal(network.state_dict()["1.running_mean"], plain[1].running_mean)


def test_a_module_that_refuses_to_change_its_mode_is_measured_and_told():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = normalised()

        def forward(self, x):
            return self.inner(x)

        def train(self, mode=True):
            raise NotImplementedError("train() is not supported for exported models.")

    network = Frozen()
    truth = tb.error_rate(
        copy.deepcopy(network.inner).eval(), PROBLEM, method="sampling", n_points=500
    )
    rates = tb.error_rate(network, PROBLEM, method="sampling", n_points=500)
    assert [rate.n_errors for rate in rates] == [rate.n_errors for rate in truth]
    assert "refuses to change its mode (train() is not supported" in str(rates[0])
    assert len(rates[0].warnings) == 1
    assert all(module.training for module in network.modules())


def test_a_network_traced_in_training_mode_is_told():
    x = PROBLEM.sample(50, generator=seeded())[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit: deprecated, and unlike its own check
        for network, n_told in ((normalised(), 1), (normalised().eval(), 0)):
            traced = torch.jit.trace(network, x)
            rate, _ = tb.error_rate(traced, PROBLEM, method="sampling", n_points=500)
            assert sum("was traced in training mode" in each for each in rate.warnings) == n_told
            assert len(rate.warnings) == n_told


def test_a_module_without_values_is_not_given_random_ones():
    for layer in (nn.LazyLinear(1), nn.LazyBatchNorm1d()):
        network = nn.Sequential(layer, nn.Flatten())
        with pytest.raises(ValueError, match="has no values yet; call the classifier once"):
            tb.error_rate(network, PROBLEM, method="sampling", n_points=10)


def test_the_mode_comes_back_when_the_classifier_raises():
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    with pytest.raises(RuntimeError):
        tb.error_rate(network, PROBLEM, method="sampling", n_points=10)
    assert network.training


def test_a_mode_that_does_more_than_a_flag_is_set_by_the_modules_own_method():
    class Merging(nn.Linear):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

        def forward(self, x):
            assert self.merged
            return super().forward(x)

    network = Merging(4, 1)
    tb.error_rate(network, PROBLEM, method="sampling", n_points=10)
    assert network.training
    assert not network.merged


def test_modules_of_looks_no_deeper_than_it_can():
    assert modules_of(torch.sigmoid) == []
    assert modules_of(lambda x: undefined(x)) == []  # noqa: F821
    network = nn.Linear(2, 1)
    assert modules_of(CallableClassifier(lambda x: network(x)))[-1] is network


SIGMOIDS = {
    "(n, 1)": lambda f: lambda x: torch.sigmoid(f(x))[:, None],
    "(n,)": lambda f: lambda x: torch.sigmoid(f(x)),
    "0 and 1": lambda f: lambda x: (f(x) > 0).float(),
    "adapted": lambda f: as_classifier(lambda x: torch.sigmoid(f(x))),
}


@pytest.mark.parametrize("form", SIGMOIDS)
def test_probabilities_taken_for_logits_are_told_with_what_to_do(form):
    model = SIGMOIDS[form](lambda x: 20 * (x.norm(dim=1) - 1.15))
    x, y = PROBLEM.sample(20, generator=seeded())
    few = Splitting(n_particles=20, n_replicates=2, min_probability=1e-2)
    for verb in (
        lambda: tb.error_rate(model, PROBLEM, method="sampling", n_points=100),
        lambda: tb.distances(model, PROBLEM, n_points=3),
        lambda: [estimate_error_rate(model, PROBLEM, 0, splitting=few, generator=seeded())],
        lambda: [tb.ManifoldAttack(n_steps=5)(model, x, y)],
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RareEventWarning)
            warnings.simplefilter("ignore", AttackWarning)
            with pytest.warns(ClassifierWarning, match="outputs='probability'"):
                results = verb()
        assert all("outputs='probability'" in " ".join(found.warnings) for found in results)


def test_log_probabilities_taken_for_logits_are_told_with_what_to_do():
    def log_probability(x):
        return nn.functional.logsigmoid(20 * (x.norm(dim=1) - 1.15))

    with pytest.warns(ClassifierWarning, match="outputs='log_probability'"):
        rates = tb.error_rate(log_probability, PROBLEM, method="sampling", n_points=50)
    assert "as log probabilities are" in str(rates[1])
    cured = as_classifier(log_probability, outputs="log_probability")
    rates = tb.error_rate(cured, PROBLEM, method="sampling", n_points=50)
    assert [(rate.n_errors, rate.warnings) for rate in rates] == [(0, ()), (0, ())]
    # As log probabilities these are no better than as logits.
    for zero, one in ((-2.0, -1.0), (-0.6, -0.5), (-0.5, -2.0)):
        outputs = torch.full((9,), zero), torch.full((9,), one)
        assert probability_doubts(log_probability, *outputs) == ()


def test_probabilities_of_a_class_of_ones_own_are_told_with_what_to_do():
    class Sigmoid(BinaryClassifier):
        def margin(self, x):
            return torch.sigmoid(20 * (x.norm(dim=1) - 1.15))

    with pytest.warns(ClassifierWarning, match=r"let Sigmoid.margin return log p - log\(1 - p\)"):
        tb.error_rate(Sigmoid(), PROBLEM, method="sampling", n_points=50)


def test_probabilities_said_to_be_such_are_measured_like_their_logits():
    def logit(x):
        return 5 * (x[:, 0] - 0.1) + 3 * (x.norm(dim=1) - 1.1)

    want = tb.error_rate(logit, PROBLEM, method="sampling", n_points=5000)
    x = PROBLEM.sample(50, generator=seeded())[0]
    both = torch.stack([torch.sigmoid(-logit(x)), torch.sigmoid(logit(x))], dim=1)
    forms = {
        "probability": lambda x: torch.sigmoid(logit(x)),
        "log_probability": lambda x: nn.functional.logsigmoid(logit(x)),
    }
    for outputs, function in forms.items():
        model = as_classifier(function, outputs=outputs)
        torch.testing.assert_close(model.margin(x), logit(x), rtol=1e-4, atol=1e-5)
        got = tb.error_rate(model, PROBLEM, method="sampling", n_points=5000)
        assert [rate.n_errors for rate in got] == [rate.n_errors for rate in want]
    for outputs, values in (("probability", both), ("log_probability", both.log())):
        model = as_classifier(lambda _, values=values: values, outputs=outputs)
        torch.testing.assert_close(model.margin(x), logit(x), rtol=1e-4, atol=1e-5)


def test_saturated_probabilities_have_finite_margins():
    x = torch.zeros(2, 1)
    model = as_classifier(lambda _: torch.tensor([0.0, 1.0]), outputs="probability")
    low, high = model.margin(x).tolist()
    assert -100 < low < -50
    assert 50 < high < 100
    model = as_classifier(lambda _: torch.tensor([-torch.inf, 0.0]), outputs="log_probability")
    assert model.margin(x).isfinite().all()


def test_outputs_that_are_not_what_they_are_said_to_be_are_refused():
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        as_classifier(lambda _: torch.tensor([1.5]), outputs="probability").margin(x)
    with pytest.raises(ValueError, match="at most 0"):
        as_classifier(lambda _: torch.tensor([1.5]), outputs="log_probability").margin(x)
    with pytest.raises(ValueError, match="outputs"):
        as_classifier(lambda _: x, outputs="softmax")
    with pytest.raises(ValueError, match="leave outputs out"):
        as_classifier(tb.ReLUNetwork(4, 8, 1, generator=seeded()), outputs="probability")


def test_right_logits_between_0_and_1_are_no_probabilities():
    half = torch.tensor([0.5, 0.7, 0.9])
    assert probability_doubts(lambda x: x, half[:0], half) == ()
    assert probability_doubts(lambda x: x, half[:1], half) == ()
    assert probability_doubts(lambda x: x, -half, half) == ()
    assert probability_doubts(lambda x: x, half - 0.6, half) == ()
    assert probability_doubts(tb.ReLUNetwork(4, 8, 1, generator=seeded()), half, half) == ()
    assert len(probability_doubts(lambda x: x, half, half)) == 1


@pytest.mark.parametrize(
    "change", [lambda x: x.sub_(1.0), lambda x: x.clamp_(min=0.1), nn.ReLU(True)]
)
def test_a_forward_that_works_in_place_leaves_the_points_alone(change):
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    kept = x.clone()
    values = margin(lambda z: change(z).sum(1), x)
    assert torch.equal(x, kept)
    assert torch.equal(values, change(kept.clone()).sum(1))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_squeezed_output_is_the_same_margin(n):
    x = torch.randn(n, 3, generator=seeded())
    one, two = nn.Linear(3, 1), nn.Linear(3, 2)
    assert torch.equal(margin(lambda z: one(z).squeeze(), x), margin(one, x))
    assert torch.equal(margin(lambda z: two(z).squeeze(), x), margin(two, x))


def test_half_precision_is_taken_as_it_is():
    network = nn.Linear(3, 1)
    x = torch.randn(5, 3, generator=seeded())
    for dtype in (torch.bfloat16, torch.float16):
        half = copy.deepcopy(network).to(dtype)
        assert dtype_of(half) == torch.float32
        values = margin(half, x)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, margin(network, x), rtol=0.05, atol=0.05)

    def under_autocast(z):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(z)

    assert margin(under_autocast, x).dtype == torch.float32


def test_points_in_another_dtype_than_the_classifiers_are_told_in_one_sentence():
    network = nn.Linear(3, 1)
    with pytest.raises(TypeError, match=r"torch\.float64.*convert"):
        margin(network, torch.zeros(2, 3, dtype=torch.float64))


def test_functions_are_given_points_in_the_dtype_of_the_module_that_they_use():
    network = nn.Linear(4, 1).double()
    rates = tb.error_rate(lambda x: network(x), PROBLEM, method="sampling", n_points=10)
    assert rates[0].n_points == 10


def test_the_dtype_is_seen_in_buffers_and_through_adapters():
    network = nn.Linear(3, 1).double()
    assert dtype_of(as_classifier(lambda x: network(x))) == torch.float64
    assert dtype_of(as_classifier(torch.norm)) == torch.float32
    holder = nn.Module()
    holder.register_buffer("weight", torch.ones(3, dtype=torch.float64))
    assert dtype_of(holder) == torch.float64


def through_out(x):
    return torch.mul(x, 2, out=x).sum(1)


def with_parameters_of_inference_mode():
    with torch.inference_mode():
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


@pytest.mark.parametrize(
    "classifier",
    [
        through_out,
        with_parameters_of_inference_mode(),
        lambda x: torch.from_numpy(x.numpy().sum(axis=1)),
        torch.inference_mode()(lambda x: x.sum(1)),
        lambda x: torch.zeros(len(x)),
    ],
)
def test_a_classifier_that_refuses_a_graph_has_margins_and_no_gradient(classifier):
    x = torch.rand(3, 4)
    margins, gradient = margin_and_gradient(classifier, x)
    assert gradient is None
    with torch.no_grad():
        assert torch.equal(margins, margin(classifier, x))


def test_gradients_are_there_whatever_the_mode_of_the_caller():
    x = torch.rand(3, 4)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            margins, gradient = margin_and_gradient(lambda x: (x**2).sum(1), x)
            assert torch.equal(margins, (x**2).sum(1))
            assert torch.equal(gradient, 2 * x)


def test_a_call_of_ones_own_is_what_is_measured():
    class Turned(tb.QuadraticNetwork):
        def __call__(self, x):
            return -super().__call__(x)

    network = Turned(4, 8, generator=seeded())
    patched = tb.QuadraticNetwork(4, 8, generator=seeded())
    patched._call_impl = lambda x: -patched.forward(x)
    x = torch.rand(3, 4)
    for classifier in (network, patched):
        assert torch.equal(margin(classifier, x), -network.margin(x))


def test_a_margin_of_zero_is_class_zero_as_for_argmax():
    margins = torch.tensor([-1.0, 0.0, 1.0])
    by_argmax = torch.stack([-margins, margins], dim=1).argmax(1)
    for label in (0, 1):
        assert torch.equal(misclassified(margins, label), by_argmax != label)
    assert misclassified(torch.tensor([torch.nan]), 0).all()
    assert misclassified(torch.tensor([torch.nan]), 1).all()
    rates = tb.error_rate(lambda x: 0 * x[:, 0], PROBLEM, method="sampling", n_points=10)
    assert [rate.value for rate in rates] == [0, 1]


def test_what_hangs_on_forward_is_measured_with_it():
    network = tb.QuadraticNetwork(4, 8, generator=seeded())
    x = PROBLEM.sample(5, generator=seeded())[0]
    plain = margin(network, x)
    handle = network.register_forward_hook(lambda module, points, logits: -logits)
    torch.testing.assert_close(margin(network, x), -plain)
    handle.remove()
    network.forward = lambda x: network.margin(x) * 3
    torch.testing.assert_close(margin(network, x), 3 * plain)
    del network.forward
    assert torch.equal(margin(network, x), plain)

    class Turned(tb.QuadraticNetwork):
        def forward(self, x):
            return -super().forward(x)

    turned = Turned(4, 8, generator=seeded())
    torch.testing.assert_close(margin(turned, x), -plain)
