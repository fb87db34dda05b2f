"""The torch twin: the same values, and gradients against closed forms and finite differences."""

import math

import mpmath
import numpy as np
import pytest
import torch

from trueboundary.theory import quadratic_forms, quadratic_forms_torch


def gradient(weights: list[float]) -> np.ndarray:
    """Return the gradient of log_tail."""
    w = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(quadratic_forms_torch.log_tail(w), w)
    return grad.numpy()


@pytest.mark.parametrize("d", [2, 7, 500])
@pytest.mark.parametrize("sphere", ["inner", "outer"])
def test_values_equal_numpy(d: int, sphere: str) -> None:
    alphas = np.random.default_rng(d).uniform(0.05, 1.5, (3, d))
    ours = quadratic_forms_torch.ellipsoid_log_error(torch.from_numpy(alphas), sphere=sphere)
    for row, value in zip(alphas, ours.tolist(), strict=True):
        expected = quadratic_forms.ellipsoid_log_error(row, sphere=sphere)
        assert value == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("plus", [1e-6, 0.3, 2.0])
def test_gradient_in_closed_form(plus: float) -> None:
    # P = (2/pi) atan(sqrt(a/b)), so dP/da = b / (pi sqrt(ab) (a + b)) and dP/db = -a/b dP/da
    minus = 0.7
    p = 2 / math.pi * math.atan(math.sqrt(plus / minus))
    slope = math.sqrt(minus / plus) / (math.pi * (plus + minus)) / p
    assert gradient([plus, -minus]) == pytest.approx([slope, slope * plus / minus], rel=1e-12)


def test_gradient_against_arbitrary_precision_deep_in_the_tail() -> None:
    # Equal weights: shift one pair together, where the tail is a sum of residues.
    distinct = [0.03, 0.02, -0.5, -0.6, -0.8, -0.9, -1.1, -1.3]

    def log_probability(first: mpmath.mpf) -> mpmath.mpf:
        values = [first, *map(mpmath.mpf, distinct[1:])]
        return mpmath.log(
            mpmath.fsum(
                mpmath.fprod(w / (w - v) for k, v in enumerate(values) if k != j)
                for j, w in enumerate(values)
                if w > 0
            )
        )

    with mpmath.workdps(40):
        expected = float(mpmath.diff(log_probability, mpmath.mpf(distinct[0])))
    both = gradient(distinct * 2)
    assert both[0] + both[len(distinct)] == pytest.approx(expected, rel=1e-12)


def test_gradient_against_finite_differences() -> None:
    rng = np.random.default_rng(1)
    w = rng.uniform(-0.9, 0.5, 200)
    direction = rng.standard_normal(200)
    h = 1e-4

    def along(t: float) -> float:
        return float(quadratic_forms.log_tail(w + t * direction))

    numeric = (along(-2 * h) - 8 * along(-h) + 8 * along(h) - along(2 * h)) / (12 * h)
    assert gradient(w.tolist()) @ direction == pytest.approx(numeric, rel=1e-8)


def test_gradient_of_the_likely_side_and_the_lower_tail() -> None:
    w = torch.tensor([1.0, 0.5, -0.2], dtype=torch.float64, requires_grad=True)
    upper = quadratic_forms_torch.log_tail(w)
    lower = quadratic_forms_torch.log_tail(w, tail="lower")
    assert (upper.exp() + lower.exp()).item() == pytest.approx(1.0, rel=1e-14)
    (up,) = torch.autograd.grad(upper.exp(), w)
    (down,) = torch.autograd.grad(lower.exp(), w)
    assert torch.allclose(up, -down, rtol=1e-12)
    assert bool((up > 0).all())


def test_certain_outcomes_have_zero_gradient() -> None:
    w = torch.tensor([[-1.0, -2.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    values = quadratic_forms_torch.log_tail(w)
    assert values.tolist() == [-math.inf, 0.0]
    (grad,) = torch.autograd.grad(values[1], w)
    assert not grad.any()


def test_descent_on_the_exact_error_makes_an_ellipsoid_better() -> None:
    alphas = torch.linspace(0.3, 1.3, 30, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        inner = quadratic_forms_torch.ellipsoid_log_error(alphas)
        outer = quadratic_forms_torch.ellipsoid_log_error(alphas, sphere="outer")
        return torch.logaddexp(inner, outer)

    start = loss().item()
    for _ in range(20):
        (grad,) = torch.autograd.grad(loss(), alphas)
        with torch.no_grad():
            alphas -= 0.02 * grad / grad.norm()
    assert loss().item() < start - 1


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (torch.ones(3), TypeError, "float64 tensor"),
        (np.ones(3), TypeError, "float64 tensor"),
        (torch.tensor(1.0, dtype=torch.float64), ValueError, "shape"),
        (torch.tensor([math.nan], dtype=torch.float64), ValueError, "finite"),
    ],
)
def test_bad_input(weights: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quadratic_forms_torch.log_tail(weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_weights_of_any_size_have_gradients(scale: float) -> None:
    weights = torch.tensor([1.0, -1e-200, -2.0], dtype=torch.float64) * scale
    weights.requires_grad_()
    value = quadratic_forms_torch.log_tail(weights)
    assert value.item() == pytest.approx(math.log(math.atan(math.sqrt(0.5)) * 2 / math.pi))
    value.backward()
    assert weights.grad is not None
    assert bool(weights.grad.isfinite().all())
    if scale == 1e300:
        with pytest.raises(ValueError, match="300 orders"):
            quadratic_forms_torch.log_tail(torch.tensor([1e-10, -1e300], dtype=torch.float64))


def test_alphas_next_to_the_outer_sphere_have_the_same_value_in_both() -> None:
    alphas = 1 / 1.3**2 + 1e-14 * np.array([1.0, -2.0, 3.0, -1.5])
    x = torch.tensor(alphas, requires_grad=True)
    value = quadratic_forms_torch.ellipsoid_log_error(x, sphere="outer")
    expected = quadratic_forms.ellipsoid_log_error(alphas, sphere="outer")
    assert value.item() == pytest.approx(expected, rel=1e-13)
    value.backward()
    assert x.grad is not None
    assert bool((x.grad < 0).all())
