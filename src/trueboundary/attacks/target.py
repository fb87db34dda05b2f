"""What a search sees of the samples that it attacks, and what it reports."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trueboundary.attacks.results import AttackStatus
from trueboundary.classifiers import Classifier, outputs, value_and_gradient, wrongness_of
from trueboundary.domains import Domain

__all__ = ["Search", "Target"]


@dataclass(frozen=True, eq=False)
class Target:
    """The samples under attack, as a search sees them: their wrongness, its gradient, their domain.

    Wrongness is what `trueboundary.classifiers.wrongness` says, so that what an attack may report
    as an error has wrongness > 0: by how much the best other class leads over that of the sample,
    or the class that it is to be taken into leads over all others, in the dtype of the points. A
    search asks the classifier through `wrongness` and `wrongness_and_gradient` alone, which count,
    and narrows the target with `take` to the samples that it still searches, so finished ones cost
    nothing.

    Attributes
    ----------
    classifier : callable
        The classifier, for attacks that need more of it than its margin.
    x : Tensor
        Samples, shape ``(n, *event)``, finite and in the domain; not to be written to.
    y : Tensor
        Their labels, shape ``(n,)``, int64.
    goal : Tensor or None
        The class that each is to be taken into, shape ``(n,)``, int64; None where any other counts.
    domain : Domain
        Where errors count. Its methods move, project and measure points.
    seed : int
        Seed of the attack, which `noise` uses.
    index : Tensor
        Position of each sample in the call, shape ``(n,)``.
    n_forward, n_backward : Tensor
        Evaluations so far of all samples of the call.
    cut_off : Tensor
        Of which of them the classifier's output did not depend on its input for autograd.
    n_classes : int
        Number of classes.
    """

    classifier: Classifier
    x: Tensor  # (n, *event)
    y: Tensor  # (n,) int64
    goal: Tensor | None  # (n,) int64
    domain: Domain
    seed: int
    index: Tensor  # (n,) int64, into the three below
    n_forward: Tensor
    n_backward: Tensor
    cut_off: Tensor
    n_classes: int = 2

    def take(self, keep: Tensor) -> Target:
        """Return the target of the samples at the positions ``keep``, sharing the counters."""
        return replace(
            self,
            x=self.x[keep],
            y=self.y[keep],
            goal=None if self.goal is None else self.goal[keep],
            domain=self.domain.take(keep),
            index=self.index[keep],
        )

    def into(self, goal: int) -> Target:
        """Return the target on which only one class counts as found, sharing the counters."""
        return replace(self, goal=torch.full_like(self.y, goal))

    def filled(self, value: float) -> Tensor:
        """Return one number for each sample, ``(n,)``, in the dtype of the points."""
        return torch.full_like(self.y, value, dtype=self.x.dtype)

    def outputs(self, points: Tensor) -> Tensor:
        """Return what the classifier says of one point per sample: ``(n,)`` or ``(n, K)``."""
        self.n_forward.index_add_(0, self.index, self._ones)
        return outputs(self.classifier, points, allow_nan=True).detach()

    def wrongness(self, points: Tensor) -> Tensor:
        """Return the wrongness ``(n,)`` at one point per sample, ``(n, *event)``."""
        self.n_forward.index_add_(0, self.index, self._ones)
        return self.in_points_dtype(self.lead(points))

    def wrongness_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the wrongness ``(n,)`` and its gradient ``(n, *event)``."""
        self.n_forward.index_add_(0, self.index, self._ones)
        self.n_backward.index_add_(0, self.index, self._ones)
        values, gradient = value_and_gradient(self.lead, points)
        if gradient is None:
            self.cut_off[self.index] = True
            return self.in_points_dtype(values), torch.zeros_like(points)
        # A gradient may be expanded from one number; a search may write to what it gets.
        return self.in_points_dtype(values), gradient.clone(memory_format=torch.contiguous_format)

    def leads_and_gradients(self, points: Tensor, n_most: int) -> tuple[Tensor, Tensor]:
        """Return by how much other classes lead over each sample's own, and the gradients.

        Those are ``(n, k)`` and ``(n, k, *event)``, of the ``n_most`` classes that lead most at
        each point; of two classes, and where there is a goal, ``k`` is 1 and it is the wrongness.
        They cost one evaluation and k passes back, and are counted so.
        """

        def leads(points: Tensor) -> Tensor:
            found = outputs(self.classifier, points, allow_nan=True)
            if found.ndim == 1 or self.goal is not None:
                return self.lead_of(found)[:, None]
            own = self.y.to(found.device)[:, None]
            others = (found - found.gather(1, own)).scatter(1, own, -torch.inf)
            return others.topk(min(n_most, found.shape[1] - 1), dim=1).values

        values, gradients = value_and_gradient(leads, points)
        self.n_forward.index_add_(0, self.index, self._ones)
        self.n_backward[self.index] += values.shape[1]
        if gradients is None:
            self.cut_off[self.index] = True
            gradients = torch.zeros_like(points)[:, None].expand(
                -1, values.shape[1], *points.shape[1:]
            )
        return self.in_points_dtype(values), gradients

    def lead(self, points: Tensor) -> Tensor:
        """Return the wrongness in the classifier's own dtype, uncounted, with a graph."""
        return self.lead_of(outputs(self.classifier, points, allow_nan=True))

    def lead_of(self, found: Tensor) -> Tensor:
        """Return the wrongness that outputs of the classifier tell, in their dtype."""
        if found.ndim == 1:
            return self._sign.to(found) * found
        return wrongness_of(found, self.y, self.goal)

    @functools.cached_property
    def _sign(self) -> Tensor:
        """What turns the margins of two classes into `wrongness_of` them, at the cost of one."""
        return 1 - 2 * self.y.to(self.x.dtype)

    @functools.cached_property
    def _ones(self) -> Tensor:
        """What an evaluation of each sample adds to the counters."""
        return torch.ones_like(self.index)

    def in_points_dtype(self, values: Tensor) -> Tensor:
        """Return wrongness in the dtype of the points, on the side where it was."""
        values = values.detach()
        limits = torch.finfo(self.x.dtype)
        cast = values.to(self.x.dtype)
        if cast.dtype != values.dtype:  # neither underflow nor overflow may change what is said
            cast = torch.where(cast == 0, values.sign().to(cast) * limits.tiny, cast)
            finite = cast.isfinite() | ~values.isfinite()
            cast = torch.where(finite, cast, values.sign().to(cast) * limits.max)
        return cast

    def noise(self, stream: int) -> Tensor:
        """Return standard normal noise ``(n, *event)``, a function of (seed, sample, stream).

        Each sample draws from a generator of its own, seeded by a hash of the attack's seed, the
        stream and the bytes of the sample, so neither the size nor the order of a batch matters.
        """
        return torch.stack([self._noise(sample, stream) for sample in self.x])  # (n, *event)

    def _noise(self, sample: Tensor, stream: int) -> Tensor:
        content = sample.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        key = self.seed.to_bytes(8, "little") + stream.to_bytes(8, "little") + content
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        draw = torch.randn(sample.shape, generator=torch.Generator().manual_seed(seed))
        return draw.to(sample)


@dataclass(frozen=True, eq=False)
class Search:
    """What a search reports: where it ended for each sample, and why.

    Nothing in it is taken at its word; see `Attack`.

    Attributes
    ----------
    endpoint : Tensor
        Where the search ended, shape ``(n, *event)``, an error or not.
    status : Tensor
        `AttackStatus.code` of each sample, shape ``(n,)`` int64: ``FOUND`` where the endpoint is
        meant to be an error, and else the reason that holds if it turns out to be none.
    doubts : tuple of str
        Why what was found may be far from the nearest error, each a sentence without numbers, so
        that those of several batches are the same.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import Search
    >>> search = Search.of(torch.zeros(2, 3), torch.tensor([True, False]))
    >>> [AttackStatus.from_code(code).name for code in search.status.tolist()]
    ['FOUND', 'BUDGET_SPENT']
    """

    endpoint: Tensor  # (n, *event)
    status: Tensor  # (n,) int64
    doubts: tuple[str, ...] = field(default=(), kw_only=True)

    @classmethod
    def of(
        cls,
        endpoint: Tensor,
        found: Tensor,
        otherwise: AttackStatus = AttackStatus.BUDGET_SPENT,
    ) -> Search:
        """Report errors at ``endpoint`` where ``found (n,)``, and one reason for all others."""
        codes = torch.full(found.shape, otherwise.code, device=found.device)
        return Search(endpoint, torch.where(found, AttackStatus.FOUND.code, codes))
