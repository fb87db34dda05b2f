"""What a search sees of the samples that it attacks, and what it reports."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trueboundary.attacks.results import AttackStatus
from trueboundary.classifiers import Classifier, margin, margin_and_gradient
from trueboundary.domains import Domain, per_sample

__all__ = ["Search", "Target"]


@dataclass(frozen=True, eq=False)
class Target:
    """The samples under attack, as a search sees them: their wrongness, its gradient, their domain.

    Wrongness is the margin signed so that what an attack may report as an error has wrongness
    > 0: ``margin`` for class 0 and ``-margin`` for class 1, in the dtype of the points. A search
    asks the classifier through `wrongness` and `wrongness_and_gradient` alone, which count, and
    narrows the target with `take` to the samples that it still searches, so finished ones cost
    nothing.

    Attributes
    ----------
    classifier : callable
        The classifier, for attacks that need more of it than its margin.
    x : Tensor
        Samples, shape ``(n, *event)``, finite and in the domain; not to be written to.
    sign : Tensor
        1 for class 0 and -1 for class 1, shape ``(n,)``, in the dtype of the samples.
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
    """

    classifier: Classifier
    x: Tensor  # (n, *event)
    sign: Tensor  # (n,)
    domain: Domain
    seed: int
    index: Tensor  # (n,) int64, into the three below
    n_forward: Tensor
    n_backward: Tensor
    cut_off: Tensor

    def take(self, keep: Tensor) -> Target:
        """Return the target of the samples at the positions ``keep``, sharing the counters."""
        return replace(
            self,
            x=self.x[keep],
            sign=self.sign[keep],
            domain=self.domain.take(keep),
            index=self.index[keep],
        )

    def wrongness(self, points: Tensor) -> Tensor:
        """Return the wrongness ``(n,)`` at one point per sample, ``(n, *event)``."""
        self.n_forward[self.index] += 1
        return self._signed(margin(self.classifier, points, allow_nan=True))

    def wrongness_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the wrongness ``(n,)`` and its gradient ``(n, *event)``."""
        self.n_forward[self.index] += 1
        self.n_backward[self.index] += 1
        values, gradient = margin_and_gradient(self.classifier, points, allow_nan=True)
        self.cut_off[self.index] |= gradient is None
        if gradient is None:
            gradient = torch.zeros_like(points)
        return self._signed(values), per_sample(self.sign, points) * gradient

    def _signed(self, values: Tensor) -> Tensor:
        """Return margins as wrongness in the dtype of the points, on the side where they were."""
        values = values.detach()
        limits = torch.finfo(self.sign.dtype)
        cast = values.to(self.sign.dtype)
        if cast.dtype != values.dtype:  # neither underflow nor overflow may change what is said
            cast = torch.where(cast == 0, values.sign().to(cast) * limits.tiny, cast)
            finite = cast.isfinite() | ~values.isfinite()
            cast = torch.where(finite, cast, values.sign().to(cast) * limits.max)
        return self.sign * cast

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
