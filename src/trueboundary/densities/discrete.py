"""Probability tables on a grid of integer points."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from trueboundary._tensors import drawing_device, generator_of
from trueboundary.densities._parameters import check_tensor

_SUM_TOLERANCE = 1e-4


class DiscreteTable(Distribution):
    """Distribution on the integer points of a rectangle, given by its table.

    The point ``(i, j)`` has the probability in row ``i`` and column ``j``.

    Parameters
    ----------
    probabilities : Tensor
        Table, shape ``(rows, columns)``, float32 or float64, not negative, adding up to one.

    Raises
    ------
    ValueError
        If the table does not add up to one within 1e-4 (it is then normalised exactly).

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import DiscreteTable
    >>> density = DiscreteTable(torch.tensor([[0.5, 0.0], [0.25, 0.25]]))
    >>> density.log_prob(torch.tensor([[0, 0], [0, 1], [7, 7]])).exp()
    tensor([0.5000, 0.0000, 0.0000])
    >>> density.sample((2,), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 2])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, probabilities: Tensor, *, validate_args: bool | None = None) -> None:
        table = check_tensor("probabilities", probabilities, 2, "(rows, columns)").double()
        total = table.sum()
        if not bool((table >= 0).all()) or not float((total - 1).abs()) <= _SUM_TOLERANCE:
            raise ValueError(
                "probabilities must not be negative and must add up to one, got a sum of "
                f"{float(total)!r} and a smallest value of "
                f"{float(table.min()) if table.numel() else math.nan!r}."
            )
        self.probabilities = (table / total).to(probabilities.dtype)
        super().__init__(
            batch_shape=torch.Size(), event_shape=torch.Size((2,)), validate_args=validate_args
        )

    def __repr__(self) -> str:
        rows, columns = self.probabilities.shape
        return f"DiscreteTable(rows={rows}, columns={columns}, dtype={self.dtype})"

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the log probabilities."""
        return self.probabilities.dtype

    @property
    def support(self) -> constraints.Constraint:
        """Pairs of non-negative integers."""
        return constraints.independent(  # type: ignore[no-untyped-call]
            constraints.nonnegative_integer, 1
        )

    def sample(
        self,
        sample_shape: _size = torch.Size(),  # noqa: B008  (the base class's own default)
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draw points of the grid.

        Parameters
        ----------
        sample_shape : torch.Size
            Shape of the batch of points.
        generator : torch.Generator
            Source of the random numbers; it or a seed is required.
        seed : int, optional
            In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.

        Returns
        -------
        Tensor
            Row and column of each point, int64, shape ``sample_shape + (2,)``.
        """
        generator = generator_of(generator, seed, self.probabilities.device)
        device = drawing_device(generator, self.probabilities.device)
        # Inversion of the cumulative table: unlike torch.multinomial, it takes tables of any size.
        cumulative = self.probabilities.double().flatten().cumsum(0)
        uniform = torch.rand(
            math.prod(sample_shape), generator=generator, dtype=torch.float64, device=device
        )
        # Cells whose cumulative value is at most u are passed over, so that a cell of probability
        # zero is never drawn; scaling by the last value keeps u below it.
        cell = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
        columns = self.probabilities.shape[1]
        points = torch.stack([cell // columns, cell % columns], dim=-1)
        return points.reshape(*sample_shape, 2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability; minus infinity outside the table and in its empty cells.

        Parameters
        ----------
        value : Tensor
            Integer points, shape ``(..., 2)``, of an integer or floating dtype.

        Returns
        -------
        Tensor
            Log probabilities in nats, shape ``value.shape[:-1]``.
        """
        if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
            raise TypeError(
                "points must be a tensor of integers, got "
                f"{value.dtype if isinstance(value, Tensor) else type(value).__name__}."
            )
        if value.ndim == 0 or value.shape[-1] != 2:
            raise ValueError(f"points must have shape (..., 2), got {tuple(value.shape)}.")
        if value.is_floating_point() and not bool((value == value.floor()).all()):
            raise ValueError("points of a table must be integer points; round them first.")
        size = torch.tensor(self.probabilities.shape, device=value.device)
        inside = ((value >= 0) & (value < size)).all(dim=-1)
        row, column = torch.where(inside[..., None], value, 0).long().unbind(-1)
        log_prob = self.probabilities.log()[row, column]
        return log_prob.masked_fill(~inside, -math.inf)

    def rsample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise: a discrete distribution has no reparameterised sample."""
        raise NotImplementedError("DiscreteTable has no reparameterised sample; use sample.")
