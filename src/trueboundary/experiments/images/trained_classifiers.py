"""Classifiers trained on an image problem, and how often they are right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.images.image_fits import ImageTask, OnImages
from trueboundary.experiments.networks.trained_networks import (
    FINAL,
    Schedule,
    load_model,
    snapshot_name,
)
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.runs.config import Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trueboundary.classifiers import ClassifierModule
    from trueboundary.problems import Stream

Architecture = Literal["all-convolutional", "strided"]
Kernel = Literal["linear", "rbf"]

#: Points, at most, that a gamma or a width is chosen by: an accuracy of 0.98 has a standard error
#: of 0.003.
_N_VALIDATION = 2000
#: The least accuracy that is printed as 100 %.
_ALL = 0.995
#: Gammas that are usually tried.
_USUAL_GAMMAS = 6
#: Points that are decided together.
_COUNTED = 1000


@dataclass(frozen=True)
class TrainedClassifier(OnImages):
    """A classifier trained on points of an image problem; see the two kinds below.

    Parameters
    ----------
    n_train : int
        Number of training points.
    seed : int
        Seed of the training points and of everything random in the training.
    """

    n_train: int
    seed: int = 0

    @property
    def name(self) -> str:
        """What kind of classifier it is."""
        raise NotImplementedError(f"{self.kind} does not say what it is called")

    def in_words(self) -> str:
        """Return that it is trained."""
        return f"training the {self.name} on {self.task.name}"

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """Return about the time to decide `n_points` in all, in a number of calls."""
        raise NotImplementedError(f"{self.kind} does not say how long it takes to decide")


@dataclass(frozen=True)
class TrainedCNN(TrainedClassifier):
    """A convolutional network.

    Parameters
    ----------
    task, n_train, seed
        As in `TrainedClassifier`; `n_train` 0 draws fresh points for every step.
    architecture : {"all-convolutional", "strided"}
        The network of CleverHans, or that of the journal version.
    width : int
        Channels of the first convolution.
    depth : int
        Convolutions of the strided network; unused otherwise.
    n_steps, batch_size, learning_rate, schedule
        Training by Adam.
    beta : float
        Weight of the TRADES loss; 0 is plain training.
    snapshots : tuple of int
        Steps after which the network is stored under `snapshot_name`, besides the last.
    device : str
        Where to train.
    """

    version: ClassVar[int] = 2  # 1 had the channels of its weights first, which rounds otherwise

    architecture: Architecture = "all-convolutional"
    width: int = 8
    depth: int = 8
    n_steps: int = 1000
    batch_size: int = 50
    learning_rate: float = 1e-3
    schedule: Schedule = "constant"
    beta: float = 0.0
    snapshots: tuple[int, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.check_at_least(1, "width", "depth", "n_steps", "batch_size")
        self.check_at_least(0, "n_train")
        if self.architecture not in get_args(Architecture):
            raise ValueError(f"architecture must be one of {get_args(Architecture)}")

    @property
    def name(self) -> str:
        """What it is and how wide."""
        return f"convolutional network of width {self.width}"

    def cost(self) -> float:
        """Return about the time of all steps; TRADES takes eleven passes for one."""
        passes = 11 if self.beta > 0 else 1
        per_pass = self.seconds_of_passes(1, self.batch_size)
        n_drawn = self.n_train if self.n_train else self.n_steps * self.batch_size
        per_step = RATES.training_step + 3 * passes * per_pass
        return RATES.run + self.task.seconds_of_points(n_drawn) + self.n_steps * per_step

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """Return about the time to decide `n_points` in all, in a number of calls.

        At every scale convolutions have half the height and width and twice the channels of the
        scale before.
        """
        height, width, _ = self.task.fit.usual_shape
        n_scales = round(math.log2(height)) - 2
        n_layers = self.depth if self.architecture == "strided" else 3 * n_scales
        products = 9 * n_layers * height * width * self.width**2
        n_features = height * width * self.width * n_layers / n_scales
        per_image = products * RATES.convolution + n_features * RATES.feature
        return n_calls * n_layers * RATES.convolution_call + n_points * per_image

    def measure(self, context: Context) -> RunResult:
        """Train; a killed run goes on from its checkpoint, and the last model is `FINAL`."""
        from trueboundary.classifiers import to_arrays
        from trueboundary.training import TRADES, TrainingConfig, train

        fit = context.inputs["fit"]
        model = self._initial_model(self.task.image_shape(fit))
        result = train(
            model,
            self._stream(fit),
            TrainingConfig(
                n_steps=self.n_steps,
                learning_rate=self.learning_rate,
                schedule=self.schedule,
                snapshots=self.snapshots,
                checkpoint_every=max(1, min(500, self.n_steps // 4)),
            ),
            checkpoint=context.checkpoint / "training",
            # What is returned here is kept in the checkpoint, so that a resumed run has it too.
            on_snapshot=lambda _, network: to_arrays(network)[1],
            progress=lambda step: context.progress(step / self.n_steps),
            loss=TRADES(self.beta) if self.beta > 0 else None,
        )
        spec, arrays = to_arrays(model)
        models: dict[str, Model] = {
            snapshot_name(step): (spec, dict(kept)) for step, kept in result.snapshots.items()
        }
        models[FINAL] = (spec, arrays)
        return RunResult(
            {"available": True, "final_loss": float(result.losses[-1])},
            {
                "loss_step": np.asarray(result.steps, dtype=np.int64),
                "loss": np.asarray(result.losses, dtype=np.float64),
            },
            models,
        )

    def _stream(self, fit: Run) -> Stream:
        from trueboundary.problems import ArraySample, OnlineStream

        if self.n_train == 0:
            problem = self.task.problem(fit)
            return OnlineStream(problem, self.batch_size, self.seed, device=self.device)
        x, y = self.task.points(fit, self.n_train, seed=self.seed, purpose="train")
        x, y = x.to(self.device), y.to(self.device)
        return ArraySample(x, y, self.batch_size, self.seed, n_classes=self.task.fit.n_classes)

    def _initial_model(self, image_shape: tuple[int, int, int]) -> ClassifierModule:
        import torch

        from trueboundary.classifiers import AllConvolutionalNetwork, StridedConvolutionalNetwork

        generator = torch.Generator().manual_seed(self.seed)
        options: Any = {"n_classes": self.task.fit.n_classes, "generator": generator}
        model: ClassifierModule = (
            StridedConvolutionalNetwork(image_shape, self.depth, self.width, **options)
            if self.architecture == "strided"
            else AllConvolutionalNetwork(image_shape, self.width, **options)
        )
        return model.to(self.device)


@dataclass(frozen=True)
class NarrowestCNN(TrainedClassifier):
    """The narrowest of some networks that is accurate, or else the most accurate.

    The rule of Richardson and Weiss, Appendix B.3: the fewest filters with which all is classified
    correctly. All, as they print it, to whole percents: from 0.995 on.

    Parameters
    ----------
    task, n_train, seed
        As in `TrainedClassifier`.
    networks : tuple of TrainedCNN
        Trained on these points, from narrow to wide. Each is a run of its own.
    """

    networks: tuple[TrainedCNN, ...] = ()

    def __post_init__(self) -> None:
        widths = [network.width for network in self.networks]
        if not widths or sorted(set(widths)) != widths:
            raise ValueError(f"networks must go from narrow to wide, got widths {widths}")

    @property
    def name(self) -> str:
        """What it is."""
        return "convolutional network with the fewest filters"

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the mixtures and the networks by their widths."""
        return {**super().needs()} | {f"width {one.width}": one for one in self.networks}

    def cost(self) -> float:
        """Return about the time to count the errors of every network."""
        counting = sum(one.seconds_of_passes(2, _N_VALIDATION) for one in self.networks)
        return RATES.run + self.task.seconds_of_points(_N_VALIDATION) + counting

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """Return about the time to decide `n_points`, at most."""
        return self.networks[-1].seconds_of_passes(n_calls, n_points)

    def measure(self, context: Context) -> RunResult:
        """Choose by points that are neither trained on nor attacked; all accuracies are kept."""
        fit = context.inputs["fit"]
        x, y = self.task.points(fit, _N_VALIDATION, seed=self.seed, purpose="validation")
        trained = [context.inputs[f"width {one.width}"] for one in self.networks]
        accuracy = np.array([correct(load_model(run, FINAL), x, y).mean() for run in trained])
        accurate = np.flatnonzero(accuracy >= _ALL)
        chosen = int(accurate[0] if len(accurate) else accuracy.argmax())
        return RunResult(
            {
                "available": True,
                "width": self.networks[chosen].width,
                "is_accurate": bool(accuracy[chosen] >= _ALL),
            },
            {"width": np.array([one.width for one in self.networks]), "accuracy": accuracy},
            {FINAL: trained[chosen].result.models[FINAL]},
        )


@dataclass(frozen=True)
class TrainedSoftmax(TrainedClassifier):
    """A softmax regression, the linear classifier of any number of classes.

    Its points are those of a `TrainedCNN` with the same task, number and seed, and it is trained by
    Adam as that is.

    Parameters
    ----------
    n_steps, batch_size, learning_rate
        Training by Adam, from all parameters 0.
    """

    n_steps: int = 1000
    batch_size: int = 50
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_train", "n_steps", "batch_size")

    @property
    def name(self) -> str:
        """What it is."""
        return "softmax regression"

    def cost(self) -> float:
        """Return about the time of all steps."""
        per_step = RATES.training_step + 3 * self.seconds_of_passes(1, self.batch_size)
        return RATES.run + self.task.seconds_of_points(self.n_train) + self.n_steps * per_step

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """Return about the time to decide `n_points` in all, in a number of calls."""
        products = n_points * self.task.fit.n_pixels * self.task.fit.n_classes
        return n_calls * RATES.layer_call + products * RATES.product

    def measure(self, context: Context) -> RunResult:
        """Train."""
        from trueboundary.classifiers import SoftmaxRegression, to_arrays
        from trueboundary.problems import ArraySample
        from trueboundary.training import TrainingConfig, train

        fit, n_classes = context.inputs["fit"], self.task.fit.n_classes
        x, y = self.task.points(fit, self.n_train, seed=self.seed, purpose="train")
        model = SoftmaxRegression(x.shape[1], n_classes)
        result = train(
            model,
            ArraySample(x, y, self.batch_size, self.seed, n_classes=n_classes),
            TrainingConfig(n_steps=self.n_steps, learning_rate=self.learning_rate),
            progress=lambda step: context.progress(step / self.n_steps),
        )
        summary = {"available": True, "final_loss": float(result.losses[-1])}
        return RunResult(summary, models={FINAL: to_arrays(model)})


@dataclass(frozen=True)
class TrainedSVM(TrainedClassifier):
    """A support vector machine; with a Gaussian kernel, more than two classes one against the rest.

    Its points are those of a `TrainedCNN` with the same task, number and seed.

    Parameters
    ----------
    kernel : {"linear", "rbf"}
        The gamma of the latter is the largest that is still accurate with all `n_train` points,
        see `choose_gamma`; it is chosen by as many points besides, at most 2,000.
    """

    # 2 chose gamma with few of the points; 1 took the kernel value by value, which rounds otherwise
    version: ClassVar[int] = 3

    kernel: Kernel = "linear"

    def __post_init__(self) -> None:
        self.check_at_least(2, "n_train")
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be one of {get_args(Kernel)}, got {self.kernel!r}")

    @property
    def name(self) -> str:
        """What it is, with its kernel."""
        return {"linear": "linear", "rbf": "RBF"}[self.kernel] + " SVM"

    def cost(self) -> float:
        """Return about the time of the fits, which share the distances of points."""
        n_pixels = self.task.fit.n_pixels
        start = RATES.run + self.task.seconds_of_points(self.n_train)
        if self.kernel == "linear":
            return start + self.n_train * n_pixels * RATES.linear_fit
        n_validation = min(self.n_train, _N_VALIDATION)
        # Of two classes there is one machine, and one of each of more.
        n_machines = 1 if self.task.fit.n_classes == 2 else self.task.fit.n_classes
        n_fits = n_machines * _USUAL_GAMMAS
        return start + seconds_of_fits(self.task, self.n_train, n_fits, n_validation)

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """Return about the time to decide `n_points`; two of three training points support it."""
        del n_calls
        n_vectors = 2 * self.n_train / 3 if self.kernel == "rbf" else 0
        return n_points * n_vectors * self.task.fit.n_pixels * RATES.kernel

    def measure(self, context: Context) -> RunResult:
        """Fit; the path of gammas is kept."""
        from trueboundary.classifiers import choose_gamma, fit_linear_svm, to_arrays

        fit = context.inputs["fit"]
        x, y = self.task.points(fit, self.n_train, seed=self.seed, purpose="train")
        if self.kernel == "linear":
            linear = fit_linear_svm(x, y, random_state=self.seed)
            return RunResult({"available": True}, models={FINAL: to_arrays(linear)})
        n_validation = min(self.n_train, _N_VALIDATION)
        others = self.task.points(fit, n_validation, seed=self.seed, purpose="validation")
        path = choose_gamma(x, y, *others)
        return RunResult(
            {
                "available": True,
                "gamma": path.gamma,
                "is_accurate": path.is_accurate,
                "n_support": int(path.n_support[path.chosen]),
            },
            {
                "gammas": path.gammas,
                "train_accuracy": path.train_accuracy,
                "validation_accuracy": path.validation_accuracy,
                "n_support": path.n_support,
            },
            {FINAL: to_arrays(path.svm)},
        )


@dataclass(frozen=True)
class OfClassifier(OnImages):
    """A run on the decisions of a classifier of images.

    Parameters
    ----------
    task : ImageTask
        Where the points come from, which need not be where the classifier was trained.
    classifier : TrainedClassifier or None
        What decides; None for the optimal classifier of the task.
    """

    classifier: TrainedClassifier | None

    @property
    def name(self) -> str:
        """What the classifier is called."""
        return "optimal classifier" if self.classifier is None else self.classifier.name

    def seconds_of_passes(self, n_calls: int, n_points: int) -> float:
        """Return about the time to decide `n_points` in all, in a number of calls."""
        if self.classifier is None:
            return n_points * self.task.fit.n_parameters * RATES.density
        return self.classifier.seconds_of_passes(n_calls, n_points)

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the mixtures and the classifier."""
        return {**super().needs()} | ({"classifier": self.classifier} if self.classifier else {})

    def load(self, context: Context, model: str) -> ClassifierModule:
        """Return the stored `model` of the classifier, or the optimal one."""
        if self.classifier is None:
            return self.task.optimal_classifier(context.inputs["fit"])
        return load_model(context.inputs["classifier"], model)


@dataclass(frozen=True)
class Accuracy(OfClassifier):
    """Correct decisions on test points, point by point and in number.

    Parameters
    ----------
    n_points, seed : int
        Number and seed of the points; of real images there may be fewer.
    model : str
        Which of the classifier's stored models.
    """

    n_points: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def in_words(self) -> str:
        """Return what is counted."""
        return f"counting right decisions of the {self.name}, {self.task.name}"

    def cost(self) -> float:
        """Return about the time of all points."""
        n_points = self.task.available(self.n_points)
        deciding = self.seconds_of_passes(-(-n_points // _COUNTED), n_points)
        return RATES.run + self.task.seconds_of_points(n_points) + deciding

    def measure(self, context: Context) -> RunResult:
        """Count, some points at a time."""
        model = self.load(context, self.model)
        fit = context.inputs["fit"]
        x, y = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        right = correct(model, x, y)
        summary = {"available": True, "n_points": len(x), "n_correct": int(right.sum())}
        # Of two classes the one that a wrong decision goes to is the other.
        of_many = {"label": y.numpy()} if self.task.fit.n_classes > 2 else {}
        return RunResult(summary, {"correct": right, **of_many})


def seconds_of_fits(task: ImageTask, n_train: int, n_gammas: int, n_others: int = 0) -> float:
    """Return about the time to fit RBF SVMs of `n_gammas` widths, and to decide other points."""
    n_pairs = n_train * (n_train + n_others)
    distances = n_pairs * task.fit.n_pixels * RATES.squared_distance
    return distances + n_gammas * n_pairs * RATES.kernel_fit


def correct(model: ClassifierModule, x: Tensor, y: Tensor) -> NDArray[np.bool_]:
    """Return whether `model` decides each point as its label says."""
    import torch

    with torch.no_grad():
        decided = [model.predict(some.to(dtype_of(model))) for some in torch.split(x, _COUNTED)]
    right: NDArray[np.bool_] = (torch.cat(decided) == y).numpy()
    return right


def dtype_of(model: ClassifierModule) -> torch.dtype:
    """Return the dtype that `model` computes in."""
    return next(model.parameters()).dtype
