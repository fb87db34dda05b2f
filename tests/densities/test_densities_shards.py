"""A mixture fitted to shards by other processes is the mixture fitted in memory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from trueboundary.densities import MixtureOfFactorAnalyzersEM
from trueboundary.runs import worker_pool

HELPERS = Path(__file__).parents[1] / "helpers"
FITTED = ("weights_", "means_", "loadings_", "noise_variance_", "lower_bounds_")
SETTINGS = {"n_components": 3, "n_factors": 2, "random_state": 0, "tol": 1e-4}


@pytest.fixture(autouse=True)
def _helpers(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


def fit(executor, n_parts):
    from shards import LoadPart

    shards = [LoadPart(i, n_parts) for i in range(n_parts)]
    return MixtureOfFactorAnalyzersEM(**SETTINGS).fit_shards(executor, shards)


@pytest.mark.parametrize("n_parts", [1, 4])
def test_shards_give_the_fit_in_memory(n_parts):
    from shards import made_up_rows

    expected = MixtureOfFactorAnalyzersEM(**SETTINGS).fit(made_up_rows())
    with ThreadPoolExecutor(2) as executor:
        fitted = fit(executor, n_parts)
    assert fitted.n_iter_ == expected.n_iter_ > 3
    for name in FITTED:
        np.testing.assert_allclose(
            getattr(fitted, name), getattr(expected, name), rtol=0, atol=1e-10
        )


def test_the_number_of_workers_changes_no_bit():
    with ThreadPoolExecutor(3) as executor:
        expected = fit(executor, 4)
    with worker_pool(2) as pool:
        fitted = fit(pool, 4)
    for name in FITTED:
        np.testing.assert_array_equal(getattr(fitted, name), getattr(expected, name))


def test_no_shards_and_changing_shards_are_refused():
    estimator = MixtureOfFactorAnalyzersEM()
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="no rows to fit"):
            estimator.fit_shards(executor, [])
        lengths = iter([5, 6])
        with pytest.raises(ValueError, match="same rows each time"):
            estimator.fit_shards(
                executor, [lambda: np.arange(2.0 * next(lengths)).reshape(-1, 2) ** 1.5]
            )
