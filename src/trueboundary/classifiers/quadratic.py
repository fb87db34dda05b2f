"""The quadratic network of Gilmer et al. (2018), whose decision boundary is an ellipsoid."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer, check_real
from trueboundary._tensors import check_floating, generator_of, optional_generator
from trueboundary.classifiers.base import BinaryClassifier
from trueboundary.classifiers.ellipsoid import Ellipsoid
from trueboundary.classifiers.stored_classifiers import register


@register
class QuadraticNetwork(BinaryClassifier):
    """One hidden layer that squares: the margin is ``weight * sum((W @ x)**2) + bias``.

    It has ``dim * width + 2`` parameters. The usual random signs of `weight` and `bias` can start
    the network inverted, a state that is hard to leave, so they are given; and the entries of W
    are normal with variance ``mean_alpha * (-bias) / (weight * width)``, which gives the
    ellipsoid's alphas the mean `mean_alpha`, between the two spheres.

    Parameters
    ----------
    dim : int
        Dimension of the points, at least 1.
    width : int
        Number of hidden units.
    generator : torch.Generator
        Source of the initial values.
    seed : int, optional
        In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.
    weight : float
        Initial output weight, positive.
    bias : float
        Initial output bias, negative.
    mean_alpha : float
        Mean of the initial alphas, positive.
    dtype : torch.dtype
        float32 or float64.

    References
    ----------
    Gilmer et al. (2018), *Adversarial Spheres*, Section 4 and Appendix B.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import QuadraticNetwork
    >>> network = QuadraticNetwork(500, 1000, generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in network.parameters())
    500002
    >>> round(float(network.ellipsoid().alphas.mean()), 2)
    0.8
    """

    def __init__(
        self,
        dim: int,
        width: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        weight: float = 1.0,
        bias: float = -1.0,
        mean_alpha: float = 0.8,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        generator = generator_of(generator, seed)
        self.dim = check_integer("dim", dim, minimum=1)
        self.width = check_integer("width", width, minimum=1)
        weight = check_real("weight", weight, above=0.0)
        scale = check_real("-bias", -bias, above=0.0)
        mean_alpha = check_real("mean_alpha", mean_alpha, above=0.0)
        hidden = torch.randn(
            (self.width, self.dim),
            generator=generator,
            dtype=check_floating(dtype),
            device=generator.device,
        )
        std = math.sqrt(mean_alpha * scale / (weight * self.width))
        self.hidden_weight = nn.Parameter(hidden.mul_(std))
        self.weight = nn.Parameter(hidden.new_tensor(weight))
        self.bias = nn.Parameter(hidden.new_tensor(-scale))

    @classmethod
    def perfect(
        cls,
        dim: int,
        width: int,
        *,
        kappa: float = 10.0,
        weight: float | None = None,
        basis: Literal["identity", "rotated"] = "identity",
        radius: float = 1.3,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        r"""Return the network whose boundary is the sphere halfway between the two.

        Its margin is :math:`\kappa (\|x\|^2 - (1 + R)^2 / 4)`, so it makes no error. The product
        of `weight` and the squared singular values of W is `kappa`; how it is split between them
        does not change the function, but decides how fast training moves the network away.

        Parameters
        ----------
        dim : int
            Dimension of the points.
        width : int
            Number of hidden units, at least `dim`.
        kappa : float
            Slope of the margin in the squared norm, positive. At dimension 500, 10 gives the
            initial loss of the paper's Figure 3 (right), and 20 the probabilities in its text.
        weight : float, optional
            Output weight, positive; ``kappa / 2`` by default.
        basis : {"identity", "rotated"}
            W is a stack of scaled identity matrices (`width` must be a multiple of `dim`), or has
            random orthogonal columns.
        radius : float
            Radius of the outer sphere, above 1.
        generator : torch.Generator, optional
            Source of the random columns; needed by ``"rotated"`` alone.
        seed : int, optional
            In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.
        dtype : torch.dtype
            float32 or float64.

        Returns
        -------
        QuadraticNetwork
            A network with all alphas equal to ``4 / (1 + R)**2``.

        Examples
        --------
        >>> import torch
        >>> from trueboundary.classifiers import QuadraticNetwork
        >>> network = QuadraticNetwork.perfect(dim=2, width=4, kappa=20.0)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.3]])
        >>> network.margin(x).detach().sigmoid()
        tensor([0.0016, 0.9994])
        """
        kappa = check_real("kappa", kappa, above=0.0)
        weight = kappa / 2 if weight is None else check_real("weight", weight, above=0.0)
        radius = check_real("radius", radius, above=1.0)
        network = cls(dim, width, seed=0, dtype=dtype)
        if network.width < network.dim:
            raise ValueError(
                f"a perfect network needs width >= dim, got width = {width} < dim = {dim}: "
                "the missing directions would have alpha = 0."
            )
        draws = optional_generator(generator, seed)
        columns = _orthonormal_columns(network.width, network.dim, basis, draws)
        with torch.no_grad():
            network.hidden_weight.copy_(columns * math.sqrt(kappa / weight))
            network.weight.fill_(weight)
            network.bias.fill_(-kappa * ((1 + radius) / 2) ** 2)
        return network

    def margin(self, x: Tensor) -> Tensor:
        """Return the margin, shape ``(n,)``."""
        self._check_points(x, self.dim)
        hidden = nn.functional.linear(x, self.hidden_weight)
        return self.weight * hidden.square().sum(dim=1) + self.bias

    @torch.no_grad()
    def ellipsoid(self) -> Ellipsoid:
        """Return the ellipsoid of the network, computed in float64.

        Returns
        -------
        Ellipsoid
            Alphas ``weight * s**2 / (-bias)`` for each singular value s of W, and their axes.

        Raises
        ------
        ValueError
            If the bias is 0.
        """
        squares, axes = torch.linalg.eigh(self._gram_matrix())
        alphas = self._alphas(squares)
        order = alphas.argsort()
        return Ellipsoid(
            alphas[order], axes.cpu().numpy()[:, order], self.weight.item(), self.bias.item()
        )

    @torch.no_grad()
    def alphas(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the alphas of `ellipsoid` without its axes, which takes half the time.

        Returns
        -------
        ndarray
            Alphas, ascending, float64, shape ``(dim,)``.

        Raises
        ------
        ValueError
            If the bias is 0.
        """
        alphas = self._alphas(torch.linalg.eigvalsh(self._gram_matrix()))
        alphas.sort()
        return alphas

    def _gram_matrix(self) -> Tensor:
        weight, bias = self.weight.item(), self.bias.item()
        if bias == 0 or not all(bool(p.isfinite().all()) for p in self.parameters()):
            raise ValueError(
                "only a quadratic network with finite parameters and a bias other than 0 has an "
                f"ellipsoid, got weight = {weight} and bias = {bias}."
            )
        hidden = self.hidden_weight.double()
        gram: Tensor = hidden.T @ hidden
        return gram

    def _alphas(self, squared_singular_values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        squares = squared_singular_values.clamp(min=0).cpu().numpy()  # rounding can go below 0
        return np.asarray(squares * (self.weight.item() / -self.bias.item()))

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments, the generator and the initial values apart."""
        return {"dim": self.dim, "width": self.width}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a network of the given shape, with arbitrary initial values."""
        return cls(**arguments, seed=0)


def _orthonormal_columns(
    width: int, dim: int, basis: str, generator: torch.Generator | None
) -> Tensor:
    """Return a (width, dim) float64 matrix whose columns are orthonormal."""
    if basis == "identity":
        copies, rest = divmod(width, dim)
        if rest:
            raise ValueError(
                f"basis='identity' needs a width that is a multiple of dim = {dim}, got {width}; "
                "use basis='rotated'."
            )
        return torch.eye(dim, dtype=torch.float64).repeat(copies, 1) / math.sqrt(copies)
    if basis == "rotated":
        if generator is None:
            raise TypeError("basis='rotated' draws its columns and needs generator= or seed=.")
        normal = torch.randn((width, dim), generator=generator, dtype=torch.float64)
        columns: Tensor
        columns, triangle = torch.linalg.qr(normal)
        signs: Tensor = triangle.diagonal().sign()
        return columns * signs  # without them the columns would not be uniformly distributed
    raise ValueError(f"basis must be 'identity' or 'rotated', got {basis!r}.")
