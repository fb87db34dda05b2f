import json
import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks

from trueboundary.densities import MixtureOfFactorAnalyzers, MixtureOfFactorAnalyzersEM, em
from trueboundary.densities import _starts as starts
from trueboundary.densities import estimator as estimator_module

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@quiet
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        MixtureOfFactorAnalyzersEM(),
        MixtureOfFactorAnalyzersEM(2, noise="isotropic", init_params="random"),
        MixtureOfFactorAnalyzersEM(2, n_factors=0, noise=0.1, n_init=2),
    ]
)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def true_density(n_components=3, dim=12, n_factors=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return MixtureOfFactorAnalyzers(
        torch.full((n_components,), 1 / n_components, dtype=torch.float64),
        torch.randn(n_components, dim, generator=g, dtype=torch.float64),
        torch.randn(n_components, dim, n_factors, generator=g, dtype=torch.float64),
        0.05 + 0.2 * torch.rand(n_components, dim, generator=g, dtype=torch.float64),
    )


def rows_of(density, n=600, seed=1):
    return density.sample((n,), generator=torch.Generator().manual_seed(seed)).numpy()


def in_batches(rows, sizes):
    """Return a factory of batches of the given sizes, over and over until the rows are used."""

    def batches():
        first, i = 0, 0
        while first < len(rows):
            yield rows[first : first + sizes[i % len(sizes)]]
            first, i = first + sizes[i % len(sizes)], i + 1

    return batches


def assert_never_falls(bounds, slack=1e-10):
    assert len(bounds) > 2
    assert (np.diff(bounds) >= -slack).all()


@quiet
@pytest.mark.parametrize("noise", ["diagonal", "isotropic", 0.1])
@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_likelihood_never_falls_and_is_that_of_the_result(noise, init_params):
    rows = rows_of(true_density())
    fit = MixtureOfFactorAnalyzersEM(
        4, n_factors=2, noise=noise, init_params=init_params, tol=0.0, max_iter=60, random_state=0
    ).fit(rows)
    assert_never_falls(fit.lower_bounds_)
    assert len(fit.lower_bounds_) == fit.n_iter_ + 1
    assert fit.lower_bounds_[-1] > fit.lower_bounds_[0] + 0.01
    # Scored by the density in residual form, which shares no code with the iteration.
    assert fit.score(rows) == pytest.approx(fit.lower_bound_, abs=1e-9)


@quiet
@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
@hypothesis.given(
    seed=st.integers(0, 10**6),
    n_components=st.integers(1, 4),
    n_factors=st.integers(0, 3),
    noise=st.sampled_from(["diagonal", "isotropic"]),
    reg_covar=st.sampled_from([1e-6, 0.05, 0.5]),
)
def test_likelihood_never_falls_whatever_the_floor(seed, n_components, n_factors, noise, reg_covar):
    rows = rows_of(true_density(dim=5, seed=seed % 7), n=60, seed=seed)
    rows[:, 0] = 1.0  # a coordinate without variance, as at the border of images
    fit = MixtureOfFactorAnalyzersEM(
        n_components,
        n_factors=n_factors,
        noise=noise,
        reg_covar=reg_covar,
        tol=0.0,
        max_iter=25,
        random_state=0,
    ).fit(rows)
    assert (np.diff(fit.lower_bounds_) >= -1e-9 * np.abs(fit.lower_bounds_[1:]).max()).all()
    assert fit.noise_variance_.min() >= reg_covar
    if noise == "diagonal":
        assert (fit.noise_variance_[:, 0] == reg_covar).all()


@quiet
def test_floor_is_the_constrained_maximum_and_not_an_addition():
    """With no factors the maximum is known: the variance, or the floor where that is larger."""
    rows = np.random.default_rng(0).normal(size=(500, 4)) * [0.1, 0.5, 1.0, 2.0]
    fit = MixtureOfFactorAnalyzersEM(n_factors=0, reg_covar=0.3).fit(rows)
    np.testing.assert_allclose(fit.noise_variance_[0], np.maximum(rows.var(axis=0), 0.3))
    np.testing.assert_allclose(fit.means_[0], rows.mean(axis=0), atol=1e-12)


@quiet
def test_small_noise_in_many_coordinates_stays_monotone():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 40)) + 1e-3 * rng.normal(size=(300, 40))
    for dtype in (np.float32, np.float64):
        fit = MixtureOfFactorAnalyzersEM(
            2, n_factors=2, reg_covar=1e-9, tol=0.0, max_iter=80, random_state=0
        ).fit(rows.astype(dtype))
        assert_never_falls(fit.lower_bounds_, slack=1e-8)
        assert np.sqrt(fit.noise_variance_).mean() == pytest.approx(1e-3, rel=0.1)


@quiet
@pytest.mark.parametrize("noise", ["diagonal", "isotropic"])
def test_batches_give_the_result_of_memory(noise):
    rows = rows_of(true_density(), n=500)
    options = {"n_components": 3, "n_factors": 2, "noise": noise, "max_iter": 30, "tol": 0.0}
    whole = MixtureOfFactorAnalyzersEM(**options, random_state=0).fit(rows)
    for sizes in ([500], [7, 100, 1], [64]):
        parts = MixtureOfFactorAnalyzersEM(**options, random_state=0)
        parts.fit_batches(in_batches(rows, sizes))
        for name in ("weights_", "means_", "loadings_", "noise_variance_", "lower_bounds_"):
            np.testing.assert_allclose(
                getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-10, err_msg=name
            )


@quiet
def test_start_from_some_of_the_rows_does_not_depend_on_the_batches(monkeypatch):
    rows = rows_of(true_density(), n=300)
    monkeypatch.setattr(starts, "_MAX_NUMBERS", 100 * rows.shape[1])
    chosen = [
        starts.survey(in_batches(rows, sizes)(), np.random.RandomState(0))
        for sizes in ([300], [13], [150, 1])
    ]
    for found in chosen:
        assert found.n_samples == 300
        assert found.rows.shape == (100, rows.shape[1])
        np.testing.assert_array_equal(found.rows, chosen[0].rows)
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), atol=1e-13)
        np.testing.assert_allclose(found.variance, rows.var(axis=0), rtol=1e-12)


def test_batches_that_change_are_noticed():
    rows = rows_of(true_density(), n=100)
    calls = []

    def batches():
        calls.append(None)
        yield rows[: 100 if len(calls) == 1 else 90]

    with pytest.raises(ValueError, match="100 rows on the first pass and 90"):
        MixtureOfFactorAnalyzersEM().fit_batches(batches)
    with pytest.raises(ValueError, match="features"):
        MixtureOfFactorAnalyzersEM().fit_batches(lambda: [rows, rows[:, :3]])
    with pytest.raises(ValueError, match="no rows"):
        MixtureOfFactorAnalyzersEM().fit_batches(list)
    with pytest.raises(TypeError, match="must be a callable"):
        MixtureOfFactorAnalyzersEM().fit_batches([rows])


@quiet
def test_one_component_without_factors_in_one_step_is_the_gaussian_of_the_moments():
    rows = rows_of(true_density(n_components=1))
    fit = MixtureOfFactorAnalyzersEM(n_factors=0, noise="isotropic").fit(rows)
    np.testing.assert_allclose(fit.noise_variance_, rows.var(axis=0).mean())


def test_one_component_is_factor_analysis():
    rows = rows_of(true_density(n_components=1), n=400)
    fit = MixtureOfFactorAnalyzersEM(n_factors=2, tol=1e-9, max_iter=3000).fit(rows)
    peer = FactorAnalysis(2, tol=1e-9, max_iter=3000, svd_method="lapack").fit(rows)
    assert fit.score(rows) == pytest.approx(peer.score(rows), abs=1e-5)
    np.testing.assert_allclose(fit.noise_variance_[0], peer.noise_variance_, atol=1e-3)


def test_isotropic_noise_is_probabilistic_principal_components():
    """Tipping and Bishop's closed form: the noise is the mean of the variances left out."""
    rows = rows_of(true_density(n_components=1), n=400)
    fit = MixtureOfFactorAnalyzersEM(n_factors=2, noise="isotropic", tol=1e-13, max_iter=5000).fit(
        rows
    )
    variances, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
    np.testing.assert_allclose(fit.noise_variance_, variances[:-2].mean(), rtol=1e-6)
    leading = (directions[:, -2:] * (variances[-2:] - variances[:-2].mean())) @ directions[:, -2:].T
    np.testing.assert_allclose(fit.loadings_[0] @ fit.loadings_[0].T, leading, atol=1e-4)


def test_without_factors_it_is_scikit_learns_mixture():
    rows, _ = make_blobs(400, n_features=3, centers=3, random_state=0)
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=0, tol=1e-10, random_state=0).fit(rows)
    peer = GaussianMixture(3, covariance_type="diag", tol=1e-10, reg_covar=0, random_state=0)
    peer.fit(rows)
    assert fit.score(rows) == pytest.approx(peer.score(rows), abs=1e-6)
    # The peer has the same free parameters, so that the criteria agree too.
    assert fit.bic(rows) == pytest.approx(peer.bic(rows), abs=1e-2)
    assert fit.aic(rows) == pytest.approx(peer.aic(rows), abs=1e-2)


def test_generated_data_are_fitted_better_than_by_their_own_density():
    density = true_density()
    rows = rows_of(density, n=1000)
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, n_init=2, random_state=0).fit(rows)
    truth = float(density.log_prob(torch.from_numpy(rows)).mean())
    assert fit.score(rows) >= truth
    fresh = rows_of(density, n=1000, seed=2)
    assert fit.score(fresh) > float(density.log_prob(torch.from_numpy(fresh)).mean()) - 0.5


@quiet
def test_more_starts_never_end_lower():
    rows = rows_of(true_density(), n=200)
    one, four = (
        MixtureOfFactorAnalyzersEM(3, n_init=n, init_params="random", random_state=0).fit(rows)
        for n in (1, 4)
    )
    assert four.lower_bound_ >= one.lower_bound_


@quiet
def test_start_from_a_density():
    density = true_density()
    rows = rows_of(density)
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, max_iter=5).fit(rows, initial=density)
    first = float(density.log_prob(torch.from_numpy(rows)).mean())
    assert fit.lower_bounds_[0] == pytest.approx(first, abs=1e-10)
    with pytest.raises(ValueError, match="initial must have loadings"):
        MixtureOfFactorAnalyzersEM(2, n_factors=2).fit(rows, initial=density)


@quiet
def test_fixed_noise_stays(generator):
    rows = rows_of(true_density())
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, noise=0.25, random_state=0).fit(rows)
    assert (fit.noise_variance_ == 0.25).all()


@quiet
def test_float32_ends_where_float64_does():
    rows = rows_of(true_density(dim=30)).astype(np.float32)
    options = {"n_components": 3, "n_factors": 2, "tol": 1e-6, "max_iter": 2000}
    single = MixtureOfFactorAnalyzersEM(**options, random_state=0).fit(rows)
    exact = MixtureOfFactorAnalyzersEM(**options, random_state=0).fit(rows.astype(np.float64))
    assert_never_falls(single.lower_bounds_, slack=1e-6)
    assert single.converged_
    assert single.lower_bound_ == pytest.approx(exact.lower_bound_, abs=1e-4)
    assert single.means_.dtype == single.score_samples(rows).dtype == np.float64


@quiet
@pytest.mark.parametrize("ways", ["memory", "batches", "shards"])
@pytest.mark.parametrize(
    ("offset", "spread"), [(0, 1.0), (1e4, 0.01), (3e5, 0.1), (-1.7e9, 500.0), (1e20, 1e15)]
)
def test_float32_rows_far_from_zero_have_their_own_mean(offset, spread, ways):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(600, 3)) * spread + offset).astype(np.float32)
    options = {"n_factors": 1, "tol": 1e-8, "max_iter": 100, "random_state": 0}
    exact = MixtureOfFactorAnalyzersEM(**options).fit(rows.astype(np.float64))
    fit = MixtureOfFactorAnalyzersEM(**options)
    parts = [rows[:200], rows[200:]]
    if ways == "memory":
        fit.fit(rows)
    elif ways == "batches":
        fit.fit_batches(lambda: iter(parts))
    else:
        with ThreadPoolExecutor(1) as executor:
            fit.fit_shards(executor, [lambda: parts[0], lambda: parts[1]])
    # With one component the fitted mean is the sample mean, whatever the covariance.
    true = rows.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(fit.means_[0], true, rtol=0, atol=1e-6 * spread)
    assert fit.lower_bound_ == pytest.approx(exact.lower_bound_, abs=1e-5)
    assert_never_falls(fit.lower_bounds_, slack=1e-5)


@quiet
def test_float32_statistics_about_an_origin_far_from_zero_are_those_of_float64():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(500, 2)) * 0.1 + 3e5).astype(np.float32)
    origin = rows.astype(np.float64).mean(axis=0)
    parameters = em.MixtureParameters(
        np.ones(1), np.zeros((1, 2)), np.full((1, 2, 1), 0.1), np.full((1, 2), 0.01)
    )
    single, exact = (
        em.Expectation(parameters, method, origin=origin)(rows)
        for method in (em.Method.FLOAT32, em.Method.FLOAT64)
    )
    np.testing.assert_allclose(single.sum_x, exact.sum_x, atol=1e-4)  # both about 0
    np.testing.assert_allclose(single.sum_xx, exact.sum_xx, rtol=1e-5)
    assert single.log_likelihood == pytest.approx(exact.log_likelihood, abs=0.01)


def test_predictions_come_from_the_density():
    rows = rows_of(true_density())
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, random_state=0).fit(rows)
    x = torch.from_numpy(rows)
    np.testing.assert_allclose(fit.score_samples(rows), fit.distribution_.log_prob(x))
    np.testing.assert_allclose(fit.predict_proba(rows).sum(axis=1), 1)
    np.testing.assert_array_equal(fit.predict(rows), fit.predict_proba(rows).argmax(axis=1))


def test_scoring_in_blocks(monkeypatch):
    rows = rows_of(true_density())
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, random_state=0).fit(rows)
    expected = fit.score_samples(rows)
    monkeypatch.setattr(estimator_module, "_BLOCK_NUMBERS", 50)
    np.testing.assert_allclose(fit.score_samples(rows), expected, rtol=1e-12)


def test_sample_repeats_with_a_seed():
    rows = rows_of(true_density())
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, random_state=0).fit(rows)
    (x, y), (again, _) = fit.sample(50), fit.sample(50)
    np.testing.assert_array_equal(x, again)
    assert x.shape == (50, rows.shape[1])
    assert set(y) <= {0, 1, 2}
    with pytest.raises(ValueError, match="n_samples"):
        fit.sample(0)


def test_warns_when_stopped_early():
    rows = rows_of(true_density())
    with pytest.warns(ConvergenceWarning, match="max_iter=1") as caught:
        fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, max_iter=1, random_state=0).fit(rows)
    assert not fit.converged_
    assert fit.n_iter_ == 1
    assert caught[0].filename == __file__


def test_singular_components_are_named():
    """Two clouds, and a third place where all rows are equal."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(50, 3)), np.full((20, 3), 30.0)])
    with pytest.warns(ConvergenceWarning, match=r"Components \d are singular"):
        fit = MixtureOfFactorAnalyzersEM(2, n_factors=1, random_state=0).fit(rows)
    assert np.isfinite(fit.score_samples(rows)).all()


def test_empty_components_are_named_and_keep_their_place():
    density = true_density(n_components=2, dim=3)
    rows = rows_of(density, n=100)
    means = density.means.clone()
    means[1] = 1e4
    lost = MixtureOfFactorAnalyzers(
        density.weights, means, density.loadings, density.noise_variance
    )
    with pytest.warns(ConvergenceWarning, match="Components 1 are empty"):
        fit = MixtureOfFactorAnalyzersEM(2, n_factors=2).fit(rows, initial=lost)
    np.testing.assert_allclose(fit.means_[1], 1e4)
    assert fit.weights_[1] == 0
    assert_never_falls(fit.lower_bounds_)
    assert np.isfinite(fit.score_samples(rows)).all()


def test_equal_rows_and_few_rows_are_survived():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, random_state=0).fit(np.ones((5, 4)))
        assert np.isfinite(fit.score(np.ones((5, 4))))
        fit = MixtureOfFactorAnalyzersEM(2, n_factors=3, random_state=0).fit(np.eye(3))
        assert np.isfinite(fit.score(np.eye(3)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components must be at least 1"),
        ({"n_components": 1.5}, TypeError, "n_components must be an integer"),
        ({"n_components": 100}, ValueError, "needs at least as many rows"),
        ({"n_factors": -1}, ValueError, "n_factors must be at least 0"),
        ({"n_factors": 5}, ValueError, "at most the number of features"),
        ({"noise": "spherical"}, ValueError, "noise must be 'diagonal'"),
        ({"noise": 0.0}, ValueError, "noise must be"),
        ({"noise": None}, TypeError, "noise must be"),
        ({"tol": -1.0}, ValueError, "tol must not be negative"),
        ({"reg_covar": 0.0}, ValueError, "reg_covar must be"),
        ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
        ({"n_init": 0}, ValueError, "n_init must be at least 1"),
        ({"init_params": "guess"}, ValueError, "init_params must be one of kmeans, random"),
    ],
)
def test_bad_parameters(options, error, message):
    with pytest.raises(error, match=message):
        MixtureOfFactorAnalyzersEM(**options).fit(np.eye(4))


@quiet
def test_saved_and_loaded(tmp_path):
    rows = rows_of(true_density())
    fit = MixtureOfFactorAnalyzersEM(3, n_factors=2, max_iter=5, random_state=0).fit(rows)
    folder = fit.save(tmp_path / "fit")
    again = MixtureOfFactorAnalyzersEM.load(folder)
    assert again.get_params() == fit.get_params()
    np.testing.assert_array_equal(again.score_samples(rows), fit.score_samples(rows))
    np.testing.assert_array_equal(again.sample(5)[0], fit.sample(5)[0])
    for name in ("n_iter_", "converged_", "lower_bound_", "n_features_in_"):
        assert getattr(again, name) == getattr(fit, name)
    assert json.loads((folder / "density.json").read_text())["class"] == type(fit).__name__


def test_saving_names_what_is_wrong(tmp_path):
    with pytest.raises(NotFittedError):
        MixtureOfFactorAnalyzersEM().save(tmp_path)
    fit = MixtureOfFactorAnalyzersEM(random_state=np.random.RandomState(0))
    fit.fit(np.random.default_rng(0).normal(size=(50, 3)))
    with pytest.raises(TypeError, match="set random_state"):
        fit.save(tmp_path)
    estimator_module.write_folder(tmp_path, {"class": "DiscreteTable"}, {})
    with pytest.raises(ValueError, match="holds 'DiscreteTable'"):
        MixtureOfFactorAnalyzersEM.load(tmp_path)


# The two halves of an iteration, by themselves.


def parameters_of(density, *, isotropic=False):
    noise = density.noise_variance.numpy()
    return em.MixtureParameters(
        density.weights.numpy(),
        density.means.numpy(),
        density.loadings.numpy(),
        noise.mean(axis=1, keepdims=True) if isotropic else noise,
    )


def assert_same_update(a, b, atol):
    for name in ("weights", "means", "loadings", "noise_variance"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol)


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("block_numbers", [2**20, 100])
def test_methods_agree(isotropic, block_numbers, monkeypatch):
    density = true_density()
    rows = rows_of(density)
    parameters = parameters_of(density, isotropic=isotropic)
    monkeypatch.setattr(em, "_BLOCK_NUMBERS", block_numbers)
    monkeypatch.setattr(em, "_MIN_BLOCK_ROWS", 1)
    updates = {}
    for method in em.Method:
        statistics = em.Expectation(parameters, method)(rows)
        updates[method] = em.maximisation(statistics, floor=1e-6)
    assert_same_update(updates[em.Method.FLOAT64], updates[em.Method.RESIDUAL], atol=1e-11)
    assert_same_update(updates[em.Method.FLOAT32], updates[em.Method.RESIDUAL], atol=1e-3)


@pytest.mark.parametrize("n_factors", [0, 2])
def test_rows_of_one_component_alone_are_summed_alike(n_factors, monkeypatch):
    """Far apart components share no rows, and their sums take the way for that case."""
    density = true_density(n_components=6, n_factors=n_factors)
    density = MixtureOfFactorAnalyzers(
        density.weights, 30 * density.means, density.loadings, density.noise_variance
    )
    rows = rows_of(density)
    collect = em.Expectation(parameters_of(density), em.Method.FLOAT64)
    apart = collect(rows)
    monkeypatch.setattr(em, "_DENSE_SHARE", 0.0)
    together = collect(rows)
    for name in ("sum_x", "sum_z", "sum_xz"):
        np.testing.assert_allclose(
            getattr(apart, name), getattr(together, name), rtol=1e-12, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("method", list(em.Method))
def test_statistics_of_shards_add_up(method):
    density = true_density()
    rows = rows_of(density)
    parameters = parameters_of(density)
    collect = em.Expectation(parameters, method)
    whole = collect(rows)
    # Shards may be collected in other processes, with their own copies of the parameters.
    elsewhere = em.Expectation(parameters_of(density), method)
    merged = collect(rows[400:]) + elsewhere(rows[:1]) + collect(rows[1:400])
    atol = 1e-3 if method is em.Method.FLOAT32 else 1e-10
    for name in ("n_samples", "log_likelihood", "count", "sum_x", "sum_xx", "sum_z", "sum_xz"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(whole, name), rtol=1e-12, atol=atol, err_msg=name
        )
    assert whole.n_samples == 600
    assert whole.count.sum() == pytest.approx(600)


def test_statistics_of_different_parameters_do_not_add():
    rows = rows_of(true_density())
    one, other = (
        em.Expectation(parameters_of(true_density(seed=seed)), em.Method.FLOAT64)(rows)
        for seed in (0, 1)
    )
    by_component = em.Expectation(one.parameters, em.Method.RESIDUAL)(rows)
    for unlike in (other, by_component):
        with pytest.raises(ValueError, match="same parameters and by the same method"):
            one + unlike
    with pytest.raises(TypeError):
        one + 1


def test_iteration_against_dense_matrices():
    """One iteration written out with full covariances and a loop over rows and components."""
    density = true_density(n_components=2, dim=4)
    rows = rows_of(density, n=30)
    x = torch.from_numpy(rows)
    responsibilities = density.responsibilities(x).numpy()
    parameters = parameters_of(density)
    statistics = em.Expectation(parameters, em.Method.FLOAT64)(rows)
    update = em.maximisation(statistics, floor=1e-9)
    assert statistics.log_likelihood == pytest.approx(float(density.log_prob(x).sum()))
    for k in range(2):
        loadings, noise = parameters.loadings[k], parameters.noise_variance[k]
        r = responsibilities[:, k]
        mean = r @ rows / r.sum()
        gain = loadings.T @ np.linalg.inv(loadings @ loadings.T + np.diag(noise))
        variance = np.eye(2) - gain @ loadings
        s_xz, s_zz = np.zeros((4, 2)), np.zeros((2, 2))
        for weight, row in zip(r, rows, strict=True):
            z = gain @ (row - mean)
            s_xz += weight * np.outer(row - mean, z)
            s_zz += weight * (np.outer(z, z) + variance)
        new = s_xz @ np.linalg.inv(s_zz)
        s_xx = (r[:, None] * (rows - mean) ** 2).sum(axis=0)
        np.testing.assert_allclose(update.means[k], mean)
        # The loadings are those up to a rotation of the factors.
        np.testing.assert_allclose(
            update.loadings[k] @ update.loadings[k].T, new @ new.T, atol=1e-12
        )
        expected = (s_xx - (new * s_xz).sum(axis=1)) / r.sum()
        np.testing.assert_allclose(update.noise_variance[k], expected, rtol=1e-9)


def test_method_follows_noise_and_spread():
    def choice(noise_std, spread, **options):
        parameters = em.MixtureParameters(
            np.ones(1), np.zeros((1, 784)), np.zeros((1, 784, 2)), np.full((1, 1), noise_std**2)
        )
        return em.choose_method(parameters, np.full(784, spread**2), **options)

    assert choice(0.1, 0.25) is em.Method.FLOAT32
    assert choice(0.1, 0.25, allow_float32=False) is em.Method.FLOAT64
    assert choice(0.009, 0.01) is em.Method.FLOAT64  # noise variance below 1e-4
    assert choice(0.02, 0.5) is em.Method.FLOAT64  # large against the noise
    assert choice(1e-3, 0.25) is em.Method.FLOAT64
    assert choice(1e18, 1e18) is em.Method.FLOAT64  # squares overflow in float32
    assert choice(1e-6, 0.25) is em.Method.RESIDUAL


@quiet
def test_residual_form_takes_over_where_float64_cancels():
    rng = np.random.default_rng(0)
    rows = 1e4 * rng.normal(size=(200, 1)) @ rng.normal(size=(1, 5))
    rows += 1e-3 * rng.normal(size=rows.shape)
    fit = MixtureOfFactorAnalyzersEM(n_factors=1, reg_covar=1e-12, tol=0.0, max_iter=20).fit(rows)
    assert_never_falls(fit.lower_bounds_, slack=1e-6)
    assert math.sqrt(fit.noise_variance_.mean()) == pytest.approx(1e-3, rel=0.2)
