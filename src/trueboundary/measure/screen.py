"""A screen for ReLU networks: margins in low precision with a proven bound of what they are off.

Where a margin of the screen is larger than its bound, the network's own has the same sign, so that
only the other points, usually one in some hundreds, have to be classified by the network itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trueboundary.classifiers.relu import ReLUNetwork

__all__ = ["Screen", "why_not_screened"]

_CHUNK = 512  # points at a time, whose activations fit into a cache
_U = 2.0**-24  # unit of relative rounding in float32
_SPARE = 16  # operations per number beyond those of its sum: normalisation, bias, rounded weights
_LEVELS = 255
_SAFE = 1 + 1e-6  # for what bounds lose to the rounding of their own, in float64


def why_not_screened(network: ReLUNetwork) -> str:
    """Return a sentence why a network has no screen, empty if it has one."""
    parameters = list(network.parameters())
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in parameters):
        return "only networks in float32 on the CPU are screened"
    if network.batch_norm == "after-activation":
        return "networks that normalise after the activation are not screened"
    if not all(type(m) is nn.Linear and m.bias is not None for m in network.linear):
        return "one of the network's linear layers was replaced"
    if not all(type(m) is nn.BatchNorm1d and m.running_mean is not None for m in network.norm):
        return "only batch normalisation with running averages can be folded"
    if torch.get_float32_matmul_precision() != "highest" or torch.is_autocast_enabled("cpu"):
        return "products of lower precision than float32 are asked for"
    return ""


def has_byte_products() -> bool:
    """Whether this processor multiplies matrices of 8-bit integers fast, and torch exactly.

    Without instructions for it products are slow, and sums of pairs may saturate.
    """
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if not any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return False
    if not hasattr(torch, "_int_mm"):
        return False
    ends = torch.tensor([-128, 127], dtype=torch.int8)
    rows = torch.stack([ends.repeat_interleave(64), ends.repeat(64)])
    found: Tensor = torch._int_mm(rows, rows.T.contiguous())
    return torch.equal(found.double(), rows.double() @ rows.T.double())


@dataclass
class _Layer:
    """A layer as the screen computes it, with what its bound needs."""

    weight: Tensor  # (n_in, n_out): float32, or 8-bit integers q with q * scale near the weight
    bias: Tensor  # float32
    scale: Tensor  # (n_out,), of 8-bit integers; empty for float32
    offset: Tensor  # (2, n_out): what the shift to signed bytes takes from a product, and the bias
    spectral: float  # norm of the exact folded weight
    frobenius: float
    lost: float  # spectral norm of what the 8-bit integers lack
    sizes: float  # norm of the sums of the integers' sizes times their scale
    addends: float  # norm of what is added to a product, before anything cancels


class Screen:
    r"""Margins of a ReLU network in low precision, with bounds of their distance to its own.

    Batch normalisation is folded into the linear layers. The first layer is a product in float32;
    later ones are products of 8-bit integers where the processor has instructions for them (four
    times as fast as float32 with AVX512-VNNI), in float32 elsewhere; the readout is in float32.

    Parameters
    ----------
    network : ReLUNetwork
        The network; `why_not_screened` must be empty for it. Its parameters are copied.
    use_bytes : bool, optional
        Whether to use 8-bit integers; by default where the processor has the instructions.

    Notes
    -----
    **The bound.** Let :math:`h_l` be the hidden activations of the screen and :math:`g_l` those of
    the network as it computes them in float32, :math:`W_l, b_l` the folded layers in exact
    arithmetic, and :math:`d_l \ge \|h_l - g_l\|` in the Euclidean norm. ReLU moves no two numbers
    further apart, so that it suffices to bound what goes into it. With :math:`d_0 = 0`:

    *A float32 layer.* Each of the two computes :math:`W h + b` of its own input with an error of
    at most :math:`\gamma_k (|w_i| \cdot |h| + c_i)` in unit i, in whatever order its sums are taken
    (Higham, 2002, Section 3.1), where k is the fan-in plus 16, :math:`\gamma_k = k u / (1 - k u)`,
    :math:`u = 2^{-24}`, and :math:`c_i` the sizes of all that is added (bias, mean and shift of the
    normalisation, times its scale). By Cauchy's inequality the errors' norm is at most
    :math:`\gamma_k (\|W\|_F \|h\| + \|c\|)`, hence

    .. math:: d_l = \|W_l\|_2\, d_{l-1}
        + 2 \gamma_k (\|W_l\|_F (\|h_{l-1}\| + d_{l-1}) + \|c_l\|).

    *A layer of 8-bit integers.* With step t, the point's largest activation over 255, the
    activation :math:`h_j` is rounded to :math:`t a_j` with an integer :math:`a_j`, at most t/2 away
    (0.5002 t with the rounding of the quotient): the n activations move by at most
    :math:`\delta = 0.5002\, t \sqrt n`. The weights become
    :math:`\hat W_{ij} = s_i q_{ij}`, and :math:`\|W - \hat W\|_2` is computed. The sum of the
    products is an integer below 2^31 and exact; converting it, adding the offset and scaling cost
    at most six roundings of numbers bounded by :math:`r_i = 256\, t s_i \sum_j |q_{ij}| + |b_i|`.
    Hence

    .. math:: d_l = \|W_l\|_2 (d_{l-1} + \delta) + \|W_l - \hat W_l\|_2 (\|h_{l-1}\| + \delta)
        + 6 u \|r\| + \gamma_k (\|W_l\|_F (\|h_{l-1}\| + d_{l-1}) + \|c_l\|).

    *The readout* is a float32 layer of one unit, and its d is the bound. The norms are those of
    each point. Spectral norms come from
    eigenvalues in float64, whose error is far below the factor by which bounds are enlarged.

    References
    ----------
    Higham (2002), *Accuracy and Stability of Numerical Algorithms*, 2nd edition.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import ReLUNetwork
    >>> from trueboundary.measure.screen import Screen
    >>> network = ReLUNetwork(20, 50, 2, generator=torch.Generator().manual_seed(0)).eval()
    >>> x = torch.randn(1000, 20, generator=torch.Generator().manual_seed(1))
    >>> margins, bounds = Screen(network)(x)
    >>> bool(((margins - network.margin(x)).abs() <= bounds).all())
    True
    """

    @torch.no_grad()
    def __init__(self, network: ReLUNetwork, *, use_bytes: bool | None = None) -> None:
        reason = why_not_screened(network)
        if reason:
            raise ValueError(f"expected a network that can be screened, but {reason}.")
        use_bytes = has_byte_products() if use_bytes is None else use_bytes
        folded = network.folded()
        addends = [_addends(network, index) for index in range(len(folded))]
        self.layers = [
            _layer(weight, bias, added, use_bytes=use_bytes and 0 < index < len(folded) - 1)
            for index, ((weight, bias), added) in enumerate(zip(folded, addends, strict=True))
        ]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins and bounds of points ``(n, dim)``, shape ``(n,)`` each, bounds float64."""
        found = [self._chunk(part) for part in torch.split(x, _CHUNK)]
        return torch.cat([m for m, _ in found]), torch.cat([b for _, b in found])

    def _chunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Activations are h times a factor of each point, which ReLU lets through.
        h, factor = x, torch.ones(len(x))
        d = torch.zeros(len(x), dtype=torch.float64)
        *hidden, readout = self.layers
        for layer in hidden:
            norms = _norms(h, factor)
            if len(layer.scale) == 0:
                d = layer.spectral * d + 2 * _rounding(layer, norms + d)
                h = torch.addmm(layer.bias, h, layer.weight)
            else:
                h, factor, d = _by_bytes(layer, h, factor, norms, d)
            h = h.relu_()
        d = readout.spectral * d + 2 * _rounding(readout, _norms(h, factor) + d)
        margins = torch.mv(h, readout.weight[:, 0]).mul_(factor).add_(readout.bias)
        return margins, d * _SAFE


def _by_bytes(
    layer: _Layer, h: Tensor, factor: Tensor, norms: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a layer of 8-bit integers before its ReLU, the points' factors, and the bound.

    The activations are overwritten.
    """
    top = h.amax(dim=1)
    top.masked_fill_(top == 0, 1.0)
    integers = h.mul_((_LEVELS / top)[:, None]).add_(0.5).to(torch.uint8)
    # Unsigned bytes shifted by 128 are signed ones: flipping the highest bit is that shift.
    integers = integers.bitwise_xor_(128).view(torch.int8)
    step = factor * top / _LEVELS
    out = h if h.shape[1] == layer.weight.shape[1] else h.new_empty(len(h), len(layer.bias))
    out.copy_(torch._int_mm(integers, layer.weight)).mul_(layer.scale)
    out.addmm_(torch.stack([torch.ones_like(step), 1 / step], dim=1), layer.offset)
    steps = step.double()
    delta = 0.5002 * h.shape[1] ** 0.5 * steps
    own = _rounding(layer, norms + d)
    d = layer.spectral * (d + delta) + layer.lost * (norms + delta) + own
    return out, step, d + 6 * _U * (256 * layer.sizes * steps + layer.addends)


def _layer(weight: Tensor, bias: Tensor, addends: Tensor, *, use_bytes: bool) -> _Layer:
    """Return a folded layer, given in float64, as the screen computes it."""
    spectral, frobenius = _spectral_norm(weight), float(weight.norm())
    added = float(addends.norm())
    if not use_bytes:
        return _Layer(
            weight.T.float().contiguous(),
            bias.float(),
            torch.zeros(0),
            torch.zeros(0),
            spectral,
            frobenius,
            0.0,
            0.0,
            added,
        )
    largest = weight.abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127, 1.0).float()
    rounded = (weight / scale[:, None].double()).round_().clamp_(-127, 127)
    sizes = float((scale.double() * rounded.abs().sum(dim=1)).norm())
    return _Layer(
        rounded.T.to(torch.int8).contiguous(),
        bias.float(),
        scale,
        torch.stack([128 * scale.double() * rounded.sum(dim=1), bias]).float(),
        spectral,
        frobenius,
        _spectral_norm(weight - scale[:, None].double() * rounded),
        sizes,
        added,
    )


def _addends(network: ReLUNetwork, index: int) -> Tensor:
    """Return the sizes of what the network adds to a product of a layer, float64."""
    linear: Any = network.linear[index]
    bias: Tensor = linear.bias.double().abs()
    if index >= len(network.norm):
        return bias
    norm: Any = network.norm[index]
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale: Tensor = norm.weight.double().abs() / (variance + norm.eps).sqrt()
    shift: Tensor = norm.bias.double().abs()
    added: Tensor = scale * (bias + mean.abs()) + shift
    return added


def _rounding(layer: _Layer, norms: Tensor) -> Tensor:
    """Return by how much a layer in float32 is off, for inputs of the given norms."""
    k = (layer.weight.shape[0] + _SPARE) * _U
    return k / (1 - k) * (layer.frobenius * norms + layer.addends)


def _norms(h: Tensor, factor: Tensor) -> Tensor:
    """Return upper bounds of the norms of rows times their factors, float64."""
    norms: Tensor = torch.linalg.vector_norm(h, dim=1).double() * factor.double()
    return norms * (1 + 2 * h.shape[1] * _U)


def _spectral_norm(matrix: Tensor) -> float:
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt()) * _SAFE
