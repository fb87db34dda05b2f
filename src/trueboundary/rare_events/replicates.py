"""What the stages of splitting hand on to one another: a pilot's schedule, and replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pilot", "Replicates"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Pilot:
    """The levels and steps that a pilot run has fixed for all replicates.

    Parameters
    ----------
    levels : tuple of float
        Scores to be passed one after the other; the last is 0 where errors were reached.
    steps : tuple of float
        Step of the moves after each level but the last.
    log_probability : float
        Natural logarithm of the pilot's own estimate of the probability of the last level. It is
        slightly biased, since the same particles chose the levels.
    n_evaluations : int
        Points classified.

    Examples
    --------
    >>> from trueboundary.rare_events import Pilot
    >>> pilot = Pilot((-0.5, 0.0), (0.8,), -1.4, 1200)
    >>> pilot.reached, Pilot.from_arrays(pilot.to_arrays()) == pilot
    (True, True)
    """

    levels: tuple[float, ...]
    steps: tuple[float, ...]
    log_probability: float
    n_evaluations: int

    def __post_init__(self) -> None:
        # Particles that fell back behind a level would make every replicate biased.
        rise = all(low <= high for low, high in pairwise((*self.levels, 0.0)))
        if not self.levels or not rise:
            raise ValueError(f"a pilot's levels must rise to at most 0, got {self.levels}.")
        if len(self.steps) != len(self.levels) - 1:
            raise ValueError(
                f"a pilot needs a step after each level but the last, got {len(self.steps)} steps "
                f"for {len(self.levels)} levels."
            )

    @property
    def reached(self) -> bool:
        """Whether the last level is that of the errors."""
        return self.levels[-1] == 0.0

    def to_arrays(self) -> Arrays:
        """Return everything as arrays, which can be stored and sent."""
        return {
            "levels": np.array(self.levels, dtype=np.float64),
            "steps": np.array(self.steps, dtype=np.float64),
            "log_probability": np.array(self.log_probability, dtype=np.float64),
            "n_evaluations": np.array(self.n_evaluations, dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Pilot:
        """Return the pilot that `to_arrays` described, the same bit for bit."""
        return cls(
            tuple(arrays["levels"].tolist()),
            tuple(arrays["steps"].tolist()),
            float(arrays["log_probability"]),
            int(arrays["n_evaluations"]),
        )


@dataclass(frozen=True, eq=False)  # tensors have no equality of their own
class Replicates:
    """Independent estimates of one error rate, made on the schedule of one pilot.

    Parameters
    ----------
    log_values : tuple of float
        Natural logarithms of the estimates, minus infinity where no particle was left.
    acceptance : tuple of float
        Share of accepted moves after each level but the last, the mean of the replicates.
    n_ancestors : tuple of int
        For each replicate, first particles that have descendants among the errors.
    n_first_errors : int
        Errors among the independent first draws of all replicates.
    survivors : Tensor
        States ``(n, *state)`` of particles that are errors, of which only the comparison with
        errors found otherwise makes use.
    n_evaluations : int
        Points classified.
    into : tuple of tuple of float
        For each replicate, which share of its errors goes to each class; empty for two classes, of
        which errors have no choice.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.rare_events import Replicates
    >>> one = Replicates((-14.1,), (0.3,), (7,), 0, torch.ones(4, 2), 1200)
    >>> two = Replicates.joined([one, Replicates.from_arrays(one.to_arrays())])
    >>> two.log_values, two.n_evaluations, two.survivors.shape
    ((-14.1, -14.1), 2400, torch.Size([8, 2]))
    """

    log_values: tuple[float, ...]
    acceptance: tuple[float, ...]
    n_ancestors: tuple[int, ...]
    n_first_errors: int
    survivors: Tensor
    n_evaluations: int
    into: tuple[tuple[float, ...], ...] = ()

    @property
    def values(self) -> NDArray[np.float64]:
        """The estimates, shape ``(n_replicates,)``."""
        return np.exp(np.array(self.log_values, dtype=np.float64))

    @classmethod
    def joined(cls, parts: Sequence[Replicates]) -> Replicates:
        """Return the replicates of several parts, in their order, as one.

        All must have climbed the same levels; survivors are where those of the first part are.
        """
        n_moves = sorted({len(part.acceptance) for part in parts})
        if len(n_moves) != 1:
            raise ValueError(
                "expected replicates that climbed the levels of one pilot, got "
                + (f"some that moved {n_moves} times." if n_moves else "none.")
            )
        n_replicates = sum(len(part.log_values) for part in parts)
        shares = [len(part.log_values) / n_replicates for part in parts]
        return cls(
            log_values=tuple(value for part in parts for value in part.log_values),
            acceptance=tuple(
                sum(share * value for share, value in zip(shares, values, strict=True))
                for values in zip(*(part.acceptance for part in parts), strict=True)
            ),
            n_ancestors=tuple(number for part in parts for number in part.n_ancestors),
            n_first_errors=sum(part.n_first_errors for part in parts),
            survivors=torch.cat([part.survivors.to(parts[0].survivors.device) for part in parts]),
            n_evaluations=sum(part.n_evaluations for part in parts),
            into=tuple(shares for part in parts for shares in part.into),
        )

    def thinned(self, n_survivors: int) -> Replicates:
        """Return the same with at most `n_survivors` survivors, which take most of the space."""
        return replace(self, survivors=evenly_chosen(self.survivors, n_survivors))

    def to_arrays(self) -> Arrays:
        """Return everything as arrays, which can be stored and sent."""
        return {
            "log_values": np.array(self.log_values, dtype=np.float64),
            "acceptance": np.array(self.acceptance, dtype=np.float64),
            "n_ancestors": np.array(self.n_ancestors, dtype=np.int64),
            "n_first_errors": np.array(self.n_first_errors, dtype=np.int64),
            "survivors": self.survivors.cpu().numpy(),
            "n_evaluations": np.array(self.n_evaluations, dtype=np.int64),
            **({"into": np.array(self.into, dtype=np.float64)} if self.into else {}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Replicates:
        """Return the replicates that `to_arrays` described, bit for bit, survivors on the CPU."""
        return cls(
            tuple(arrays["log_values"].tolist()),
            tuple(arrays["acceptance"].tolist()),
            tuple(arrays["n_ancestors"].tolist()),
            int(arrays["n_first_errors"]),
            torch.from_numpy(arrays["survivors"].copy()),
            int(arrays["n_evaluations"]),
            tuple(tuple(row) for row in arrays["into"].tolist()) if "into" in arrays else (),
        )


def evenly_chosen(rows: Tensor, n: int) -> Tensor:
    """Return at most `n` of the rows, evenly spread over them."""
    chosen = torch.linspace(0, len(rows) - 1, min(len(rows), n)).long()
    return rows[chosen.to(rows.device)]
