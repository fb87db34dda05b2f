"""Domains: each claim about projections, tangents, paths and distances, on points at random."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trueboundary.attacks import Box, Domain, Shell, Space, Sphere
from trueboundary.domains import norm, unit

DOMAINS: dict[str, Domain] = {
    "space": Space(),
    "box": Box(-0.3, 0.4),
    "box-per-entry": Box(torch.full((2, 3), -0.1), torch.linspace(0, 0.5, 6).reshape(2, 3)),
    "sphere": Sphere(1.3),
    "own-sphere": Sphere(),
    "shell": Shell(1.0, 1.3),
    "ball": Shell(0.0, 1.0),
}


@pytest.fixture(params=DOMAINS.values(), ids=DOMAINS.keys())
def domain(request: pytest.FixtureRequest) -> Domain:
    return request.param  # type: ignore[no-any-return]


def points(generator: torch.Generator, n: int = 20) -> Tensor:
    return torch.randn(n, 2, 3, generator=generator, dtype=torch.float64)


def test_projection_lands_inside_and_stays(domain: Domain, generator: torch.Generator) -> None:
    x = domain.project(points(generator))
    assert domain.contains(x).all()
    torch.testing.assert_close(domain.project(x), x)


def test_projection_is_the_nearest_point(domain: Domain, generator: torch.Generator) -> None:
    x = points(generator)
    domain = domain.bind(x)
    nearest = domain.distance(x, domain.project(x))
    for _ in range(20):
        other = domain.project(x + 0.3 * points(generator))
        assert (domain.distance(x, other) >= nearest - 1e-12).all()


def test_short_moves_follow_their_direction(domain: Domain, generator: torch.Generator) -> None:
    x = domain.project(points(generator))
    domain = domain.bind(x)
    direction = unit(domain.tangent(x, points(generator)))
    length = torch.full((len(x),), 1e-6, dtype=x.dtype)
    moved = domain.move(x, direction, length)
    assert domain.contains(moved).all()
    torch.testing.assert_close((moved - x) / 1e-6, direction, atol=2e-6, rtol=0)


def test_interpolation_joins_its_ends(domain: Domain, generator: torch.Generator) -> None:
    start = domain.project(points(generator))
    domain = domain.bind(start)
    end = domain.project(points(generator))
    for fraction, expected in ((0.0, start), (1.0, end)):
        at = domain.interpolate(start, end, torch.full((len(start),), fraction, dtype=start.dtype))
        torch.testing.assert_close(at, expected, atol=1e-12, rtol=0)
    middle = domain.interpolate(start, end, torch.full((len(start),), 0.5, dtype=start.dtype))
    assert domain.contains(middle).all()


@pytest.mark.parametrize("radius", [0.6, 1.0, 2.4])
@pytest.mark.parametrize("arc", [1e-9, 1e-3, 1.0, 1.8])
def test_great_circles_have_the_length_they_were_given(
    radius: float, arc: float, generator: torch.Generator
) -> None:
    sphere = Sphere(radius)
    x = sphere.project(points(generator))
    direction = unit(sphere.tangent(x, points(generator)))
    y = sphere.move(x, direction, torch.full((len(x),), arc * radius, dtype=x.dtype))
    expected = torch.full((len(x),), arc * radius, dtype=x.dtype)
    torch.testing.assert_close(sphere.geodesic(x, y), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        sphere.distance(x, y), 2 * radius * torch.sin(expected / (2 * radius)), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(norm(sphere.log(x, y)), expected, rtol=1e-6, atol=0)
    beyond = sphere.interpolate(x, y, torch.full((len(x),), 1.5, dtype=x.dtype))
    torch.testing.assert_close(sphere.move(x, direction, 1.5 * expected), beyond)


def test_sphere_tangent_is_perpendicular_and_drops_rounding(generator: torch.Generator) -> None:
    x = points(generator)
    tangent = Sphere().tangent(x, points(generator))
    torch.testing.assert_close((x * tangent).sum((1, 2)), torch.zeros(len(x)).double())
    assert (Sphere().tangent(x, 7.3 * x) == 0).all()


def test_own_radii_are_bound_once_and_follow_their_samples(generator: torch.Generator) -> None:
    x = points(generator)
    bound = Sphere().bind(x)
    torch.testing.assert_close(norm(bound.project(3 * x)), norm(x))
    index = torch.tensor([4, 1])
    torch.testing.assert_close(norm(bound.take(index).project(x[:2])), norm(x)[index])


def test_box_and_shell_tangents_stop_at_the_edge() -> None:
    x = torch.tensor([[0.0, 0.5]])
    assert Box(0.0, 1.0).tangent(x, torch.tensor([[-1.0, -1.0]])).tolist() == [[0.0, -1.0]]
    inner, outer = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    v = torch.tensor([[1.0, 1.0]])
    shell = Shell(1.0, 2.0)
    assert shell.tangent(inner, v).tolist() == [[1.0, 1.0]]
    assert shell.tangent(inner, -v).tolist() == [[0.0, -1.0]]
    assert shell.tangent(outer, v).tolist() == [[0.0, 1.0]]
    assert shell.tangent(outer, -v).tolist() == [[-1.0, -1.0]]


def test_contains_says_no() -> None:
    x = torch.tensor([[2.0, 0.0]])
    for outside in (Box(0, 1), Sphere(1.0), Shell(0, 1)):
        assert not outside.contains(x).any()
    assert not Space().contains(x * math.inf).any()
    assert not Sphere().contains(0 * x).any()  # the origin has no sphere


@given(st.integers(-120, 120))
@settings(max_examples=25, derandomize=True, deadline=None)
def test_unit_survives_extreme_scales(exponent: int) -> None:
    x = torch.tensor([[3.0, 4.0]]) * 2.0**exponent
    torch.testing.assert_close(unit(x), torch.tensor([[0.6, 0.8]]))


def test_unit_keeps_zero() -> None:
    assert unit(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(1.0, 0.0), "low <= high"),
        (lambda: Box(0.0, math.nan), "low <= high"),
        (lambda: Sphere(0.0), "positive and finite"),
        (lambda: Sphere(math.inf), "positive and finite"),
        (lambda: Sphere(torch.tensor([1.0, -1.0])), "positive and finite"),
        (lambda: Shell(2.0, 1.0), "inner <= outer"),
        (lambda: Shell(-1.0, 1.0), "inner <= outer"),
        (lambda: Shell(0.0, math.nan), "inner <= outer"),
    ],
)
def test_impossible_domains_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
