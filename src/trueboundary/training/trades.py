"""TRADES: training that trades accuracy for class probabilities that change little nearby."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trueboundary._checks import check_integer, check_real
from trueboundary._tensors import generator_of
from trueboundary.classifiers import ClassifierModule
from trueboundary.training.steps import cross_entropy


def divergence(found: Tensor, others: Tensor) -> Tensor:
    r"""Return the Kullback-Leibler divergence between the class probabilities of two outputs.

    Of two margins m and m', with ``p = sigmoid(m)`` and ``q = sigmoid(m')``,

        ``KL(p || q) = softplus(m') - softplus(m) - p (m' - m)``.

    Of logits f and g, with w the class that f is largest for, a and b what the logits f and g are
    above that of w, and :math:`S(a) = \log(1 + \sum_{j \ne w} e^{a_j}) = -\log p_w`,

        :math:`KL(p \,\|\, q) = S(b) - S(a) - \sum_{j \ne w} p_j (b_j - a_j)`.

    Parameters
    ----------
    found, others : Tensor
        Margins, shape ``(n,)``, or logits, shape ``(n, K)``.

    Returns
    -------
    Tensor
        Divergences in nats, shape ``(n,)``; differentiable in both.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.training import divergence
    >>> divergence(torch.tensor([0.0, 40.0]), torch.tensor([0.0, -40.0]))
    tensor([ 0., 40.])
    >>> divergence(torch.tensor([[0.0, 40.0, 0.0]]), torch.tensor([[0.0, -40.0, -40.0]]))
    tensor([40.])
    """
    if found.ndim == 2:
        winner = found.argmax(dim=1)
        change = _above(others, winner) - _above(found, winner)
        gained = cross_entropy(others, winner) - cross_entropy(found, winner)
        return gained - (found.softmax(dim=1) * change).sum(dim=1)
    margins = found
    # Swapping the two classes changes nothing but the signs. With m negative no large numbers
    # cancel in the formula, so the result is accurate however confident the classifier is.
    sign = torch.where(margins > 0, -1.0, 1.0).to(margins)
    margins, others = sign * margins, sign * others
    change = others - margins
    return softplus(others) - softplus(margins) - torch.sigmoid(margins) * change


@dataclass(frozen=True)
class TRADES:
    """The loss of TRADES, to be given to `train`.

    The loss of a point x with label y is

        ``cross_entropy(f(x), y) + beta * max KL(p(x) || p(x'))``,

    with p the class probabilities and the maximum over the points x' within `eps` of x in the L2
    norm. It is searched by gradient ascent from x plus a little noise, in eval mode: each step has
    length `step_size` along the gradient of the divergence, and ends within the ball. Nothing
    keeps x' in a box. The noise decides to which side of ``f(x)`` the search goes, as in the
    original, since the divergence has no slope at x.

    The literature on training against known optimal classifiers states `beta` alone; the other
    defaults are choices made here. The step size makes the steps together 2.5 times as long as
    the radius, and the noise and the number of steps are those of the TRADES authors' program.

    Parameters
    ----------
    beta : float
        Weight of the divergence, at least 0; 0 is plain training.
    eps : float
        Radius of the ball, positive, in the units of the points.
    n_steps : int
        Steps of the search.
    step_size : float, optional
        Length of a step; ``2.5 * eps / n_steps`` unless given.
    noise_std : float
        Standard deviation of the noise in each coordinate, positive.

    References
    ----------
    Zhang et al. (2019), *Theoretically Principled Trade-off between Robustness and Accuracy*,
    Algorithm 1; Richardson & Weiss (2021) use it with ``beta`` 0, 2, 5 and 10.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import ReLUNetwork
    >>> from trueboundary.problems import ConcentricSpheres, OnlineStream
    >>> from trueboundary.training import TRADES, TrainingConfig, train
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = ReLUNetwork(2, 16, 1, generator=generator)
    >>> stream = OnlineStream(ConcentricSpheres(dim=2), batch_size=50, seed=0)
    >>> loss = TRADES(beta=2, eps=0.1)
    >>> result = train(network, stream, TrainingConfig(n_steps=10), loss=loss)
    >>> result.n_steps
    10
    """

    beta: float
    eps: float = 1.5
    n_steps: int = 10
    step_size: float | None = None
    noise_std: float = 1e-3

    def __post_init__(self) -> None:
        beta = check_real("beta", self.beta)
        if beta < 0:
            raise ValueError(f"beta must be at least 0, got {beta}.")
        object.__setattr__(self, "beta", beta)
        object.__setattr__(self, "n_steps", check_integer("n_steps", self.n_steps, minimum=1))
        for name in ("eps", "noise_std"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), above=0.0))
        if self.step_size is not None:
            check_real("step_size", self.step_size, above=0.0)

    def __call__(
        self,
        model: ClassifierModule,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        if self.beta == 0:
            return cross_entropy(model.outputs(x), y).mean()
        x_adv = self.perturb(model, x, generator=generator, seed=seed)
        found = model.outputs(x)
        divergences = divergence(found, model.outputs(x_adv))
        return cross_entropy(found, y).mean() + self.beta * divergences.mean()

    def perturb(
        self,
        model: ClassifierModule,
        x: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the points that the search arrives at, of the shape of `x`, detached."""
        generator = generator_of(generator, seed, x.device)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        delta = self._into_ball(self.noise_std * noise)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                reference = model.outputs(x)
            for _ in range(self.n_steps):
                delta = self._into_ball(delta + self._step(model, x, delta, reference))
        finally:
            model.train(was_training)
        return x + delta

    @property
    def _step_length(self) -> float:
        return 2.5 * self.eps / self.n_steps if self.step_size is None else self.step_size

    def describe(self) -> str:
        """Return the parameters in one line."""
        return repr(self)

    def _step(self, model: ClassifierModule, x: Tensor, delta: Tensor, reference: Tensor) -> Tensor:
        with torch.enable_grad():
            point = (x + delta).requires_grad_()
            found = model.outputs(point)
            (gradient,) = torch.autograd.grad(found, point, _uphill(found.detach(), reference))
        length = _norm(gradient)
        # A zero gradient stays zero; any other is scaled to the length of a step.
        step = torch.full_like(length, self._step_length)
        return step / length.clamp(min=_tiny(length)) * gradient

    def _into_ball(self, delta: Tensor) -> Tensor:
        length = _norm(delta)
        return delta * (self.eps / length.clamp(min=self.eps))


def _uphill(others: Tensor, found: Tensor) -> Tensor:
    """Return in which direction of the `others` their divergence from outputs `found` grows.

    The gradient itself, the change of the class probabilities, would underflow to zero for a
    confident classifier; its direction alone does not.
    """
    if found.ndim == 1:  # it grows with the change of the margin, to either side
        return torch.sign(others - found)
    winner = found.argmax(dim=1)
    own = winner[:, None]
    # With p and q the probabilities, q - p = max(p, q) (1 - e^-|d|) sign(d) for d = log q / p.
    gained = cross_entropy(others, winner) - cross_entropy(found, winner)
    ratio = _above(others, winner) - _above(found, winner) - gained[:, None]
    size = found.log_softmax(dim=1) + ratio.clamp(min=0) + (-torch.expm1(-ratio.abs())).log()
    size = size.scatter(1, own, -torch.inf)
    largest = size.max(dim=1, keepdim=True).values
    rest = ratio.sign() * (size - largest).exp().where(largest > -torch.inf, 0)
    # All probabilities add up to 1, and so their changes to 0.
    return rest.scatter(1, own, -rest.sum(dim=1, keepdim=True))


def _above(logits: Tensor, winner: Tensor) -> Tensor:
    """Return what logits ``(n, K)`` are above that of a class ``(n,)``."""
    return logits - logits.gather(1, winner[:, None])


def _norm(x: Tensor) -> Tensor:
    """Return each point's L2 norm, shape ``(n, 1, ...)``."""
    return _along(torch.linalg.vector_norm(x.flatten(1), dim=1), x)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return one value per point, shape ``(n,)``, with the number of dimensions of `x`."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
