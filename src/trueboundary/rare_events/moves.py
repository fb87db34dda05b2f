"""Random moves that leave a density unchanged, the only thing splitting asks of a density."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating
from trueboundary.densities import (
    DiscreteTable,
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    UniformSphere,
)
from trueboundary.problems import Problem
from trueboundary.problems.base import check_label

__all__ = ["GaussianMove", "InvariantMove", "MixtureMove", "SphereMove", "TableMove", "move_for"]


class InvariantMove(ABC):
    """A density, as splitting sees it: draw from it, and move about in it.

    Particles are described by states, one row of a tensor each. A subclass writes `sample` and
    `propose`; where states are not the points themselves, it also writes `points` and, if errors
    found by an attack are to be compared with the particles, `states`.

    Examples
    --------
    A uniform density on the unit square, moved by reflected steps:

    >>> import torch
    >>> from trueboundary.rare_events import InvariantMove
    >>> class Square(InvariantMove):
    ...     def sample(self, n, generator):
    ...         return torch.rand(n, 2, generator=generator, dtype=torch.float64)
    ...     def propose(self, state, step, generator):
    ...         noise = torch.randn(state.shape, generator=generator, dtype=state.dtype)
    ...         return 1 - ((state + step * noise) % 2 - 1).abs()
    >>> generator = torch.Generator().manual_seed(0)
    >>> state = Square().propose(Square().sample(1000, generator), 0.1, generator)
    >>> bool(((state >= 0) & (state <= 1)).all())
    True
    """

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` independent states from the density, shape ``(n, *state)``."""

    @abstractmethod
    def propose(self, state: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """Move every state, independently, leaving the density unchanged.

        Parameters
        ----------
        state : Tensor
            States, shape ``(n, *state)``; not to be changed in place.
        step : float
            Length scale of the move, above 0 and at most 1: the smaller, the nearer the new
            states. A step of 1 should lead about as far as a fresh draw.
        generator : torch.Generator
            Source of the random numbers.

        Returns
        -------
        Tensor
            New states, shape ``(n, *state)``. The move must be reversible with respect to the
            density: going from a to b is as probable as going from b to a when the first state is
            drawn from the density. Refusing some of the moves then leaves the density restricted
            to a subset unchanged, which mere invariance would not guarantee.
        """

    def points(self, state: Tensor) -> Tensor:
        """Return the points that states stand for, shape ``(n, *event)``; by default the states."""
        return state

    def states(self, points: Tensor) -> Tensor:
        """Return one state for each of the points; by default the points themselves."""
        if type(self).points is not InvariantMove.points:
            raise NotImplementedError(
                f"{type(self).__name__} does not say which states stand for given points; write "
                "its states(points), or estimate without seeds."
            )
        return points


class SphereMove(InvariantMove):
    """Random walk along great circles of a sphere.

    The direction is uniform among the tangents and the angle is ``step * N(0, 1)``, so the move
    is symmetric.

    Parameters
    ----------
    density : UniformSphere
        The sphere.
    dtype : torch.dtype
        Of the points, which are drawn on the generator's device.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import UniformSphere
    >>> from trueboundary.rare_events import SphereMove
    >>> move, generator = SphereMove(UniformSphere(5)), torch.Generator().manual_seed(0)
    >>> state = move.propose(move.sample(3, generator), 0.2, generator)
    >>> torch.allclose(state.norm(dim=1), torch.ones(3, dtype=torch.float64))
    True
    """

    def __init__(self, density: UniformSphere, *, dtype: torch.dtype = torch.float64) -> None:
        self.density = density
        self.dtype = check_floating(dtype)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points uniformly, shape ``(n, dim)``."""
        return self.density.sample(torch.Size((n,)), generator=generator, dtype=self.dtype)

    def propose(self, state: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """Follow a random great circle from each point; see `InvariantMove.propose`."""
        radius = self.density.radius
        # Single precision is several times cheaper to draw, and the direction, all that is used
        # of these numbers, is as uniform: rounding changes probabilities by about 1e-7 of their
        # size.
        drawn = torch.randn(state.shape, generator=generator, device=state.device)
        tangent = drawn.to(state.dtype)
        along = torch.linalg.vecdot(tangent, state) / radius**2
        tangent.addcmul_(along[:, None], state, value=-1.0)
        length = torch.linalg.vector_norm(tangent, dim=1)
        angle = _angles(state, step, generator)
        moved = tangent.mul_((radius * angle.sin() / length)[:, None])
        moved.addcmul_(angle.cos()[:, None], state)
        # Rounding would otherwise let the norm drift over thousands of moves.
        return moved.mul_(radius / torch.linalg.vector_norm(moved, dim=1, keepdim=True))


class GaussianMove(InvariantMove):
    r"""Rotation of the standard normal variables that a low-rank Gaussian is made of.

    The state is :math:`u = (z, \varepsilon)` with :math:`x = \mu + A z + D^{1/2} \varepsilon`.
    It moves to :math:`u \cos\theta + \xi \sin\theta` with fresh normal :math:`\xi` and angle
    :math:`\theta` = ``step * N(0, 1)``: the preconditioned Crank-Nicolson proposal, reversible
    for every angle (Cotter, Roberts, Stuart and White, 2013).

    Parameters
    ----------
    density : LowRankGaussian
        The density; points have its dtype and live on its device.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import LowRankGaussian
    >>> from trueboundary.rare_events import GaussianMove
    >>> move = GaussianMove(LowRankGaussian(torch.zeros(3), torch.ones(3, 1), 0.01))
    >>> state = move.sample(10, torch.Generator().manual_seed(0))
    >>> state.shape, move.points(state).shape
    (torch.Size([10, 4]), torch.Size([10, 3]))
    """

    def __init__(self, density: LowRankGaussian) -> None:
        self.density = density
        self._noise_std = density.noise_variance.sqrt()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal states, shape ``(n, n_factors + dim)``."""
        dim, n_factors = self.density.loadings.shape
        return _standard_normal(n, n_factors + dim, self.density.loc, generator)

    def propose(self, state: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """Rotate each state towards a fresh normal vector; see `InvariantMove.propose`."""
        return _rotate(state, step, generator)

    def points(self, state: Tensor) -> Tensor:
        """Return ``mean + loadings z + noise_std * eps``, shape ``(n, dim)``."""
        factors, noise = torch.split(state, _sizes(self.density.loadings), dim=1)
        points = torch.addcmul(self.density.loc, noise, self._noise_std)
        return points.addmm_(factors, self.density.loadings.T)

    def states(self, points: Tensor) -> Tensor:
        """Return the state of least norm of each point, that is, the most likely one."""
        centred = (points.to(self.density.dtype) - self.density.loc) / self._noise_std
        scaled = self.density.loadings / self._noise_std[:, None]
        gram = scaled.T @ scaled
        gram.diagonal().add_(1.0)
        factors = torch.linalg.solve(gram, (centred @ scaled).T).T
        return torch.cat([factors, centred - factors @ scaled.T], dim=1)


class MixtureMove(InvariantMove):
    """Moves within, and now and then between, the components of a mixture.

    The state holds the number of the component and the standard normal variables ``(z, eps)`` of
    `GaussianMove`. Most moves rotate the latter; one in five draws the component anew from the
    weights. Number and variables are independent under the density, so either move is reversible.

    A component so rare that hardly any particle starts in it can be missed, even if most errors are
    its own. Estimate then for every `MixtureOfFactorAnalyzers.component` and add up the results
    times the weights.

    Parameters
    ----------
    density : MixtureOfFactorAnalyzers
        The density; points have its dtype and live on its device.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import MixtureOfFactorAnalyzers
    >>> from trueboundary.rare_events import MixtureMove
    >>> density = MixtureOfFactorAnalyzers(
    ...     torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1, 0), 0.01
    ... )
    >>> move = MixtureMove(density)
    >>> state = move.sample(4, torch.Generator().manual_seed(0))
    >>> bool(((move.points(state) < 0)[:, 0] == (state[:, 0] == 0)).all())
    True
    """

    refresh = 0.2
    """Share of moves that draw the component anew."""

    def __init__(self, density: MixtureOfFactorAnalyzers) -> None:
        self.density = density
        self._noise_std = density.noise_variance.sqrt()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw states, shape ``(n, 1 + n_factors + dim)``, the component's number in front."""
        normal = _standard_normal(
            n, sum(_sizes(self.density.loadings)), self.density.means, generator
        )
        # A number in a column of floats keeps a state in one tensor; it is exact up to 2**24.
        components = self._draw_components(n, generator).to(normal.dtype)
        return torch.cat([components[:, None], normal], dim=1)

    def propose(self, state: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """Rotate the variables, or draw the component anew; see `InvariantMove.propose`."""
        n = len(state)
        moved = torch.cat([state[:, :1], _rotate(state[:, 1:], step, generator)], dim=1)
        # Every row draws a component, needed or not, so that rows do not depend on one another.
        components = self._draw_components(n, generator).to(state.dtype)
        renewed = torch.rand(n, generator=generator, device=state.device) < self.refresh
        moved[renewed] = state[renewed]
        moved[renewed, 0] = components[renewed]
        return moved

    def points(self, state: Tensor) -> Tensor:
        """Return ``mean_k + loadings_k z + noise_std_k * eps``, shape ``(n, dim)``."""
        components = state[:, 0].long()
        factors, noise = torch.split(state[:, 1:], _sizes(self.density.loadings), dim=1)
        points = torch.empty_like(noise)
        for k in sorted(set(components.tolist())):
            rows = (components == k).nonzero().squeeze(1)
            drawn = torch.addcmul(self.density.means[k], noise[rows], self._noise_std[k])
            points[rows] = drawn.addmm_(factors[rows], self.density.loadings[k].T)
        return points

    def states(self, points: Tensor) -> Tensor:
        """Return the least state of each point within its most likely component."""
        points = points.to(self.density.dtype)
        components = self.density.responsibilities(points).argmax(dim=1)
        state = points.new_empty(len(points), 1 + sum(_sizes(self.density.loadings)))
        state[:, 0] = components.to(points.dtype)
        for k in sorted(set(components.tolist())):
            rows = (components == k).nonzero().squeeze(1)
            state[rows, 1:] = GaussianMove(self.density.component(k)).states(points[rows])
        return state

    def _draw_components(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.density.weights, n, replacement=True, generator=generator)


class TableMove(InvariantMove):
    """Moves on a table: along a row, along a column, or a short way in any direction.

    The first two draw one coordinate anew given the other (Gibbs steps); the third adds rounded
    normal noise of a tenth of the table's size and is accepted by the ratio of probabilities
    (Metropolis). Each is reversible, which one is used is random, and the step does not matter. The
    error rate on a table can also be had exactly, by adding up its cells.

    Parameters
    ----------
    density : DiscreteTable
        The table; points are the integer pairs as floating-point numbers of its dtype.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import DiscreteTable
    >>> from trueboundary.rare_events import TableMove
    >>> move = TableMove(DiscreteTable(torch.tensor([[0.5, 0.0], [0.0, 0.5]])))
    >>> generator = torch.Generator().manual_seed(0)
    >>> state = move.propose(move.sample(100, generator), 1.0, generator)
    >>> bool((state[:, 0] == state[:, 1]).all())
    True
    """

    def __init__(self, density: DiscreteTable) -> None:
        self.density = density

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points of the grid, shape ``(n, 2)``, as floating-point numbers."""
        points = self.density.sample(torch.Size((n,)), generator=generator)
        return points.to(self.density.dtype)

    def propose(self, state: Tensor, step: float, generator: torch.Generator) -> Tensor:
        """Move each point in one of the three ways; see `InvariantMove.propose`."""
        table = self.density.probabilities
        kind = torch.randint(3, (len(state),), generator=generator, device=state.device)
        moved = self._walk(state, generator)
        for kept, conditional in ((0, table), (1, table.T)):
            chosen = (kind == kept).nonzero().squeeze(1)
            if len(chosen):
                given = state[chosen, kept]
                drawn = torch.multinomial(conditional[given.long()], 1, generator=generator)
                moved[chosen, kept] = given
                moved[chosen, 1 - kept] = drawn[:, 0].to(state.dtype)
        return moved

    def _walk(self, state: Tensor, generator: torch.Generator) -> Tensor:
        size = state.new_tensor(self.density.probabilities.shape)
        moved = state + (0.1 * size * _normal_like(state, generator)).round_()
        ratio = (self.density.log_prob(moved) - self.density.log_prob(state)).exp()
        chance = torch.rand(len(state), generator=generator, dtype=ratio.dtype, device=state.device)
        return torch.where((chance < ratio)[:, None], moved, state)


def move_for(
    source: Any,
    label: int,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> InvariantMove:
    """Return the move that belongs to a density, or to a problem's density of one class.

    Parameters
    ----------
    source : Problem, Distribution or InvariantMove
        A problem or density of this package, or a move of one's own, returned as it is.
    label : int
        The class, for problems.
    dtype : torch.dtype
        Of the points; float32 or float64.
    device : torch.device, optional
        Where the density is to live; where it is by default.

    Raises
    ------
    TypeError
        If no move is known for the density.

    Examples
    --------
    >>> from trueboundary.problems import ConcentricSpheres
    >>> from trueboundary.rare_events import move_for
    >>> move_for(ConcentricSpheres(dim=3), 1).density
    UniformSphere(dim=3, radius=1.3)
    """
    label, dtype = class_of(source, label), check_floating(dtype)
    if isinstance(source, InvariantMove):
        return source
    density = _density_of(source, label) if isinstance(source, Problem) else source
    if isinstance(density, UniformSphere):
        return SphereMove(density, dtype=dtype)
    if isinstance(density, LowRankGaussian):
        return GaussianMove(density.to(dtype=dtype, device=device))
    if isinstance(density, MixtureOfFactorAnalyzers):
        return MixtureMove(density.to(dtype=dtype, device=device))
    if isinstance(density, DiscreteTable):
        return TableMove(DiscreteTable(density.probabilities.to(device, dtype)))
    raise TypeError(
        f"splitting knows no move that leaves the density of {type(source).__name__} unchanged; "
        "expected a sphere, a low-rank Gaussian, a mixture of factor analyzers or a table, or "
        "pass an InvariantMove of your own as the source."
    )


def class_of(source: Any, label: int) -> int:
    """Return a label if it is a class of the source, as far as that knows its classes, or raise."""
    if isinstance(source, Problem):
        return check_label(label, source.n_classes)
    return check_integer("label", label, minimum=0)


def _density_of(problem: Problem, label: int) -> Any:
    density = getattr(problem, "density", None)
    return density(label) if callable(density) else getattr(problem, f"density_{label}", None)


def _sizes(loadings: Tensor) -> list[int]:
    """Return how many factors and how many noise variables a state has."""
    return [loadings.shape[-1], loadings.shape[-2]]


def _standard_normal(n: int, size: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(n, size, generator=generator, dtype=like.dtype, device=like.device)


def _normal_like(state: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(state.shape, generator=generator, dtype=state.dtype, device=state.device)


def _angles(state: Tensor, step: float, generator: torch.Generator) -> Tensor:
    """Draw one angle per state; its sign does not matter, since directions are symmetric."""
    return _normal_like(state[:, 0], generator).mul_(step)


def _rotate(state: Tensor, step: float, generator: torch.Generator) -> Tensor:
    fresh = _normal_like(state, generator)
    angle = _angles(state, step, generator)[:, None]
    return fresh.mul_(angle.sin()).addcmul_(angle.cos(), state)
