"""Image problems with known densities, classifiers trained on them and attacks, shared by many.

Every run says in its summary whether its images were at hand (``available``) and, where they were
not, why (``reason``): an experiment without its data is an outcome, not a failure.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trueboundary._checks import check_integer
from trueboundary.experiments.networks.trained_networks import (
    FINAL,
    Schedule,
    joined,
    load_model,
    snapshot_name,
)
from trueboundary.experiments.provenance import OBSERVED
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.runs.config import Arrays, Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trueboundary.attacks import Attack
    from trueboundary.classifiers import BinaryClassifier
    from trueboundary.data import CelebA, ImageData
    from trueboundary.problems import ImageFit, ImageProblem, Stream

Floats = NDArray[np.floating[Any]]
Shape = tuple[int, int, int]
Dataset = Literal["mnist", "celeba", "cifar10", "synthetic"]
#: "real" stands for the images themselves, which have no known density.
ImageVariant = Literal["symmetric", "asymmetric", "as-fitted", "real"]
Architecture = Literal["all-convolutional", "strided"]
Kernel = Literal["linear", "rbf"]
AttackName = Literal["cw", "cw-paper", "gradient", "gradient-fixed"]

FIT = "fit"
#: Changes of pixels are counted in bins as wide as 1/255, a level of an 8-bit image.
CHANGE_EDGES = np.arange(-127.5, 128.5) / 255
#: Wide to narrow kernels, relative to 1 / (dim * variance of the pixels), scikit-learn's "scale".
GAMMA_SCALES = tuple(4.0**k for k in range(-4, 5))

#: Points that are attacked together, and the most that one run attacks.
_ATTACK_CHUNK, _LARGEST_PIECE = 100, 200
_COUNT_CHUNK = 1000
# The published fixed steps have no published length. These reach a distance of 10.
_FIXED_STEP_SIZE, _N_FIXED_STEPS = 0.02, 500
_SYNTHETIC_SIDE, _N_SYNTHETIC = 8, 150
# About the time on one core to train on an image, and to attack one by a pass.
_SECONDS_PER_IMAGE = {"mnist": 3e-4, "celeba": 2e-3, "cifar10": 5e-4, "synthetic": 2e-5}
_SECONDS_PER_PASS = {"mnist": 2.5e-4, "celeba": 4e-3, "cifar10": 1e-3, "synthetic": 1e-5}


@dataclass(frozen=True)
class FittedMixtures(RunConfig):
    """One mixture of factor analyzers per class, fitted to the training images of a pair.

    Parameters
    ----------
    dataset : {"mnist", "celeba", "cifar10", "synthetic"}
        ``"synthetic"`` are small noisy bars made on the spot, for trying things out.
    pair : tuple of str
        Names of the classes 0 and 1; for faces ``("not Male", "Male")``.
    n_components : int or None
        Components per class; None for one per thousand images.
    n_factors : int
        Factors per component.
    max_iter : int
        Largest number of EM iterations.
    tol : float
        Gain in nats per image under which EM stops.
    seed : int
        Seed of the start.
    face_size : int
        Height and width of faces, at most 64; other images come as they are.
    content : str
        Fingerprint of the faces, see `faces_content`, so that other faces give other runs.
    """

    version: ClassVar[int] = 2  # 1 measured float32 images from a rounded mean

    dataset: Dataset
    pair: tuple[str, str]
    n_components: int | None = 25
    n_factors: int = 6
    max_iter: int = 100
    tol: float = 1e-3
    seed: int = 0
    face_size: int = 64
    content: str = field(default="", metadata=OBSERVED)

    def __post_init__(self) -> None:
        if self.dataset not in get_args(Dataset):
            raise ValueError(f"dataset must be one of {get_args(Dataset)}, got {self.dataset!r}")
        check_integer("n_factors", self.n_factors, minimum=1)
        check_integer("max_iter", self.max_iter, minimum=1)

    @property
    def words(self) -> str:
        """The pair as figures call it, for instance ``"0/6"``."""
        return self.pair[1] if self.dataset == "celeba" else "/".join(self.pair)

    def images(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
        """Return the images of the pair, their labels and the shape of one; see `pair_images`."""
        return pair_images(self.dataset, self.pair, part, face_size=self.face_size)

    def cost(self) -> float:
        """Return about the time of all iterations."""
        seconds = {"mnist": 0.01, "celeba": 1.0, "cifar10": 0.2, "synthetic": 1e-4}[self.dataset]
        return seconds * self.max_iter * (self.n_components or 10)

    def compute(self, context: Context) -> RunResult:
        """Fit; the run ends well without its images, and says so."""
        from trueboundary.problems import fit_images

        try:
            x, y, shape = self.images("train")
        except FileNotFoundError as error:
            return without_data(str(error))
        fit = fit_images(
            x,
            y,
            image_shape=shape,
            n_components=self.n_components,
            n_factors=self.n_factors,
            class_names=self.pair,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self.seed,
        )
        notes = data_notes(self.dataset, "train", face_size=self.face_size)
        summary = {"available": True, "fit": fit.report, "data_notes": notes}
        return RunResult(summary, models={FIT: fit.to_arrays()})


@dataclass(frozen=True)
class ImageTask:
    """One variant of an image problem.

    Parameters
    ----------
    fit : FittedMixtures
        The densities it is made from.
    variant : {"symmetric", "asymmetric", "as-fitted", "real"}
        As in `trueboundary.problems.ImageFit.problem`; ``"real"`` for the images themselves.
    noise_std : float
        Noise of the symmetric and asymmetric variants.
    """

    fit: FittedMixtures
    variant: ImageVariant = "symmetric"
    noise_std: float = 0.01

    def __post_init__(self) -> None:
        if self.variant not in get_args(ImageVariant):
            raise ValueError(f"variant must be one of {get_args(ImageVariant)}: {self.variant!r}")
        if not 0.0 < self.noise_std < math.inf:
            raise ValueError(f"noise_std must be a positive number, got {self.noise_std}")

    def problem(self, fit: Run) -> ImageProblem:
        """Return the problem, from the finished run of `fit`; real images have none."""
        if self.variant == "real":
            raise ValueError("the density of real images is not known; choose another variant")
        return load_fit(fit).problem(self.variant, noise_std=self.noise_std)

    def image_shape(self, fit: Run) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return load_fit(fit).image_shape

    def points(self, fit: Run, n: int, *, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Return `n` points in float32 and their labels, the same for the same seed and purpose.

        Parameters
        ----------
        fit : Run
            The finished run of `fit`.
        n : int
            Number of points; of real images there may be fewer.
        seed : int
            Seed of the draw.
        purpose : str
            Different purposes give independent points; ``"test"`` takes real images from the test
            set, every other purpose from the training set.
        """
        import torch

        from trueboundary.problems import block_generator

        generator = block_generator(seed, 0, purpose=f"image {purpose}")
        if self.variant != "real":
            return self.problem(fit).sample(n, generator=generator)
        part = "test" if purpose == "test" else "train"
        x, y, _ = self.fit.images(part)
        chosen = torch.randperm(len(x), generator=generator)[:n]
        return torch.from_numpy(x)[chosen], torch.from_numpy(y)[chosen]


@dataclass(frozen=True)
class TrainedClassifier(RunConfig):
    """A classifier trained on points of an image problem; see the two kinds below.

    Parameters
    ----------
    task : ImageTask
        What it is trained on.
    n_train : int
        Number of training points.
    seed : int
        Seed of the training points and of everything random in the training.
    """

    task: ImageTask
    n_train: int
    seed: int = 0

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the fitted mixtures."""
        return {"fit": self.task.fit}

    def compute(self, context: Context) -> RunResult:
        """Train, unless the images are missing."""
        fit = context.inputs["fit"]
        return self.train(fit, context) if is_available(fit) else without_data(reason(fit))

    def train(self, fit: Run, context: Context) -> RunResult:
        """Train on the points; the model is stored under `FINAL`."""
        raise NotImplementedError(f"{self.kind} does not say how it is trained")


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
        for name in ("width", "depth", "n_steps", "batch_size"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("n_train", self.n_train, minimum=0)
        if self.architecture not in get_args(Architecture):
            raise ValueError(f"architecture must be one of {get_args(Architecture)}")

    def cost(self) -> float:
        """Return about the time of all steps; TRADES takes a dozen passes for one."""
        per_image = _SECONDS_PER_IMAGE[self.task.fit.dataset]
        passes = 12 if self.beta > 0 else 1
        return 0.3 + passes * self.n_steps * self.batch_size * per_image * self.width / 8

    def train(self, fit: Run, context: Context) -> RunResult:
        """Train; a killed run goes on from its checkpoint."""
        from trueboundary.classifiers import to_arrays
        from trueboundary.training import TRADES, TrainingConfig, train

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
        return ArraySample(x.to(self.device), y.to(self.device), self.batch_size, self.seed)

    def _initial_model(self, image_shape: tuple[int, int, int]) -> BinaryClassifier:
        import torch

        from trueboundary.classifiers import AllConvolutionalNetwork, StridedConvolutionalNetwork

        generator = torch.Generator().manual_seed(self.seed)
        model: BinaryClassifier
        if self.architecture == "strided":
            model = StridedConvolutionalNetwork(
                image_shape, self.depth, self.width, generator=generator
            )
        else:
            model = AllConvolutionalNetwork(image_shape, self.width, generator=generator)
        return model.to(self.device)


@dataclass(frozen=True)
class TrainedSVM(TrainedClassifier):
    """A support vector machine.

    Its points are those of a `TrainedCNN` with the same task, number and seed.

    Parameters
    ----------
    task, n_train, seed
        As in `TrainedClassifier`.
    kernel : {"linear", "rbf"}
        The gamma of the latter is the largest that is still accurate, see `choose_gamma`.
    n_gamma : int
        Training points that gamma is chosen with, and validation points as well; the largest
        gammas keep all of them as support vectors.
    """

    kernel: Kernel = "linear"
    n_gamma: int = 2000

    def __post_init__(self) -> None:
        check_integer("n_train", self.n_train, minimum=2)
        check_integer("n_gamma", self.n_gamma, minimum=2)
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be one of {get_args(Kernel)}, got {self.kernel!r}")

    def cost(self) -> float:
        """Return about the time of the fits."""
        if self.kernel == "linear":
            return 0.2 + 1e-4 * self.n_train
        return 0.2 + 1e-6 * self.n_gamma**2 + 5e-8 * self.n_train**2

    def train(self, fit: Run, context: Context) -> RunResult:
        """Fit; the path of gammas is kept."""
        from trueboundary.classifiers import (
            choose_gamma,
            fit_linear_svm,
            fit_rbf_svm,
            to_arrays,
        )

        x, y = self.task.points(fit, self.n_train, seed=self.seed, purpose="train")
        if self.kernel == "linear":
            linear = fit_linear_svm(x, y, random_state=self.seed)
            return RunResult({"available": True}, models={FINAL: to_arrays(linear)})
        x_validation, y_validation = self.task.points(
            fit, self.n_gamma, seed=self.seed, purpose="validation"
        )
        few = slice(0, self.n_gamma)
        path = choose_gamma(x[few], y[few], x_validation, y_validation, gammas=gamma_grid(x[few]))
        context.progress(0.5)
        machine = fit_rbf_svm(x, y, gamma=path.gamma)
        return RunResult(
            {
                "available": True,
                "gamma": path.gamma,
                "is_accurate": path.is_accurate,
                "n_support": machine.n_positive + machine.n_negative,
            },
            {
                "gammas": path.gammas,
                "train_accuracy": path.train_accuracy,
                "validation_accuracy": path.validation_accuracy,
                "n_support": path.n_support,
            },
            {FINAL: to_arrays(machine)},
        )


@dataclass(frozen=True)
class Accuracy(RunConfig):
    """Correct decisions on test points, point by point and in number.

    Parameters
    ----------
    task : ImageTask
        Where the points come from, which need not be where the classifier was trained.
    classifier : TrainedClassifier or None
        What decides; None for the optimal classifier of the task.
    n_points : int
        Number of points; of real images there may be fewer.
    model : str
        Which of the classifier's stored models.
    seed : int
        Seed of the points.
    """

    task: ImageTask
    classifier: TrainedClassifier | None
    n_points: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_points", self.n_points, minimum=1)

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the mixtures and the classifier."""
        return _needs(self.task, self.classifier)

    def cost(self) -> float:
        """Return about the time of all points."""
        return 0.2 + 2e-4 * self.n_points

    def compute(self, context: Context) -> RunResult:
        """Count in chunks."""
        import torch

        missing = missing_inputs(context)
        if missing:
            return without_data(missing)
        model = decider(self.task, self.classifier, context, self.model)
        fit = context.inputs["fit"]
        x, y = self.task.points(fit, self.n_points, seed=self.seed, purpose="test")
        with torch.no_grad():
            decided = [
                model.predict(chunk.to(dtype_of(model))) for chunk in torch.split(x, _COUNT_CHUNK)
            ]
        correct = (torch.cat(decided) == y).numpy()
        summary = {"available": True, "n_points": len(x), "n_correct": int(correct.sum())}
        return RunResult(summary, {"correct": correct})


@dataclass(frozen=True)
class AttackedImages(RunConfig):
    """Distances from test points to the nearest change of a classifier's decision.

    Success is a changed decision, as in the journal version of the paper: a point that is
    misclassified to begin with is attacked like any other. All classifiers are attacked at the
    same points, given task, number and seed.

    Parameters
    ----------
    task : ImageTask
        Where the points come from.
    classifier : TrainedClassifier or None
        What is attacked; None for the optimal classifier of the task.
    attack : {"cw", "cw-paper", "gradient", "gradient-fixed"}
        Carlini-Wagner with constants in units of distance; the same with the paper's settings;
        steps along the gradient that are computed, or of a fixed length.
    n_points : int
        Number of points.
    cw_steps, cw_searches : int
        Steps and number of descents of Carlini-Wagner; unused otherwise. The paper has 500 and 3.
    cw_rate : float
        First learning rate of ``"cw"``.
    n_kept : int
        Number of points kept as pictures, of each class; photographs of people never are.
    model : str
        Which of the classifier's stored models.
    seed : int
        Seed of the points.
    """

    version: ClassVar[int] = 2  # 1 began the later descents of C&W where the last had ended

    task: ImageTask
    classifier: TrainedClassifier | None
    attack: AttackName
    n_points: int
    cw_steps: int = 1000
    cw_searches: int = 9
    cw_rate: float = 0.01
    n_kept: int = 4
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_points", "cw_steps", "cw_searches"):
            check_integer(name, getattr(self, name), minimum=1)
        if self.attack not in get_args(AttackName):
            raise ValueError(f"attack must be one of {get_args(AttackName)}, got {self.attack!r}")

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the mixtures, the classifier and, of many points, the chunks."""
        return _needs(self.task, self.classifier) | self.chunks()

    def chunks(self) -> dict[str, AttackedImagesChunk]:
        """Return the work items of a large job; empty for one that is done in one piece."""
        if self.n_points <= _LARGEST_PIECE:
            return {}
        return {
            f"chunk-{first}": AttackedImagesChunk(
                **self.field_values(), first=first, stop=min(first + _ATTACK_CHUNK, self.n_points)
            )
            for first in range(0, self.n_points, _ATTACK_CHUNK)
        }

    def cost(self) -> float:
        """Return about the time of all points, or of putting chunks together."""
        return 0.2 if self.chunks() else self.seconds(self.n_points)

    def seconds(self, n_points: int) -> float:
        """Return the number of passes times about what one takes."""
        passes = {
            "cw": self.cw_steps * self.cw_searches,
            "cw-paper": self.cw_steps * self.cw_searches,
            "gradient": 20,
            "gradient-fixed": 200,
        }[self.attack]
        return 0.2 + n_points * passes * _SECONDS_PER_PASS[self.task.fit.dataset]

    def compute(self, context: Context) -> RunResult:
        """Attack in chunks, or put together what runs of their own have attacked."""
        missing = missing_inputs(context)
        if missing:
            return without_data(missing)
        if chunks := self.chunks():
            arrays = joined([context.inputs[name].arrays for name in chunks])
        else:
            arrays = self.attack_rows(context, 0, self.n_points)
        arrays["change_count"] = arrays["change_count"].sum(axis=0)
        by_class = np.argsort(arrays["label"][arrays["kept"]], kind="stable")
        arrays |= {name: arrays[name][by_class] for name in ("kept", "original", "adversarial")}
        summary = {
            "available": True,
            "n_points": len(arrays["label"]),
            "n_correct": int(arrays["correct"].sum()),
            "n_changed": int(np.isfinite(arrays["distance"]).sum()),
            "image_shape": list(self.task.image_shape(context.inputs["fit"])),
        }
        return RunResult(summary, arrays)

    def attack_rows(self, context: Context, start: int, stop: int) -> Arrays:
        """Attack the points `start` to `stop` in chunks, with a ``change_count`` of each chunk."""
        x, y = self.points(context.inputs["fit"])
        model = decider(self.task, self.classifier, context, self.model)
        x, labels = x.to(dtype_of(model)), y.numpy()
        photographs = self.task.variant == "real" and self.task.fit.dataset == "celeba"
        kept = _first_of_each(labels, 0 if photographs else self.n_kept)
        stop = min(stop, len(x))
        parts = []
        for first in range(start, stop, _ATTACK_CHUNK):
            last = min(first + _ATTACK_CHUNK, stop)
            rows = slice(first, last)
            part = self.attack_points(model, x[rows]) | {"label": labels[rows]}
            part["correct"] = part["predicted"] == part["label"]
            original, changed = x[rows].float().numpy(), part.pop("x_adv")
            found = np.isfinite(part["distance"])
            part["change_count"] = count_changes((changed - original)[found])[None]
            part["kept"] = kept[(first <= kept) & (kept < last)]
            part["original"] = original[part["kept"] - first]
            part["adversarial"] = changed[part["kept"] - first]
            parts.append(part)
            context.progress((last - start) / (stop - start))
        return joined(parts)

    def points(self, fit: Run) -> tuple[Tensor, Tensor]:
        """Return the attacked points in float32, and their labels."""
        return self.task.points(fit, self.n_points, seed=self.seed, purpose="test")

    def attack_points(self, model: BinaryClassifier, x: Tensor) -> dict[str, NDArray[Any]]:
        """Attack the decision of `model` at each point."""
        import torch

        with torch.no_grad():
            predicted = model.predict(x)
        result = self._attack()(model, x, predicted)
        return {
            "predicted": predicted.numpy(),
            "distance": result.distance.double().numpy(),
            "status": result.status.numpy(),
            "n_backward": result.n_backward.numpy(),
            "x_adv": result.x_adv.float().numpy(),
        }

    def _attack(self) -> Attack:
        from trueboundary.attacks import CarliniWagnerL2, LogDensityGradient

        if self.attack == "cw":
            return CarliniWagnerL2(self.cw_steps, self.cw_searches, self.cw_rate)
        if self.attack == "cw-paper":
            steps, searches = self.cw_steps, self.cw_searches
            return replace(CarliniWagnerL2.paper(), n_steps=steps, n_binary_search=searches)
        if self.attack == "gradient":
            return LogDensityGradient()
        return LogDensityGradient("fixed-step", _N_FIXED_STEPS, _FIXED_STEP_SIZE)


@dataclass(frozen=True, kw_only=True)
class AttackedImagesChunk(AttackedImages):
    """A part of a large `AttackedImages`, whose fields it has: the points `first` to `stop`.

    Parameters
    ----------
    first, stop : int
        Number of the first point, and one more than that of the last; of real images there may be
        fewer.
    """

    first: int
    stop: int

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the mixtures and the classifier."""
        return _needs(self.task, self.classifier)

    def cost(self) -> float:
        """Return about the time of the chunk's points."""
        return self.seconds(self.stop - self.first)

    def compute(self, context: Context) -> RunResult:
        """Attack the same points that a job in one piece would attack."""
        missing = missing_inputs(context)
        if missing:
            return without_data(missing)
        return RunResult({"available": True}, self.attack_rows(context, self.first, self.stop))


def planned_fit(settings: Mapping[str, Any], pair: str, seed: int) -> FittedMixtures:
    """Return the mixtures of a pair such as ``"0/6"`` at an experiment's settings.

    Experiments with equal settings share the fit. No components stand for one per thousand images.
    """
    zero, one = pair.split("/")
    return FittedMixtures(
        settings["dataset"],
        (zero, one),
        settings["n_components"] or None,
        settings["n_factors"],
        settings["max_iter"],
        seed=seed,
        content=faces_content() if settings["dataset"] == "celeba" else "",
    )


def planned_classifiers(
    settings: Mapping[str, Any], task: ImageTask, seed: int, device: str
) -> dict[str, TrainedClassifier | None]:
    """Return the paper's four classifiers at an experiment's settings, None for the optimal one.

    All are trained on the same points. Experiments with equal settings share them.
    """
    n_train = settings["n_train"]
    cnn = TrainedCNN(
        task,
        n_train,
        seed,
        width=settings["width"],
        n_steps=settings["n_steps"],
        device=device,
    )
    rbf = TrainedSVM(task, n_train, seed, "rbf", n_gamma=settings["n_gamma"])
    return {
        "optimal": None,
        "CNN": cnn,
        "linear SVM": TrainedSVM(task, n_train, seed, "linear"),
        "RBF SVM": rbf,
    }


def planned_attack(
    settings: Mapping[str, Any],
    task: ImageTask,
    classifier: TrainedClassifier | None,
    attack: AttackName,
    seed: int,
) -> AttackedImages:
    """Return an attack at an experiment's settings; equal attacks of experiments are shared."""
    n_points = settings["n_attack_points"]
    if attack.startswith("gradient"):
        return AttackedImages(task, classifier, attack, n_points, seed=seed)
    which = "cw" if attack == "cw" else "paper_cw"
    steps, searches = settings[f"{which}_steps"], settings[f"{which}_searches"]
    return AttackedImages(task, classifier, attack, n_points, steps, searches, seed=seed)


def pair_images(
    dataset: str, pair: tuple[str, str], part: str, *, face_size: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
    """Return the images of two classes as rows, their labels and the shape of one image.

    Parameters
    ----------
    dataset : {"mnist", "celeba", "cifar10", "synthetic"}
        CelebA and CIFAR-10 are looked for where their environment variables name them.
    pair : tuple of str
        The two classes.
    part : {"train", "test"}
        Which images.
    face_size : int
        Height and width of faces.

    Raises
    ------
    FileNotFoundError
        If the images are not here; the message says what to do.

    Examples
    --------
    >>> x, y, shape = pair_images("synthetic", ("lying", "standing"), "test")
    >>> x.shape, shape
    ((300, 64), (1, 8, 8))
    """
    if dataset == "synthetic":
        return _synthetic_images(part)
    if dataset == "mnist":
        from trueboundary.data import load_mnist

        data = load_mnist().part(part)
    elif dataset == "cifar10":
        data = _cifar10().part(part)
    else:
        data = _faces(part, face_size).attribute(pair[1])
    x, y = data.pairs(*pair)
    return x, y, data.event_shape


def data_notes(dataset: str, part: str, *, face_size: int = 64) -> list[str]:
    """Return what a reader of numbers measured on these images has to know; see `pair_images`.

    Examples
    --------
    >>> data_notes("synthetic", "test")
    []
    """
    return list(_faces(part, face_size).notes) if dataset == "celeba" else []


def faces_content() -> str:
    """Return a fingerprint of the CelebA that is on this machine; empty where there is none."""
    from trueboundary.data import find_data, fingerprint_celeba

    location = find_data()["celeba"]
    return fingerprint_celeba(location.path) if location.found and location.path else ""


@lru_cache(maxsize=2)  # decoding the faces takes longer than most of what is done with them
def _faces(part: str, size: int) -> CelebA:
    from trueboundary.data import load_celeba
    from trueboundary.data.locations import CELEBA_VARIABLE

    return load_celeba(_folder(CELEBA_VARIABLE, "CelebA"), size=size, split=part)


@lru_cache(maxsize=1)  # as the faces
def _cifar10() -> ImageData:
    from trueboundary.data import load_cifar10
    from trueboundary.data.locations import CIFAR10_VARIABLE

    return load_cifar10(_folder(CIFAR10_VARIABLE, "CIFAR-10"))


def _folder(variable: str, name: str) -> Path:
    from trueboundary.data.locations import folder_from_environment

    folder = folder_from_environment(variable)
    if folder is None:
        raise FileNotFoundError(f"{name} is not here; let {variable} name its folder.")
    return folder


def _synthetic_images(
    part: str,
) -> tuple[NDArray[np.float32], NDArray[np.int64], Shape]:
    """Return soft bars, lying (0) or standing (1), at random places, with noise."""
    rng = np.random.default_rng(["train", "test"].index(part))
    y = np.repeat([0, 1], _N_SYNTHETIC)
    places = rng.uniform(2, _SYNTHETIC_SIDE - 3, size=(len(y), 1, 1))
    rows, columns = np.mgrid[:_SYNTHETIC_SIDE, :_SYNTHETIC_SIDE]
    across = np.where(y[:, None, None] == 0, rows, columns) - places
    noise = 0.02 * rng.normal(size=across.shape)
    images = (np.exp(-(across**2) / 2) + noise).clip(0, 1)
    shape = (1, _SYNTHETIC_SIDE, _SYNTHETIC_SIDE)
    return images.reshape(len(y), -1).astype(np.float32), y.astype(np.int64), shape


def gamma_grid(x: Tensor) -> Floats:
    """Return the gammas of a path for the points `x`, from wide to narrow kernels."""
    scale = x.shape[1] * float(x.double().var())
    return np.array(GAMMA_SCALES) / scale


def count_changes(changes: Floats) -> NDArray[np.int64]:
    """Return how many changes of a pixel fall between `CHANGE_EDGES`, the outermost included.

    Examples
    --------
    >>> int(count_changes(np.array([[0.0, -3.0]]))[[0, 127]].sum())
    2
    """
    inside = np.clip(changes, CHANGE_EDGES[0], CHANGE_EDGES[-1])
    counts: NDArray[np.int64] = np.histogram(inside, bins=CHANGE_EDGES)[0].astype(np.int64)
    return counts


def decider(
    task: ImageTask, classifier: TrainedClassifier | None, context: Context, model: str = FINAL
) -> BinaryClassifier:
    """Return the trained classifier among the inputs of a run, or the optimal one for None."""
    if classifier is None:
        return task.problem(context.inputs["fit"]).bayes_classifier()
    return load_model(context.inputs["classifier"], model)


def dtype_of(model: BinaryClassifier) -> torch.dtype:
    """Return the dtype that `model` computes in."""
    return next(model.parameters()).dtype


def load_fit(run: Run) -> ImageFit:
    """Return the mixtures of a finished `FittedMixtures`."""
    from trueboundary.problems import ImageFit

    return ImageFit.from_arrays(*run.result.models[FIT])


def without_data(why: str) -> RunResult:
    """Return the result of a run whose images are not on this machine."""
    return RunResult({"available": False, "reason": why})


def is_available(run: Run) -> bool:
    """Return whether the run had its images."""
    return bool(run.summary["available"])


def reason(run: Run) -> str:
    """Return why the run had no images."""
    return str(run.summary["reason"])


def missing_inputs(context: Context) -> str:
    """Return why a run cannot have its images; empty if it can."""
    reasons = [reason(run) for run in context.inputs.values() if not is_available(run)]
    return reasons[0] if reasons else ""


def missing_data(runs: Mapping[str, Run]) -> str:
    """Return a remark on the images that the runs did not have; empty if they had all."""
    reasons = dict.fromkeys(reason(run) for run in runs.values() if not is_available(run))
    if not reasons:
        return ""
    return " ".join(reasons) + " Then give the same command again."


def distances(run: Run) -> Floats:
    """Return the distances of an `AttackedImages`, infinite where no decision changed."""
    values: Floats = run.arrays["distance"]
    return values


def nearest(*runs: Run) -> Floats:
    """Return the shortest distance that several attacks on the same points found."""
    shortest: Floats = np.minimum.reduce([distances(run) for run in runs])
    return shortest


def accuracy_under_attack(correct: NDArray[np.bool_], distance: Floats) -> float:
    """Return the share of points that are classified correctly once attacked.

    Correct decisions count where no attack changed them, and wrong ones where one did.

    Examples
    --------
    >>> accuracy_under_attack(np.array([True, True, False]), np.array([1.0, np.inf, 2.0]))
    0.6666666666666666
    """
    changed = np.isfinite(distance)
    return float((correct != changed).mean()) if len(correct) else math.nan


def _needs(task: ImageTask, classifier: TrainedClassifier | None) -> dict[str, RunConfig]:
    needs: dict[str, RunConfig] = {"fit": task.fit}
    return needs | ({} if classifier is None else {"classifier": classifier})


def _first_of_each(labels: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the places of the first `n` points of class 0, then of class 1."""
    return np.concatenate([np.flatnonzero(labels == label)[:n] for label in (0, 1)])
