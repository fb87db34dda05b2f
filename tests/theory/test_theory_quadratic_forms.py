"""Tails of quadratic forms: reference values, closed forms, arbitrary precision, sampling."""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from trueboundary.theory import _bromwich
from trueboundary.theory import quadratic_forms as forms
from trueboundary.theory._beta import log_betainc

Array = npt.NDArray[np.float64]

REFERENCE = json.loads((Path(__file__).parents[1] / "reference.json").read_text())
ERRORS = {k: v for k, v in REFERENCE["a_quadratic_error"].items() if k != "extreme_log_natural"}
EXTREME = REFERENCE["a_quadratic_error"]["extreme_log_natural"]
PROFILES = REFERENCE["a_profiles_float64_log10"]
PAIRS = REFERENCE["c_gaussian_pair"]["values"]


def linear(start: Fraction, width: Fraction, n: int) -> list[Fraction]:
    """Return the midpoints of n equal parts of an interval."""
    return [start + width * Fraction(2 * i - 1, 2 * n) for i in range(1, n + 1)]


ALPHAS: dict[str, list[Fraction]] = {
    "A1_two_d500": [Fraction(9, 25)] * 250 + [Fraction(154, 125)] * 250,
    "A3_lin_d500": linear(Fraction(9, 200), Fraction(3, 2), 500),
    "A4_linpair_d500": linear(Fraction(9, 200), Fraction(3, 2), 250) * 2,
    "A5_spike_d500": [Fraction(79, 100)] * 499 + [Fraction(4)],
    "A6_d2": [Fraction(6, 5), Fraction(1, 2)],
    "A7_d3": [Fraction(11, 10), Fraction(7, 10), Fraction(1, 2)],
    "A8_narrow_d500": linear(Fraction(1, 2), Fraction(11, 20), 500),
    "A9_two_d5000": [Fraction(3, 5)] * 2500 + [Fraction(11, 10)] * 2500,
    "A11_linpair_d100": linear(Fraction(1, 10), Fraction(7, 5), 50) * 2,
    "A13_lin_d10": linear(Fraction(1, 2), Fraction(3, 5), 10),
}

EXTREME_WEIGHTS = {
    "lam=(1/1000,-1/5 x499)": [1 / 1000] + [-1 / 5] * 499,
    "lam=(1e-9(double),-0.2 x499)": [1e-9] + [-0.2] * 499,
    "lam=(1e-15(double),-0.2 x499)": [1e-15] + [-0.2] * 499,
    "lam=(1/1000(double),-0.2 x99999)": [1 / 1000] + [-0.2] * 99999,
}

QUANTILES: dict[str, Callable[[Array], Array]] = {
    "two": lambda p: np.sign(p - 0.5),
    "uniform": lambda p: p,
    "arcsine": lambda p: -np.cos(np.pi * p),
    "normal": special.ndtri,
    "gamma": stats.gamma(3).ppf,
    "exp": lambda p: -np.log1p(-p),
    "lognormal": lambda p: np.exp(special.ndtri(p)),
    "spike10": lambda p: (p > 1 - 10 / p.size).astype(float),
    "spike1": lambda p: (p > 1 - 1 / p.size).astype(float),
}


def relative_error(log_value: float, decimal: str) -> float:
    """Return exp(log_value) / decimal - 1, formed where nothing underflows."""
    with mpmath.workdps(40):
        return float(mpmath.expm1(mpmath.mpf(log_value) - mpmath.log(mpmath.mpf(decimal))))


def log_p(weights: npt.ArrayLike, **options: object) -> float:
    """Return log_tail of one weight vector as a float."""
    return float(forms.log_tail(weights, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("sphere", ["inner", "outer"])
@pytest.mark.parametrize("name", ERRORS)
def test_reference_errors(name: str, sphere: str) -> None:
    case = ERRORS[name]
    alphas = [float(alpha) for alpha in ALPHAS[name]]
    assert len(alphas) == case["d"]
    log_error = forms.ellipsoid_log_error(alphas, sphere=sphere)
    if case[sphere] == "0":
        assert log_error == -math.inf
        return
    tolerance = 1e-12 if case[f"{sphere}_log10"] > -150 else 1e-10
    assert abs(relative_error(log_error, case[sphere])) < tolerance
    assert log_error / math.log(10) == pytest.approx(case[f"{sphere}_log10"], rel=1e-14)
    clt = forms.ellipsoid_log_error(alphas, sphere=sphere, method="clt")
    assert clt / math.log(10) == pytest.approx(case[f"{sphere}_clt_log10"], rel=1e-13)


@pytest.mark.parametrize("name", EXTREME)
def test_reference_logarithms_far_below_the_smallest_float(name: str) -> None:
    assert log_p(EXTREME_WEIGHTS[name]) == pytest.approx(float(EXTREME[name]), rel=3e-16)


@pytest.mark.parametrize("name", PROFILES)
def test_reference_profiles(name: str) -> None:
    """Spectra of many shapes whose (corrected) CLT error is the same on both spheres."""
    case = PROFILES[name]
    profile, dim, clt = name.split("_")
    d = int(dim.removeprefix("d"))
    centred = QUANTILES[profile]((np.arange(d) + 0.5) / d)
    centred = centred - centred.mean()
    middle = 0.5 * (1 + 1 / 1.3**2)
    z = special.ndtri_exp(math.log(float(clt.removeprefix("clt"))))
    variance = 0.5 * (d * (middle - 1) / z) ** 2 - d * (middle - 1) ** 2
    alphas = middle + centred * math.sqrt(variance / (centred @ centred))
    assert alphas.min() == pytest.approx(case["alpha_min"], rel=1e-13)
    assert alphas.max() == pytest.approx(case["alpha_max"], rel=1e-13)
    for sphere in ("inner", "outer"):
        log10 = forms.ellipsoid_log_error(alphas, sphere=sphere) / math.log(10)
        if case[f"{sphere}_log10"] is None:
            assert log10 == -math.inf
        else:
            assert log10 == pytest.approx(case[f"{sphere}_log10"], rel=2e-14)


@pytest.mark.parametrize("name", PAIRS)
def test_reference_gaussian_pairs(name: str) -> None:
    """The error of the optimal rule between two Gaussians is a form with every kind of term."""
    i = np.arange(12.0)[:, None]
    r = np.arange(2.0)
    loadings = [((7 * i + 3 * r) % 11 - 5) / 10, ((5 * i + 2 * r) % 13 - 6) / 10]
    means = [np.zeros(12), ((3 * i[:, 0]) % 7 - 3) / 10 + 0.5]
    noise = [1 / 25, 1 / 25 if "sym" in name and "asym" not in name else 1 / 2]
    covariances = [a @ a.T + s * np.eye(12) for a, s in zip(loadings, noise, strict=True)]
    own, other = (0, 1) if name.endswith("1to2") else (1, 0)
    root = np.linalg.cholesky(covariances[own])
    precision = np.linalg.inv(covariances[other])
    # log p_own - log p_other at mean_own + root u, as constant + linear.u + u.H u / 2
    shift = means[own] - means[other]
    curvature, basis = np.linalg.eigh(root.T @ precision @ root - np.eye(12))
    curvature[np.abs(curvature) < 1e-12] = 0.0
    linear = basis.T @ root.T @ precision @ shift
    log_ratio = np.linalg.slogdet(covariances[other])[1] - np.linalg.slogdet(covariances[own])[1]
    constant = 0.5 * log_ratio + 0.5 * shift @ precision @ shift
    bent = curvature != 0
    centre = linear[bent] / curvature[bent]
    log_error = log_p(
        0.5 * curvature[bent],
        noncentrality=centre**2,
        normal_std=float(np.linalg.norm(linear[~bent])),
        constant=constant - 0.5 * float(curvature[bent] @ centre**2),
        tail="lower",
    )
    assert abs(relative_error(log_error, PAIRS[name]["error_prob"])) < 1e-12


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 1), (250, 250), (1, 4000)])
@pytest.mark.parametrize("ratio", [1e-8, 0.1, 0.9, 3.0])
def test_two_distinct_weights_have_a_beta_tail(m: int, n: int, ratio: float) -> None:
    # P(a chi2_m > b chi2_n) = I_{a/(a+b)}(n/2, m/2)
    with mpmath.workdps(30):
        a = mpmath.mpf(ratio)
        tail = mpmath.betainc(n / 2, m / 2, 0, a / (a + 1), regularized=True)
        expected = mpmath.log(tail)
        ours = log_p([ratio] * m + [-1.0] * n)
        assert abs(float(mpmath.mpf(ours) - expected)) < 1e-12 * max(1.0, abs(ours))


def test_two_dimensions_in_closed_form() -> None:
    for plus, minus in ((1.0, 1.0), (1e-12, 3.0), (5.0, 1e-9)):
        expected = 2 / math.pi * math.atan(math.sqrt(plus / minus))
        assert math.exp(log_p([plus, -minus])) == pytest.approx(expected, rel=1e-13)


def test_paired_weights_have_a_rational_tail() -> None:
    # With every weight twice, P = sum over w_j > 0 of prod_{k != j} w_j / (w_j - w_k), exactly.
    distinct = [Fraction(3 * j - 40, 30) for j in range(1, 21)]
    exact = Fraction(0)
    for j, w in enumerate(distinct):
        if w > 0:
            term = Fraction(1)
            for k, v in enumerate(distinct):
                term *= w / (w - v) if k != j else 1
            exact += term
    ours = log_p([float(w) for w in distinct] * 2)
    assert math.exp(ours) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 3, 40])
@pytest.mark.parametrize("x", [1e-3, 1.0, 30.0, 300.0])
def test_constant_gives_the_chi_square_distribution(degrees: int, x: float) -> None:
    upper = log_p([1.0], degrees=[degrees], constant=-x)
    lower = log_p([1.0], degrees=[degrees], constant=-x, tail="lower")
    assert upper == pytest.approx(stats.chi2.logsf(x, degrees), rel=1e-11, abs=1e-300)
    # scipy has no accurate log cdf in the far upper half, but its complement is.
    expected = (
        stats.chi2.logcdf(x, degrees) if x < degrees else np.log1p(-stats.chi2.sf(x, degrees))
    )
    assert lower == pytest.approx(float(expected), rel=1e-9, abs=1e-300)
    shifted = log_p([1.0], degrees=[degrees], noncentrality=[2.5], constant=-x)
    assert shifted == pytest.approx(stats.ncx2.logsf(x, degrees, 2.5), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("z", [-38.0, -3.0, -1e-6, 0.0, 2.0, 9.0])
def test_normal_term_alone(z: float) -> None:
    assert log_p([0.0], normal_std=2.0, constant=2 * z) == pytest.approx(
        float(special.log_ndtr(z)), rel=1e-13
    )


def brute_force(
    weights: Array, degrees: Array, shift: Array, std: float, constant: float
) -> mpmath.mpf:
    """Return P(Q > 0) from the characteristic function, by Gil-Pelaez on the real axis."""

    def integrand(t: mpmath.mpf) -> mpmath.mpf:
        value = mpmath.exp(1j * t * constant - std**2 * t**2 / 2)
        for w, m, d in zip(weights, degrees, shift, strict=True):
            factor = 1 - 2j * t * w
            value *= factor ** (-m / 2) * mpmath.exp(1j * t * w * d / factor)
        return mpmath.im(value) / t

    points = [0, 0.25, 0.5, 1, 2, 4, 8, 16]
    return mpmath.mpf(1) / 2 + mpmath.quad(integrand, points) / mpmath.pi


@pytest.mark.parametrize("seed", range(6))
def test_every_term_at_once_against_inversion(seed: int) -> None:
    # A normal term of sd 1 makes the characteristic function negligible beyond t = 16.
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=3)
    degrees = rng.integers(1, 5, 3).astype(float)
    shift = rng.exponential(size=3)
    constant = float(rng.normal() * 2)
    with mpmath.workdps(20):
        expected = float(brute_force(weights, degrees, shift, 1.0, constant))
    options = {"degrees": degrees, "noncentrality": shift, "normal_std": 1.0, "constant": constant}
    assert math.exp(log_p(weights, **options)) == pytest.approx(expected, rel=1e-12)
    lower = log_p(weights, tail="lower", **options)
    assert math.exp(lower) == pytest.approx(1 - expected, rel=1e-12)


def test_against_sampling() -> None:
    rng = np.random.default_rng(11)
    n = 200_000
    weights = np.array([0.8, -0.5, -0.9, 0.1])
    centre = np.array([0.5, 0.0, 1.0, 0.0])
    q = ((rng.standard_normal((n, 4)) + centre) ** 2) @ weights
    q += 0.7 * rng.standard_normal(n) - 0.2
    p = math.exp(log_p(weights, noncentrality=centre**2, normal_std=0.7, constant=-0.2))
    assert abs((q > 0).mean() - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_errors_on_the_spheres_against_sampling() -> None:
    rng = np.random.default_rng(12)
    alphas = np.linspace(0.4, 1.2, 8)
    u = rng.standard_normal((200_000, 8)) ** 2
    sums = u @ alphas / u.sum(1)
    for rate, sphere in (((sums > 1).mean(), "inner"), ((sums * 1.69 < 1).mean(), "outer")):
        p = math.exp(forms.ellipsoid_log_error(alphas, sphere=sphere))
        assert abs(rate - p) < 4 * math.sqrt(p * (1 - p) / len(u))


weight_lists = st.lists(
    st.floats(-3, 3).map(lambda w: round(w, 3)), min_size=2, max_size=30
).filter(lambda ws: min(ws) < 0 < max(ws))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(weight_lists, st.floats(1e-150, 1e150), st.randoms(use_true_random=False))
def test_scale_and_order_do_not_matter(weights: list[float], scale: float, random: object) -> None:
    expected = log_p(weights)
    shuffled = [scale * w for w in weights] + [0.0]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert log_p(shuffled) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(weight_lists)
def test_the_two_tails_are_complementary(weights: list[float]) -> None:
    upper, lower = log_p(weights), log_p(weights, tail="lower")
    assert math.exp(upper) + math.exp(lower) == pytest.approx(1.0, rel=1e-13)
    assert lower == pytest.approx(log_p([-w for w in weights]), rel=1e-13)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(weight_lists, st.integers(0, 29), st.floats(1e-3, 2))
def test_larger_weights_make_more_errors(weights: list[float], which: int, gain: float) -> None:
    raised = list(weights)
    raised[which % len(weights)] += gain
    assert log_p(raised) >= log_p(weights) - 1e-13


@settings(deadline=None, max_examples=60, derandomize=True)
@given(weight_lists)
def test_chernoff_is_a_bound_and_saddlepoint_is_close(weights: list[float]) -> None:
    exact = log_p(weights)
    assert forms.chernoff_log_bound(weights) >= exact
    assert abs(forms.lugannani_rice_log_tail(weights) - exact) < 0.6


def test_batches_equal_single_calls() -> None:
    rng = np.random.default_rng(4)
    batch = rng.normal(-0.1, 1, (2, 3, 20))
    constant = rng.normal(size=(2, 3))
    together = forms.log_tail(batch, constant=constant, normal_std=0.3)
    assert isinstance(together, np.ndarray)
    assert together.shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert together[index] == log_p(batch[index], constant=constant[index], normal_std=0.3)


def test_certain_outcomes_are_exact() -> None:
    assert log_p([-1.0, -2.0, 0.0]) == -math.inf
    assert log_p([1.0, 0.0]) == 0.0
    assert log_p([0.0, 0.0]) == -math.inf
    assert log_p([0.0], constant=1.0) == 0.0
    assert log_p([-1.0], constant=-0.5) == -math.inf
    assert log_p([1.0], constant=0.5, tail="lower") == -math.inf
    assert forms.ellipsoid_log_error([1.0] * 5) == -math.inf
    assert forms.ellipsoid_log_error([1.2] * 5) == 0.0
    assert forms.ellipsoid_log_error([1.2] * 5, sphere="outer") == -math.inf
    assert math.exp(forms.ellipsoid_log_error([0.0, 0.7], sphere="outer")) > 0


def test_one_dimension() -> None:
    assert forms.ellipsoid_log_error([0.9]) == -math.inf
    assert forms.ellipsoid_log_error([1.1]) == 0.0


def test_one_huge_weight() -> None:
    # P(W u^2 > chi2_499) with W = 1e12: 1 - sqrt(2/(pi W)) E[chi_499] to first order
    weights = [1e12] + [-1.0] * 499
    mean_chi = math.sqrt(2) * math.exp(special.gammaln(250) - special.gammaln(249.5))
    lower = log_p(weights, tail="lower")
    assert math.exp(lower) == pytest.approx(math.sqrt(2 / math.pi / 1e12) * mean_chi, rel=1e-8)
    assert log_p(weights) == pytest.approx(-math.exp(lower), rel=1e-4)


def test_weights_of_extremely_different_size() -> None:
    # P(a u^2 > b v^2) = (2/pi) atan(sqrt(a/b)), about (2/pi) sqrt(a/b)
    assert log_p([1e-290, -1.0]) == pytest.approx(math.log(2 / math.pi) - 145 * math.log(10))
    expected = math.log(2 / math.pi) - 150 * math.log(10)
    assert log_p([1e150, -1e-150], tail="lower") == pytest.approx(expected, rel=1e-13)
    # a far-off centre: the two sides are exchangeable
    assert log_p([1.0, -1.0], noncentrality=[1e8, 1e8]) == pytest.approx(math.log(0.5))


def test_hundred_thousand_weights() -> None:
    # A mixture of two values again, but jittered so that no two weights merge.
    rng = np.random.default_rng(8)
    d = 100_000
    base = np.repeat([0.1, -0.12], d // 2)
    jittered = base * (1 + 1e-9 * rng.standard_normal(d))
    assert log_p(jittered) == pytest.approx(log_p(base), rel=1e-7)


def tiny_positive_log_tail(weight: float, others: Array) -> mpmath.mpf:
    """Return log P(weight u^2 > sum_i others_i v_i^2) for normal u and v.

    By erfc(sqrt(t / 2)) = (2/pi) int_0^inf exp(-t (1 + y^2) / 2) / (1 + y^2) dy the expectation
    over the v is a product. The integrand is even and analytic, and about as wide as 1/sqrt(n).
    """
    step = mpmath.mpf(1) / 4 / mpmath.sqrt(len(others))
    total, y = mpmath.mpf(0), mpmath.mpf(0)
    ratios = [mpmath.mpf(v) / weight for v in others]
    while True:
        square = 1 + y * y
        value = mpmath.exp(-mpmath.fsum(mpmath.log1p(r * square) for r in ratios) / 2) / square
        total += value if y else value / 2
        if value < total * mpmath.eps:
            return mpmath.log(2 / mpmath.pi * step * total)
        y += step


@pytest.mark.parametrize("weight", [1e-2, 1e-6, 1e-30])
def test_one_tiny_positive_weight(weight: float) -> None:
    others = np.random.default_rng(0).uniform(0.1, 1.0, 300)
    with mpmath.workdps(20):
        expected = float(tiny_positive_log_tail(weight, others))
    assert log_p([weight, *-others]) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("d", [20_000, 100_000])
def test_many_weights_beside_a_tiny_positive_one(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # With two degrees of freedom the chance is the product of (1 + b / a)^(-1/2); with one, the sum
    # of the function above in float64. Neither takes more nodes, the more weights there are.
    n_nodes = []
    inner = _bromwich._sum_of_nodes

    def counted(path: _bromwich.Contour, nodes: Array) -> float:
        n_nodes.append(len(nodes))
        return inner(path, nodes)

    monkeypatch.setattr(_bromwich, "_sum_of_nodes", counted)
    a, b = 1e-6, np.random.default_rng(1).uniform(0.1, 1.0, d)
    degrees = np.ones(d + 1)
    degrees[0] = 2
    two = float(forms.log_tail([a, *-b], degrees=degrees))
    assert two == pytest.approx(-0.5 * math.fsum(np.log1p(b / a)), rel=1e-14)
    y = np.arange(0, 40) / 4 / math.sqrt(d)
    logs = np.array([-0.5 * math.fsum(np.log1p(b / a * (1 + v * v))) for v in y])
    values = np.exp(logs - logs[0]) / (1 + y**2)
    total = (values.sum() - values[0] / 2) * y[1]
    assert log_p([a, *-b]) == pytest.approx(logs[0] + math.log(2 / math.pi * total), rel=1e-14)
    assert sum(n_nodes) < 600


def test_comparisons_in_known_cases() -> None:
    weights = [0.5, -0.5]
    assert forms.clt_log_tail(weights) == pytest.approx(math.log(0.5))
    assert forms.sphere_clt_log_tail(weights) == pytest.approx(math.log(0.5))
    assert forms.lugannani_rice_log_tail(weights) == pytest.approx(math.log(0.5))
    assert forms.chernoff_log_bound(weights) == 0.0
    # no spread: on the sphere itself the sum is constant, which only the first CLT ignores
    assert forms.sphere_clt_log_tail([-0.1] * 50) == -math.inf
    assert forms.clt_log_tail([-0.1] * 50) > -math.inf
    assert forms.lugannani_rice_log_tail([-0.1] * 50) == -math.inf
    assert forms.chernoff_log_bound([0.1] * 50) == 0.0


@pytest.mark.parametrize(
    ("name", "sphere"),
    [(n, s) for n, case in ERRORS.items() for s in ("inner", "outer") if case[s] != "0"],
)
def test_reference_saddlepoint_errors(name: str, sphere: str) -> None:
    alphas = [float(alpha) for alpha in ALPHAS[name]]
    approximate = forms.ellipsoid_log_error(alphas, sphere=sphere, method="lugannani-rice")
    error = relative_error(approximate, ERRORS[name][sphere])
    assert error == pytest.approx(ERRORS[name][f"{sphere}_LR_relerr"], rel=1e-7, abs=1e-11)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: forms.log_tail([math.nan, 1.0]), ValueError, "weights must be finite"),
        (lambda: forms.log_tail([math.inf, 1.0]), ValueError, "weights must be finite"),
        (lambda: forms.log_tail(["a"]), TypeError, "array of real numbers"),
        (lambda: forms.log_tail(1.0), ValueError, "at least 1 axes"),
        (lambda: forms.log_tail([]), ValueError, "at least one weight"),
        (lambda: forms.log_tail([1.0], degrees=[1.0, 2.0]), ValueError, "degrees must broadcast"),
        (lambda: forms.log_tail([1.0], degrees=0.0), ValueError, "degrees must be at least 1"),
        (lambda: forms.log_tail([1.0], noncentrality=-1.0), ValueError, "nonnegative"),
        (lambda: forms.log_tail([1.0], normal_std=-1.0), ValueError, "nonnegative"),
        (lambda: forms.log_tail([1.0], constant=[1.0, 2.0]), ValueError, "constant must broad"),
        (lambda: forms.log_tail([1.0], tail="both"), ValueError, "tail must be one of"),
        (lambda: forms.ellipsoid_log_error([[1.0]]), ValueError, "alphas must have one axis"),
        (lambda: forms.ellipsoid_log_error([1.0], sphere="x"), ValueError, "sphere must be one"),
        (lambda: forms.ellipsoid_log_error([1.0], radius=0.9), ValueError, "radius must be"),
        (lambda: forms.ellipsoid_log_error([1.0], method="x"), ValueError, "method must be one"),
        (lambda: forms.clt_log_tail([0.0, 0.0]), ValueError, "not all zero"),
    ],
)
def test_bad_input(call: object, error: type[Exception], message: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("std", [1e-20, 1e-160, 1e-163, 1e-300])
def test_a_normal_term_far_below_the_weights(std: float) -> None:
    # P(s Z > u^2) -> E sqrt(2 s max(Z, 0) / pi), with E sqrt(max(Z, 0)) a gamma function
    root = 2**0.25 * math.gamma(0.75) / (2 * math.sqrt(math.pi))
    truth = 0.5 * math.log(2 * std / math.pi) + math.log(root)
    assert log_p([-1.0], normal_std=std) == pytest.approx(truth, rel=1e-13)
    assert log_p([1e10], normal_std=1e10 * std, tail="lower") == pytest.approx(truth, rel=1e-13)


@pytest.mark.parametrize("constant", [1e-300, 1e-160, 1e-7, 1.0, 1e3, 1e160, 1e300])
@pytest.mark.parametrize("weights", [(1.0, 2.0), (1e-100, 3.0), (1.0, -2.0), (1e140, -1e-140)])
def test_exponential_variables_at_thresholds_of_any_size(
    weights: tuple[float, float], constant: float
) -> None:
    # Chi-squares of two degrees are exponential: the sum of two of them has an elementary tail.
    with mpmath.workdps(700):
        a, b, q = (mpmath.mpf(v) for v in (*weights, constant))
        above = a / (a - b) * mpmath.exp(-q / (2 * a))  # P(sum > q)
        if b > 0:
            above -= b / (a - b) * mpmath.exp(-q / (2 * b))
        truths = {"upper": mpmath.log(above), "lower": mpmath.log(1 - above)}
    for tail, truth in truths.items():
        found = log_p(weights, degrees=[2, 2], constant=-constant, tail=tail)
        assert found == pytest.approx(float(truth), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("shift", [1e2, 1e6, 1e7, 1e10, 1e100])
def test_means_that_are_far_apart(shift: float) -> None:
    # u^2 > (v + a)^2 factorises into two independent normals.
    log_q = float(special.log_ndtr(-shift / math.sqrt(2)))
    truth = math.log(2) + log_q + math.log1p(-math.exp(log_q))
    assert log_p([1.0, -1.0], noncentrality=[0.0, shift**2]) == pytest.approx(truth, rel=1e-14)
    assert log_p([1.0, -1.0], noncentrality=[shift**2, 0.0]) == 0.0


@pytest.mark.parametrize("degrees", [1.0, 1e4, 1e8, 1e12, 1e18])
def test_degrees_of_any_number(degrees: float) -> None:
    truth = log_betainc(degrees / 2, 0.5, 0.5, 0.5)  # a beta variable beyond 1/2
    assert log_p([1.0, -1.0], degrees=[1.0, degrees]) == pytest.approx(truth, rel=1e-14)


def test_balanced_terms_beyond_float64_are_refused() -> None:
    with pytest.raises(ArithmeticError, match=r"out of float64's reach"):
        log_p([1.0, -1.0], degrees=[1e300, 1e300])
    with pytest.raises(ValueError, match="300 orders"):
        log_p([1.0, -1e-320])
    with pytest.raises(ValueError, match="finite sum"):
        log_p([1.0, -1.0], degrees=[1e308, 1e308], noncentrality=[1e308, 0.0])
    assert log_p([1.0, -1.0, 1e-320]) == pytest.approx(math.log(0.5), rel=1e-14)  # cannot matter


@pytest.mark.parametrize("alpha", [1e20, 1e200, 1e300])
def test_alphas_of_any_size_under_every_method(alpha: float) -> None:
    for method in ("exact", "clt", "sphere-clt", "lugannani-rice", "chernoff"):
        found = forms.ellipsoid_log_error([alpha] * 3 + [0.5] * 3, method=method)
        assert -1e-9 < found <= 0 or method.endswith("clt")


def test_alphas_next_to_the_outer_sphere_keep_their_digits() -> None:
    # 1/R^2 is not a float64: its rounding error would be a third of these weights.
    radius = 1.3
    inverse = 1 / Fraction(radius) ** 2
    limit = 1 / radius**2
    alphas = [np.nextafter(limit, 0), np.nextafter(limit, 1), limit + 3e-13, limit - 1e-14]
    weights = forms.ellipsoid_weights(alphas, sphere="outer", radius=radius)
    exact = [float(inverse - Fraction(float(a))) for a in alphas]
    np.testing.assert_allclose(weights, exact, rtol=1e-15)
    # The limit itself is no float64 either; what it is written as makes no errors.
    assert forms.ellipsoid_weights([limit], sphere="outer", radius=radius) == 0
    assert forms.ellipsoid_log_error([limit, 0.9], sphere="outer", radius=radius) == -math.inf


@pytest.mark.parametrize("method", ["exact", "clt", "sphere-clt", "lugannani-rice", "chernoff"])
def test_a_surface_that_is_the_sphere_is_class_0(method: str) -> None:
    # A margin of 0 is class 0, the inner sphere's.
    assert forms.ellipsoid_log_error([1.0, 1.0], method=method) == -math.inf
    outer = forms.ellipsoid_log_error([0.25, 0.25], sphere="outer", radius=2.0, method=method)
    assert outer == 0.0
