"""Which proof belongs to a classifier, and whether it is one of that very classifier.

A proof is read from a classifier's parameters: from the layers of a network, its ellipsoid, or the
densities of an optimal classifier. It is given for classifiers of exactly the registered classes,
with nothing hung on them, and where what was read gives the classifier's own margins at the points
in question; see `trueboundary.classifiers.integrity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trueboundary.certificates import (
    Certificate,
    CertificateResult,
    EllipsoidCertificate,
    LinearCertificate,
    MixtureCertificate,
    RelaxationCertificate,
    SVMCertificate,
)
from trueboundary.certificates.relaxation import Unreadable, prepare
from trueboundary.classifiers import (
    RBFSVM,
    BayesOptimal,
    Classifier,
    LabelsAlone,
    LinearSVM,
    OneAgainstRestSVM,
    QuadraticNetwork,
    ReLUNetwork,
    SoftmaxRegression,
    SphereBayes,
    TruncatedSum,
    dtype_of,
    from_arrays,
    outputs,
    to_arrays,
)
from trueboundary.classifiers.adapters import CallableClassifier
from trueboundary.classifiers.integrity import Disagreement, departure, require_agreement
from trueboundary.densities import DiscreteTable
from trueboundary.domains import Domain, Space
from trueboundary.measure.registered import certificate_for, register_certificate

__all__ = ["Proof", "certified_distances", "default_proof", "recorded_proof"]

#: What a point may take by default: several seconds of a core. An audit has some hundred points.
_MOST_WORK = 3e10

register_certificate(LinearSVM, RBFSVM, OneAgainstRestSVM)(SVMCertificate)


@register_certificate(LabelsAlone)
def _of_labels(classifier: LabelsAlone) -> str:
    return f"it {classifier.why}"


@register_certificate(QuadraticNetwork, SphereBayes, TruncatedSum)
def _of_ellipsoid(classifier: QuadraticNetwork | SphereBayes | TruncatedSum) -> Certificate | str:
    # Without an offset the errors are a cone, all of space or nothing.
    return EllipsoidCertificate() if has_ellipsoid(classifier) else ""


@register_certificate(ReLUNetwork, SoftmaxRegression, nn.Sequential, nn.Linear)
def _of_layers(network: nn.Module) -> Certificate | str:
    try:
        layers = prepare(network)
    except Disagreement as error:  # layers were replaced
        return str(error).rstrip(".")
    except (TypeError, ValueError):  # other layers, or other outputs
        return ""
    return LinearCertificate() if len(layers) == 1 else RelaxationCertificate()


@register_certificate(BayesOptimal)
def _of_densities(classifier: BayesOptimal) -> Certificate | str:
    return "" if isinstance(classifier.densities[0], DiscreteTable) else MixtureCertificate()


def has_ellipsoid(classifier: QuadraticNetwork | SphereBayes | TruncatedSum) -> bool:
    """Whether a quadratic classifier changes its mind on an ellipsoid."""
    if isinstance(classifier, QuadraticNetwork):
        return classifier.bias.item() != 0
    limit = classifier.boundary if isinstance(classifier, SphereBayes) else classifier.threshold
    return limit.item() > 0


@dataclass(frozen=True)
class Proof:
    """A certificate, and the classifier that it reads.

    Attributes
    ----------
    certificate : Certificate
        What proves.
    subject : callable
        What it is asked about.
    classifier : callable
        What the user asked about: the subject, or wrappers around it with the same margins.
    """

    certificate: Certificate
    subject: Any
    classifier: Classifier

    def __call__(
        self, x: Tensor, y: Tensor, domain: Domain, batch_size: int | None = None
    ) -> CertificateResult:
        """Return proven distances.

        Raises
        ------
        Disagreement
            If the classifier's margins at these points are not those that the proof speaks of.
        """
        if self.classifier is not self.subject:  # a wrapper, which may turn margins into others
            points = x.flatten(1).double().numpy(force=True)
            with torch.no_grad():
                own = outputs(self.subject, x.to(dtype_of(self.subject))).double()
            numbers = own.numpy(force=True)
            require_agreement(self.classifier, points, numbers, np.abs(numbers), self.name)
        return self.certificate(self.subject, x, y, domain=domain, batch_size=batch_size)

    @property
    def name(self) -> str:
        """Name of the certificate."""
        return type(self.certificate).__name__

    def in_float64(self) -> Classifier:
        """Return the classifier as the certificate reads it: in float64 and in eval mode."""
        module = self.subject
        if not isinstance(module, nn.Module):
            return self.classifier
        twin: nn.Module
        first = next(module.parameters(), None)
        if first is None or (first.dtype == torch.float64 and not module.training):
            return self.classifier
        if type(module) is nn.Linear:
            twin = _float64_layer(module)
        elif type(module) is nn.Sequential:
            twin = nn.Sequential(*map(_float64_layer, module))
        else:
            try:
                spec, arrays = to_arrays(module)  # type: ignore[arg-type]
                twin = from_arrays({**spec, "dtype": "float64"}, arrays)
            except TypeError:  # somebody else's, who knows what dtype it is for
                return self.classifier
        return twin.eval().to(first.device)


def default_proof(classifier: Classifier) -> tuple[Proof | None, str]:
    """Return the certificate that belongs to a classifier, or none and why.

    Where no certificate is known for its class, there is nothing to say.
    """
    inner: Any = classifier
    turned = ""
    while isinstance(inner, CallableClassifier):
        turned = turned or _turned(inner)
        inner = inner.function
    certificate = certificate_for(inner)
    if isinstance(certificate, str):
        return None, certificate
    if turned:
        return None, f"{turned} that as_classifier puts around this {type(inner).__name__}"
    if isinstance(classifier, CallableClassifier):
        doubt = departure(classifier, (CallableClassifier,))
        if doubt is not None:
            return None, f"this {type(inner).__name__} {doubt}"
    return Proof(certificate, inner, classifier), ""


def recorded_proof(classifier: Classifier) -> Proof | None:
    """Return the proof that reads what any module computes, wrappers included, as it is called.

    Whether it can be read shows only at points: if not, it raises `Unreadable`. There is none for
    functions, of which nobody knows the parameters.
    """
    inner: Any = classifier
    while isinstance(inner, CallableClassifier):
        inner = inner.function
    readable = isinstance(inner, nn.Module)
    certificate = RelaxationCertificate(most_work=_MOST_WORK)
    return Proof(certificate, classifier, classifier) if readable else None


def _turned(wrapper: CallableClassifier) -> str:
    """Say what of a wrapper makes other outputs of a classifier's, or other points for it."""
    if wrapper.preprocess is not None:
        return "no proof is known through the preprocessing"
    if wrapper.classes is not None:
        return f"no proof is known of the choice of classes {wrapper.classes}"
    return "" if wrapper.returns == "logit" else f"no proof is known of outputs={wrapper.returns!r}"


def certified_distances(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    domain: Domain | None = None,
    batch_size: int | None = None,
) -> CertificateResult:
    """Return proven distances from given points, by the certificate that is registered.

    Parameters
    ----------
    classifier : callable
        As for `error_rate`.
    x, y, domain, batch_size
        As for `trueboundary.certificates.Certificate`.

    Raises
    ------
    TypeError
        If no certificate is known for the classifier.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import LinearSVM
    >>> from trueboundary.measure import certified_distances
    >>> svm = LinearSVM(torch.tensor([3.0, 4.0]), bias=-5.0)
    >>> certified_distances(svm, torch.zeros(1, 2), torch.tensor([0])).distance
    tensor([1.], dtype=torch.float64)
    """
    proof, why_not = default_proof(classifier)
    within = Space() if domain is None else domain
    if proof is not None:
        return proof(x, y, within, batch_size)
    reason = why_not or "none is registered for its class"
    recorded = recorded_proof(classifier)
    if recorded is not None:
        try:
            return recorded(x, y, within, batch_size)
        except (Disagreement, Unreadable) as error:
            reason = why_not or f"no lower bound, because {error}"
    raise TypeError(
        f"there is no certificate for this {type(classifier).__name__}: {reason.rstrip('.')}."
    )


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
