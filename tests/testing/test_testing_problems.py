"""`check_problem` fails for every way in which a problem of somebody else may go wrong."""

from typing import Any

import pytest
import torch
from torch import Tensor

from trueboundary.classifiers import BinaryClassifier, as_classifier
from trueboundary.domains import Box, Domain, Space
from trueboundary.problems import Problem
from trueboundary.testing import check_problem


class Squares(Problem):
    """A sound problem: uniform on two overlapping squares, class 1 with probability 0.3."""

    event_shape = (2,)
    prior = 0.3

    def sample_class(
        self,
        n: int,
        label: int,
        *,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> Tensor:
        return torch.rand((n, 2), generator=generator, dtype=dtype) + 0.5 * label

    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> BinaryClassifier:
        # On the overlap class 0 is the likelier one.
        return as_classifier(lambda x: x.amax(dim=1) - 1)

    def domain(self, label: int) -> Domain:
        return Box(0.5 * label, 1 + 0.5 * label)

    def describe(self) -> dict[str, Any]:
        return {"problem": type(self).__name__}


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_problem_passes(seed: int) -> None:
    check_problem(Squares(), seed=seed)


class HasAnotherPrior(Squares):
    def _sample_labels(self, n: int, **options: Any) -> Tensor:
        return (torch.rand(n, generator=options["generator"]) < 0.35).long()


class LabelsAtRandom(Squares):
    def sample(self, n: int, **options: Any) -> tuple[Tensor, Tensor]:
        x, y = super().sample(n, **options)
        return x, y.roll(1)


class ForgetsThePrior(Squares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> BinaryClassifier:
        return as_classifier(lambda x: x.amin(dim=1) - 0.5)


class LooksAtOneCoordinate(Squares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> BinaryClassifier:
        return as_classifier(lambda x: x[:, 0] - 1)


class KnowsNothing(Squares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> BinaryClassifier:
        return as_classifier(lambda x: 0 * x[:, 0] - 1)


class HasAPlainFunction(Squares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> Any:
        return lambda x: x.amax(dim=1) - 1


class IsOfOnePrecision(Squares):
    def sample_class(self, n: int, label: int, **options: Any) -> Tensor:
        return super().sample_class(n, label, **options).float()


class ClassifiesInDoublePrecision(Squares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> BinaryClassifier:
        return as_classifier(lambda x: x.double().amax(dim=1) - 1)


class HasAnotherShape(Squares):
    event_shape = (3,)


class LeavesItsDomain(Squares):
    def domain(self, label: int) -> Domain:
        return Box(0.5, 1.0)


class DrawsFromTorch(Squares):
    def sample_class(self, n: int, label: int, **options: Any) -> Tensor:
        del options["generator"]
        return torch.rand((n, 2), dtype=options["dtype"]) + 0.5 * label


class IgnoresTheSeed(Squares):
    def sample(self, n: int, **options: Any) -> tuple[Tensor, Tensor]:
        options["generator"] = torch.Generator().manual_seed(0)
        return super().sample(n, **options)


class BeginsAnewWithTheLength(Squares):
    def blocks(self, n: int, *, seed: int, **options: Any) -> Any:
        return super().blocks(n, seed=seed + n, **options)


class CutsItsLastBlockWrong(Squares):
    def blocks(self, n: int, *, seed: int, **options: Any) -> Any:
        return super().blocks(n + 50, seed=seed, **options)


class StreamsBothClasses(Squares):
    def block(self, index: int, *, label: int | None = None, **options: Any) -> Any:
        return super().block(index, label=None, **options)


class IsDescribedByTensors(Squares):
    def describe(self) -> dict[str, Any]:
        return {"problem": type(self).__name__, "corner": torch.zeros(2)}


class IsDescribedByATuple(Squares):
    def describe(self) -> dict[str, Any]:
        return {"problem": type(self).__name__, "corner": (0.0, 0.0)}


class HasNoName(Squares):
    def describe(self) -> dict[str, Any]:
        return {}


class IsNotFinite(Squares):
    def sample_class(self, n: int, label: int, **options: Any) -> Tensor:
        x = super().sample_class(n, label, **options)
        x[0] = torch.inf
        return x

    def domain(self, label: int) -> Domain:
        return Space()


class ThreeSquares(Squares):
    """A sound problem of three classes: a third square overlaps the second."""

    n_classes = 3
    priors = (0.5, 0.3, 0.2)

    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> Any:
        def logits(x: Tensor) -> Tensor:
            inside = torch.stack(
                [((x >= 0.5 * k) & (x <= 1 + 0.5 * k)).all(dim=1) for k in range(3)], dim=1
            )
            return inside * torch.tensor(self.priors, dtype=x.dtype)

        return as_classifier(logits)


def test_a_sound_problem_of_three_classes_passes() -> None:
    check_problem(ThreeSquares())


class HasTwoPriors(ThreeSquares):
    priors = (0.5, 0.5)  # type: ignore[assignment]


class HasOnePrior(Squares):
    n_classes = 1
    priors = (1.0,)  # type: ignore[assignment]


class HasPriorsOfMoreThanAll(ThreeSquares):
    priors = (0.5, 0.3, 0.3)


class DrawsAnotherShareOfTheThird(ThreeSquares):
    def _sample_labels(self, n: int, **options: Any) -> Tensor:
        y = super()._sample_labels(n, **options)
        return torch.where(y == 2, torch.arange(n) % 2, y)


class HasAFourthLabel(ThreeSquares):
    def sample(self, n: int, **options: Any) -> tuple[Tensor, Tensor]:
        x, y = super().sample(n, **options)
        return x, y + 1


class LeavesTheLastDomain(ThreeSquares):
    def domain(self, label: int) -> Domain:
        return Box(0.0, 1.5)


class StreamsAllClasses(ThreeSquares):
    def block(self, index: int, *, label: int | None = None, **options: Any) -> Any:
        return super().block(index, label=None, **options)


class ClassifiesTwoOfThree(ThreeSquares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> Any:
        return as_classifier(lambda x: x.amax(dim=1) - 1)


class ForgetsTheThird(ThreeSquares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> Any:
        optimal = super().bayes_classifier(dtype=dtype)
        return as_classifier(
            lambda x: optimal.outputs(x) * torch.tensor([1.0, 1.0, 0.0], dtype=x.dtype)
        )


class MixesUpTwoOfThree(ThreeSquares):
    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> Any:
        return as_classifier(super().bayes_classifier(dtype=dtype), classes=(0, 2, 1))


BROKEN = {
    HasTwoPriors: "priors: expected 3 positive numbers",
    HasOnePrior: "n_classes: expected an integer of at least 2, got 1",
    HasPriorsOfMoreThanAll: "priors: expected 3 positive numbers that add up to 1",
    DrawsAnotherShareOfTheThird: "class . with probability",
    HasAFourthLabel: "labels from 0 to 2",
    LeavesTheLastDomain: r"every point in domain\(2\)",
    StreamsAllClasses: "class 2 alone",
    ClassifiesTwoOfThree: r"shape \(8192, 3\) in torch.float32, got \(8192,\)",
    ForgetsTheThird: "no rule beats it",
    MixesUpTwoOfThree: "no rule beats it",
    HasAnotherPrior: "class 0 with probability 0.7",
    LabelsAtRandom: "labelled points and sample_class",
    ForgetsThePrior: "no rule beats it",
    LooksAtOneCoordinate: "a Gaussian fitted to each class is right",
    KnowsNothing: "a Gaussian fitted to each class is right",
    HasAPlainFunction: "as_classifier makes one",
    IsOfOnePrecision: r"in torch\.float64 .* got .* in torch\.float32",
    ClassifiesInDoublePrecision: r"in torch\.float32, got \(8192,\) in torch\.float64",
    HasAnotherShape: r"points of shape \(8192, 3\)",
    LeavesItsDomain: r"every point in domain\(0\)",
    DrawsFromTorch: "same seed|random state",
    IgnoresTheSeed: "other points of another seed",
    BeginsAnewWithTheLength: "the beginning of a longer stream",
    CutsItsLastBlockWrong: "got blocks of",
    StreamsBothClasses: "class 1 alone",
    IsDescribedByTensors: "values that JSON can hold",
    IsDescribedByATuple: "values that JSON gives back",
    HasNoName: "the class name 'HasNoName'",
    IsNotFinite: "finite points",
}


@pytest.mark.parametrize(
    ("broken", "message"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_a_broken_problem_is_told(broken: type[Problem], message: str) -> None:
    with torch.random.fork_rng(), pytest.raises(AssertionError, match=message):
        check_problem(broken())


def test_what_is_no_problem_is_told() -> None:
    with pytest.raises(AssertionError, match="expected a Problem, got int"):
        check_problem(3)  # type: ignore[arg-type]
