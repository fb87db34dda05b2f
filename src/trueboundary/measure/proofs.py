"""Which proof belongs to a classifier, and whether it is one of that very classifier.

A proof is read from a classifier's parameters: from the layers of a network, its ellipsoid, or the
densities of an optimal classifier. It is given for classifiers of exactly the known classes, with
nothing hung on them, and where what was read gives the classifier's own margins at the points in
question; see `trueboundary.classifiers.integrity`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trueboundary.certificates import (
    Certificate,
    EllipsoidCertificate,
    MixtureCertificate,
    RelaxationCertificate,
    SVMCertificate,
)
from trueboundary.classifiers import (
    RBFSVM,
    BayesOptimal,
    Classifier,
    Ellipsoid,
    LinearSVM,
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    TruncatedSum,
    from_arrays,
    margin,
    to_arrays,
)
from trueboundary.classifiers.base import BinaryClassifier, CallableClassifier
from trueboundary.classifiers.integrity import Disagreement, departure, require_agreement
from trueboundary.densities import DiscreteTable
from trueboundary.domains import Box, Domain, Space

__all__ = ["Proof", "WithEllipsoid", "default_proof", "with_ellipsoid"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Layers = list[tuple[Tensor, Tensor]]

#: Classes whose instances' parameters say all that they compute, where these are read right.
_QUADRATIC = (QuadraticNetwork, SphereBayes, TruncatedSum)
_KINDS = (*_QUADRATIC, ReLUNetwork, nn.Sequential, LinearSVM, RBFSVM, BayesOptimal)


@dataclass(frozen=True)
class Proof:
    """A certificate, and the form in which it takes the classifier.

    Attributes
    ----------
    certificate : Certificate
        What proves.
    subject : object
        What it is asked about.
    classifier : callable
        What the user asked about, whose margins must be those of the subject.
    """

    certificate: Certificate
    subject: Any
    classifier: Classifier

    def __call__(self, x: Tensor, y: Tensor, domain: Domain) -> tuple[Floats, Bools]:
        """Return proven distances, and which of them are exact.

        Raises
        ------
        Disagreement
            If the classifier's margins at these points are not those that the proof speaks of.
        """
        module = self._module
        if self.classifier is not module:  # a wrapper, which may turn margins into others
            points = x.flatten(1).double().numpy(force=True)
            with torch.no_grad():
                own = margin(module, x.to(next(module.parameters()))).double().numpy(force=True)
            require_agreement(self.classifier, points, own, np.abs(own), self.name)
        if not (isinstance(self.certificate, EllipsoidCertificate) and isinstance(domain, Box)):
            result = self.certificate(self.subject, x, y, domain=domain)
            return result.distance, result.exact
        # Errors in a box are errors in space, so the distance in space is a bound in the box.
        result = self.certificate(self.subject, x, y, domain=Space())
        return result.distance, (result.distance == 0) | np.isinf(result.distance)

    @property
    def name(self) -> str:
        """Name of the certificate."""
        return type(self.certificate).__name__

    @property
    def _module(self) -> Any:
        """The classifier within all wrappers."""
        return self.subject.classifier if isinstance(self.subject, _Read) else self.subject

    def in_float64(self) -> Classifier:
        """Return the classifier as the certificate reads it: in float64 and in eval mode."""
        module = self._module
        first = next(module.parameters())
        if first.dtype == torch.float64 and not module.training:
            return self.classifier
        if isinstance(module, nn.Sequential):
            twin: nn.Module = nn.Sequential(*map(_float64_layer, module))
        else:
            spec, arrays = to_arrays(module)
            twin = from_arrays({**spec, "dtype": "float64"}, arrays)
        return twin.eval().to(first.device)


def default_proof(classifier: Classifier) -> tuple[Proof | None, str]:
    """Return the certificate that belongs to a classifier, or none and why.

    Where no certificate is known for its class, there is nothing to say.
    """
    inner: Any = classifier
    while isinstance(inner, CallableClassifier):
        inner = inner.function
    if not isinstance(inner, _KINDS):
        return None, ""
    doubt = departure(inner, _KINDS)
    if doubt is None and isinstance(classifier, CallableClassifier):
        doubt = departure(classifier, (CallableClassifier,))
    if doubt is not None:
        return None, f"this {type(inner).__name__} {doubt}"
    known: tuple[Certificate, Any] | None = None
    if isinstance(inner, _QUADRATIC):
        surface = with_ellipsoid(inner)
        known = None if surface is None else (EllipsoidCertificate(), surface)
    elif isinstance(inner, ReLUNetwork):
        try:
            inner.folded()
        except Disagreement as error:  # layers were replaced
            return None, str(error).rstrip(".")
        known = RelaxationCertificate(), inner
    elif isinstance(inner, nn.Sequential):
        layers = _relu_layers(inner)
        known = None if layers is None else (RelaxationCertificate(), layers)
    elif isinstance(inner, (LinearSVM, RBFSVM)):
        known = SVMCertificate(), inner
    elif not isinstance(inner.densities[0], DiscreteTable):
        known = MixtureCertificate(), inner
    return (None, "") if known is None else (Proof(*known, classifier), "")


class _Read(BinaryClassifier):
    """A classifier beside what was read from it, in the form that certificates take."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def margin(self, x: Tensor) -> Tensor:
        """Return the classifier's own margin."""
        return margin(self.classifier, x)


class _WithLayers(_Read):
    """Linear layers with ReLU between them.

    `common` is the layer of the logit that the margin is relative to, None for a single output: its
    size counts in the rounding of the margin.
    """

    def __init__(
        self, classifier: nn.Sequential, layers: Layers, common: tuple[Tensor, Tensor] | None
    ) -> None:
        super().__init__(classifier)
        self.layers, self.common = layers, common

    def folded(self) -> Layers:
        """Return weights and biases."""
        return self.layers


class WithEllipsoid(_Read):
    """A classifier that changes its mind on an ellipsoid.

    Parameters
    ----------
    classifier : Module
        The classifier.
    surface : Ellipsoid
        The ellipsoid.
    form : callable
        Maps the classifier's margin to that of the ellipsoid, with the same zeros and signs.
    """

    def __init__(
        self, classifier: nn.Module, surface: Ellipsoid, form: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(classifier)
        self.surface, self.form = surface, form

    def margin(self, x: Tensor) -> Tensor:
        """Return the classifier's margin, in the form of the ellipsoid's."""
        return self.form(super().margin(x))

    def ellipsoid(self) -> Ellipsoid:
        """Return the ellipsoid."""
        return self.surface


def with_ellipsoid(classifier: BinaryClassifier) -> WithEllipsoid | None:
    """Return a quadratic classifier with its ellipsoid, None if it has none."""
    if isinstance(classifier, QuadraticNetwork):
        if classifier.bias.item() == 0:  # a cone
            return None
        return WithEllipsoid(classifier, classifier.ellipsoid(), lambda m: m)
    if isinstance(classifier, SphereBayes) and classifier.boundary.item() > 0:
        boundary = classifier.boundary.item()
        alphas = np.full(classifier.dim, boundary**-2)
        # |x| - b becomes |x|^2 / b^2 - 1.
        form: Callable[[Tensor], Tensor] = lambda m: m / boundary * (2 + m / boundary)  # noqa: E731
    elif isinstance(classifier, TruncatedSum) and classifier.threshold.item() > 0:
        threshold = classifier.threshold.item()
        alphas = np.zeros(classifier.dim)
        alphas[-classifier.k :] = 1 / threshold
        form = lambda m: m / threshold  # noqa: E731
    else:
        return None
    # Alphas ascend, so the axes run backwards: the first coordinates are those that count.
    axes = np.eye(classifier.dim)[:, ::-1]
    return WithEllipsoid(classifier, Ellipsoid(alphas, axes, weight=1.0, bias=-1.0), form)


def _relu_layers(network: nn.Sequential) -> _WithLayers | None:
    """Return a network with its linear layers, None unless there is a ReLU between each two.

    Two logits become the one margin that is their difference.
    """
    linears, between = list(network)[::2], list(network)[1::2]
    if len(linears) != len(between) + 1 or not all(type(m) is nn.ReLU for m in between):
        return None
    layers: Layers = []
    for linear in linears:
        if type(linear) is not nn.Linear:
            return None
        weight = linear.weight.detach().double()
        bias = (
            linear.bias.detach().double()
            if linear.bias is not None
            else weight.new_zeros(len(weight))
        )
        layers.append((weight, bias))
    weight, bias = layers[-1]
    common = None
    if len(weight) == 2:
        common = (weight[:1], bias[:1])
        layers[-1] = (weight[1:] - weight[:1], bias[1:] - bias[:1])
    return _WithLayers(network, layers, common) if len(layers[-1][1]) == 1 else None


def _float64_layer(layer: nn.Module) -> nn.Module:
    """Return a linear layer in float64, or another layer as it is."""
    if not isinstance(layer, nn.Linear):
        return layer
    has_bias = layer.bias is not None
    twin = nn.Linear(
        layer.in_features, layer.out_features, has_bias, device="meta", dtype=torch.float64
    ).to_empty(device=layer.weight.device)
    twin.load_state_dict(layer.state_dict())
    return twin
