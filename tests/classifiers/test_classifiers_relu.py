"""Fully connected ReLU networks."""

import math

import pytest
import torch

from trueboundary.classifiers import ReLUNetwork

PLACEMENTS = ["before-activation", "after-activation", None]


def network(batch_norm="before-activation", dim=5, width=7, depth=3, seed=0):
    return ReLUNetwork(
        dim, width, depth, batch_norm=batch_norm, generator=torch.Generator().manual_seed(seed)
    )


def used(batch_norm, dtype=torch.float32):
    """Return a network whose batch normalisation is far from the identity, in eval mode."""
    model = network(batch_norm).to(dtype)
    generator = torch.Generator().manual_seed(1)
    for norm in model.norm:
        torch.nn.init.uniform_(norm.weight, -2.0, 2.0, generator=generator)
        torch.nn.init.uniform_(norm.bias, -1.0, 1.0, generator=generator)
        torch.nn.init.uniform_(norm.running_mean, -1.0, 1.0, generator=generator)
        torch.nn.init.uniform_(norm.running_var, 0.1, 3.0, generator=generator)
    return model.eval()


def count(parameters):
    return sum(p.numel() for p in parameters)


def test_parameter_counts_of_the_small_network_of_the_paper():
    model = network(dim=500, width=1000, depth=2)
    assert count(model.linear.parameters()) == 1_503_001
    assert count(model.norm.parameters()) == 4_000


def test_parameter_counts_of_the_large_network_of_the_paper():
    model = network(dim=500, width=2000, depth=8)
    assert count(model.linear.parameters()) == 29_018_001
    assert count(model.norm.parameters()) == 32_000


def test_initial_values_come_from_the_generator_alone():
    first, again, other = network(), network(), network(seed=1)
    for (name, a), b in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(first.linear[0].weight, other.linear[0].weight)


def test_initial_values_have_the_distribution_of_a_torch_linear_layer():
    with torch.random.fork_rng(devices=[]):
        reference = torch.nn.Linear(400, 300)
    layer = network(dim=400, width=300, depth=1).linear[0]
    bound = 1 / math.sqrt(400)
    for ours, theirs in ((layer.weight, reference.weight), (layer.bias, reference.bias)):
        assert ours.abs().max() <= bound
        # Both are samples of a uniform distribution: standard deviation bound / sqrt(3).
        standard_error = bound / math.sqrt(3 * ours.numel())
        assert ours.mean().abs() < 4 * standard_error
        assert (ours.std() - theirs.std()).abs() < 4 * standard_error


@pytest.mark.parametrize("batch_norm", PLACEMENTS)
def test_layers_are_in_the_order_that_the_name_says(batch_norm, generator):
    model = used(batch_norm)
    x = torch.randn(10, 5, generator=generator)
    h = x
    for layer in range(3):
        h = model.linear[layer](h)
        if batch_norm == "before-activation":
            h = model.norm[layer](h)
        h = h.relu()
        if batch_norm == "after-activation":
            h = model.norm[layer](h)
    assert torch.equal(model.margin(x), model.linear[3](h)[:, 0])


@pytest.mark.parametrize("batch_norm", PLACEMENTS)
def test_folded_layers_compute_the_same_margin(batch_norm, generator):
    model = used(batch_norm, torch.float64)
    x = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    *hidden, (weight, bias) = model.folded()
    h = x
    for w, b in hidden:
        h = (h @ w.T + b).relu()
    folded = (h @ weight.T + bias)[:, 0]
    assert all(w.dtype == b.dtype == torch.float64 for w, b in model.folded())
    torch.testing.assert_close(folded, model.margin(x), rtol=1e-12, atol=1e-12)


def test_batch_normalisation_sees_the_batch_in_train_mode(generator):
    model = network().train()
    x = torch.randn(50, 5, generator=generator)
    hidden = model.norm[0](model.linear[0](x))
    torch.testing.assert_close(hidden.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    assert model.norm[0].momentum == 0.1
    assert model.norm[0].eps == 1e-5


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: network(depth=0), ValueError, "depth must be at least 1, got 0"),
        (lambda: network(width=-1), ValueError, "width must be at least 1"),
        (lambda: network(dim=2.0), TypeError, "dim must be an integer"),
        (lambda: network("sometimes"), ValueError, "batch_norm must be 'before-activation'"),
    ],
)
def test_bad_parameters(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
