import json
import math

import numpy as np
import pytest
import torch

from trueboundary.densities import (
    DiscreteTable,
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    UniformSphere,
    density_from_arrays,
    density_to_arrays,
    load_density,
    save_density,
)

TABLE = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.0, 0.4]], dtype=torch.float64)


def test_log_prob_reads_the_table():
    density = DiscreteTable(TABLE)
    grid = torch.cartesian_prod(torch.arange(2), torch.arange(3)).reshape(2, 3, 2)
    torch.testing.assert_close(density.log_prob(grid), TABLE.log())
    torch.testing.assert_close(density.log_prob(grid.float()), TABLE.log())


@pytest.mark.parametrize("point", [(-1, 0), (2, 0), (0, 3), (10**6, 0)])
def test_points_outside_have_probability_zero(point):
    assert DiscreteTable(TABLE).log_prob(torch.tensor(point)) == -math.inf


def test_samples_follow_the_table(generator):
    n = 50_000
    x = DiscreteTable(TABLE).sample((n,), generator=generator)
    assert x.dtype == torch.int64
    share = torch.bincount(x[:, 0] * 3 + x[:, 1], minlength=6).reshape(2, 3) / n
    error = 6 * (TABLE * (1 - TABLE) / n).sqrt()
    assert ((share - TABLE).abs() <= error).all()
    assert (share[TABLE == 0] == 0).all()


def test_sample_shapes_and_reproducibility():
    density = DiscreteTable(torch.full((100, 100), 1e-4))
    first, second = (
        density.sample((2, 3), generator=torch.Generator().manual_seed(0)) for _ in range(2)
    )
    assert first.shape == (2, 3, 2)
    assert torch.equal(first, second)
    assert density.log_prob(first).shape == (2, 3)
    assert density.sample((0,), generator=torch.Generator()).shape == (0, 2)


def test_bad_tables_and_points():
    with pytest.raises(ValueError, match="add up to one"):
        DiscreteTable(torch.ones(2, 2))
    with pytest.raises(ValueError, match="negative"):
        DiscreteTable(torch.tensor([[1.5, -0.5]]))
    with pytest.raises(ValueError, match="shape"):
        DiscreteTable(torch.ones(1))
    density = DiscreteTable(TABLE)
    with pytest.raises(ValueError, match="integer points"):
        density.log_prob(torch.tensor([0.5, 0.0]))
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\)"):
        density.log_prob(torch.tensor([1, 2, 3]))
    with pytest.raises(TypeError, match="tensor of integers"):
        density.log_prob((0, 1))
    with pytest.raises(TypeError, match="generator="):
        density.sample()


def _densities():
    g = torch.Generator().manual_seed(0)
    return [
        DiscreteTable(TABLE),
        LowRankGaussian(torch.zeros(3), torch.randn(3, 1, generator=g), 0.1),
        MixtureOfFactorAnalyzers(
            torch.tensor([0.25, 0.75], dtype=torch.float64),
            torch.randn(2, 3, generator=g, dtype=torch.float64),
            torch.randn(2, 3, 2, generator=g, dtype=torch.float64),
            torch.tensor([0.1, 0.2], dtype=torch.float64),
        ),
    ]


@pytest.mark.parametrize("density", _densities(), ids=lambda d: type(d).__name__)
def test_saved_and_loaded(density, tmp_path, generator):
    folder = save_density(density, tmp_path / "new" / "folder")
    restored = load_density(folder)
    x = density.sample((7,), generator=generator)
    assert type(restored) is type(density)
    torch.testing.assert_close(restored.log_prob(x), density.log_prob(x), rtol=1e-13, atol=1e-13)
    assert sorted(p.name for p in folder.iterdir()) == ["density.json", "density.safetensors"]
    save_density(density, folder)  # replaces


def test_storage_names_what_is_wrong(tmp_path):
    table, gaussian, _ = _densities()
    with pytest.raises(TypeError, match="cannot store a UniformSphere"):
        density_to_arrays(UniformSphere(3))
    with pytest.raises(ValueError, match="class is 'Nothing'"):
        density_from_arrays({"class": "Nothing"}, {})
    with pytest.raises(ValueError, match="has the arrays probabilities"):
        density_from_arrays({"class": "DiscreteTable"}, {"table": np.ones((1, 1))})
    with pytest.raises(FileNotFoundError):
        load_density(tmp_path / "nowhere")
    first, second = save_density(table, tmp_path / "a"), save_density(gaussian, tmp_path / "b")
    (first / "density.json").write_bytes((second / "density.json").read_bytes())
    with pytest.raises(ValueError, match="different densities"):
        load_density(first)
    (first / "density.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="does not describe a density"):
        load_density(first)
