"""Problems made of known densities: Gaussians, mixtures of factor analyzers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, drawing_device, generator_of
from trueboundary.classifiers.bayes import BayesOptimal
from trueboundary.densities import (
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    density_from_arrays,
    density_to_arrays,
)
from trueboundary.devices import check_device
from trueboundary.problems.base import check_label
from trueboundary.problems.known_densities import KnownDensities

Array = np.ndarray[Any, np.dtype[Any]]
GaussianDensity = LowRankGaussian | MixtureOfFactorAnalyzers


class MixtureProblem(KnownDensities[GaussianDensity]):
    """Each class is a Gaussian, or a mixture of Gaussians, with known parameters.

    Parameters
    ----------
    *densities : LowRankGaussian or MixtureOfFactorAnalyzers
        Densities of the classes, two or more, of the same dimension, dtype and device.
    prior : float or sequence of float, optional
        Probabilities of all classes, positive and adding up to 1; of two classes that of class 1
        is enough. All classes are equally probable by default.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Section 2.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import LowRankGaussian
    >>> from trueboundary.problems import MixtureProblem
    >>> means = torch.tensor([[-4.0, 0.0], [0.0, 0.0], [4.0, 0.0]])
    >>> classes = [LowRankGaussian(mean, torch.zeros(2, 0), 0.25) for mean in means]
    >>> problem = MixtureProblem(*classes, prior=(0.5, 0.25, 0.25))
    >>> x, y = problem.sample(100, generator=torch.Generator().manual_seed(0))
    >>> bool((problem.bayes_classifier().predict(x) == y).all())
    True
    """

    kinds = (LowRankGaussian, MixtureOfFactorAnalyzers)

    def __init__(
        self, *densities: GaussianDensity, prior: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(*densities, prior=prior)
        self._converted: dict[Any, GaussianDensity] = {}

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one point, ``(dim,)``."""
        return tuple(self.density_0.event_shape)

    @property
    def dim(self) -> int:
        """Dimension of the space."""
        return self.event_shape[0]

    def density(
        self,
        label: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> GaussianDensity:
        """Return the density of class `label`, in its own dtype and place unless told otherwise.

        Conversions are made once and kept.
        """
        density = self._densities[check_label(label, self.n_classes)]
        dtype = density.dtype if dtype is None else check_floating(dtype)
        place = density.device if device is None else check_device(device)
        if (dtype, place) == (density.dtype, density.device):
            return density
        key = (label, dtype, place)
        if key not in self._converted:
            self._converted[key] = density.to(dtype=dtype, device=place)
        return self._converted[key]

    def sample_class(
        self,
        n: int,
        label: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw points ``(n, dim)`` of class `label`, noise included and not clipped."""
        n = check_integer("n", n, minimum=1)
        generator = generator_of(generator, seed, device)
        place = drawing_device(generator, device)
        density = self.density(label, dtype=dtype, device=place)
        return density.sample(torch.Size((n,)), generator=generator)

    def bayes_classifier(
        self, *, dtype: torch.dtype = torch.float32, hardest_component: bool = False
    ) -> BayesOptimal:
        """Return the optimal classifier, on the densities' device.

        Parameters
        ----------
        dtype : torch.dtype
            float32 or float64; three classes or more compute in float64 in either case.
        hardest_component : bool
            Decide by each class's most likely component, as Richardson and Weiss (2021) do.
        """
        check_floating(dtype)
        densities = self._densities
        if self.n_classes == 2:
            densities = tuple(self.density(label, dtype=dtype) for label in (0, 1))
        return BayesOptimal(*densities, prior=self._priors, hardest_component=hardest_component)

    def describe(self) -> dict[str, Any]:
        """Return sizes, prior and a hash of all parameters, as plain values."""
        densities = self._densities
        return {
            "problem": type(self).__name__,
            "dim": self.dim,
            "n_components": [_n_components(density) for density in densities],
            "n_factors": [density.n_factors for density in densities],
            "prior": self._stored_prior(),
            "digest": _digest(densities),
        }

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the problem as plain data, for storage without pickle.

        That is what JSON can hold, and the parameters of all densities as arrays, named
        ``class_0.means`` and so on.
        """
        spec: dict[str, Any] = {"class": type(self).__name__, "prior": self._stored_prior()}
        arrays: dict[str, Array] = {}
        for label, density in enumerate(self._densities):
            of_density, parts = density_to_arrays(density)
            spec[f"class_{label}"] = of_density
            arrays |= {f"class_{label}.{name}": part for name, part in parts.items()}
        return spec, arrays

    @classmethod
    def from_arrays(cls, spec: dict[str, Any], arrays: dict[str, Array]) -> MixtureProblem:
        """Rebuild the problem that `to_arrays` described, on the CPU.

        Raises
        ------
        ValueError
            If the description is of something else, or the arrays do not fit it.
        """
        return cls(*_stored_densities(spec, arrays, cls.__name__), prior=spec["prior"])


def _stored_densities(
    spec: Mapping[str, Any], arrays: Mapping[str, Array], name: str
) -> list[GaussianDensity]:
    if spec.get("class") != name:
        raise ValueError(f"not the description of a {name}: class is {spec.get('class')!r}.")
    prior = spec.get("prior")
    n_classes = len(prior) if isinstance(prior, list) else 2
    return [
        density_from_arrays(  # type: ignore[misc]  # the constructor refuses anything else
            spec.get(f"class_{label}", {}),
            {
                key.removeprefix(f"class_{label}."): array
                for key, array in arrays.items()
                if key.startswith(f"class_{label}.")
            },
        )
        for label in range(n_classes)
    ]


def subspace_distances(density: GaussianDensity, x: Tensor) -> Tensor:
    r"""Return the distances ``(n, K)`` of points to each component's affine subspace, float64.

    The subspace of component k is :math:`\{\mu_k + A_k z\}`, where its points would lie without
    noise.

    Parameters
    ----------
    density : LowRankGaussian or MixtureOfFactorAnalyzers
        The density.
    x : Tensor
        Points, shape ``(n, dim)``.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import LowRankGaussian
    >>> from trueboundary.problems import subspace_distances
    >>> line = LowRankGaussian(torch.zeros(2), torch.tensor([[3.0], [0.0]]), 0.1)
    >>> subspace_distances(line, torch.tensor([[5.0, 2.0]]))
    tensor([[2.]], dtype=torch.float64)
    """
    points = x.double()
    if isinstance(density, LowRankGaussian):
        means, loadings = density.mean[None], density.loadings[None]
    else:
        means, loadings = density.means, density.loadings
    columns = []
    for mean, loading in zip(means.double(), loadings.double(), strict=True):
        basis, spectrum, _ = torch.linalg.svd(loading, full_matrices=False)
        # Columns of zeros span nothing.
        basis = basis * (spectrum > 1e-12 * spectrum[:1].clamp(min=1e-300))
        offset = points - mean
        columns.append((offset - (offset @ basis) @ basis.T).norm(dim=1))
    return torch.stack(columns, dim=1)


def other_subspace_distance(problem: MixtureProblem, x: Tensor, y: Tensor) -> Tensor:
    """Return each point's distance to the nearest component subspace of other classes, float64.

    Half of it is about what an attack on the optimal classifier needs when all noise is equal and
    small (Richardson and Weiss 2021, Theorem 2). Points ``(n, dim)`` with labels ``(n,)`` have
    distances ``(n,)``.
    """
    distance = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for label in range(problem.n_classes):
        rest = y != label
        density = problem.density(label, dtype=torch.float64)
        found = subspace_distances(density, x[rest]).amin(dim=1)
        distance[rest] = torch.minimum(distance[rest], found)
    return distance


def _n_components(density: GaussianDensity) -> int:
    return density.n_components if isinstance(density, MixtureOfFactorAnalyzers) else 1


def _digest(densities: Sequence[GaussianDensity]) -> str:
    """Return a hash of all parameters, the same on every device."""
    digest = hashlib.blake2b(digest_size=16)
    for density in densities:
        for name, array in sorted(density_to_arrays(density)[1].items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
