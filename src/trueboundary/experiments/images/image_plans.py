"""Mixtures, classifiers and attacks at an experiment's settings, shared where those are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.images.attacked_images import AttackedImages, AttackName
from trueboundary.experiments.images.image_fits import FittedMixtures, ImageTask, ImageVariant
from trueboundary.experiments.images.trained_classifiers import (
    Accuracy,
    NarrowestCNN,
    TrainedClassifier,
    TrainedCNN,
    TrainedSVM,
)
from trueboundary.experiments.networks.trained_networks import FINAL
from trueboundary.runs import RunConfig

if TYPE_CHECKING:
    from trueboundary.data import ImageSource

Settings = Mapping[str, Any]

#: The paper's four classifiers, in the order of its tables.
CLASSIFIERS = ("optimal", "CNN", "linear SVM", "RBF SVM")
# Convolutions of the strided networks that are no deeper than the paper's shallowest.
_SHALLOWEST = 8


def words_of(name: str) -> str:
    """Return the name of a data set as figures call it.

    Examples
    --------
    >>> words_of("mnist/0-6"), words_of("celeba/Wearing_Lipstick"), words_of("synthetic")
    ('MNIST 0/6', 'Wearing Lipstick', 'bars')
    """
    from trueboundary.data import parse_classes

    source, classes = parse_classes(name)
    return source.words(classes)


def image_task(
    name: str,
    settings: Settings,
    seed: int,
    *,
    variant: ImageVariant = "symmetric",
    noise_std: float | None = None,
) -> ImageTask:
    """Return the task of a pair, with mixtures of the sizes usual for the images called `name`.

    The settings have ``max_iter``, and ``noise_std`` unless it is given. Where they have
    ``n_components`` (0 for one per thousand images), ``n_factors`` or ``face_size``, these replace
    the usual ones.
    """
    from trueboundary.data import parse_pair

    return _task(parse_pair(name), settings, seed, variant, noise_std)


def task_of_classes(name: str, settings: Settings, seed: int) -> ImageTask:
    """Return the symmetric task of any number of classes, as `image_task` does that of a pair."""
    from trueboundary.data import parse_classes

    return _task(parse_classes(name), settings, seed)


def _task(
    named: tuple[ImageSource, tuple[str, ...]],
    settings: Settings,
    seed: int,
    variant: ImageVariant = "symmetric",
    noise_std: float | None = None,
) -> ImageTask:
    source, classes = named
    size = 64 if source.size is None else settings.get("face_size", source.size)
    fit = FittedMixtures(
        source.name,
        classes,
        settings.get("n_components", source.n_components) or None,
        settings.get("n_factors", source.n_factors),
        max_iter=settings["max_iter"],
        seed=seed,
        face_size=size,
        content=source.content(),
    )
    return ImageTask(fit, variant, settings["noise_std"] if noise_std is None else noise_std)


def planned_cnn(
    task: ImageTask, settings: Settings, seed: int, device: str, *, beta: float = 0.0
) -> TrainedCNN | NarrowestCNN:
    """Return the network of CleverHans, trained on as many points as the SVMs.

    Of several ``filters`` the narrowest network is taken that is accurate. Trained by TRADES with a
    weight `beta`, it takes ``trades_steps``.
    """
    n_steps = settings["trades_steps" if beta else "n_steps"]
    n_train = settings["n_train"]
    networks = [
        TrainedCNN(
            task,
            n_train,
            seed,
            width=width,
            n_steps=n_steps,
            learning_rate=settings.get("learning_rate", 1e-3),
            beta=beta,
            device=device,
        )
        for width in settings["filters"]
    ]
    if len(networks) == 1:
        return networks[0]
    return NarrowestCNN(task, n_train, seed, tuple(networks))


def fresh_cnn(
    task: ImageTask,
    settings: Settings,
    seed: int,
    device: str,
    *,
    n_samples: int,
    width: int,
    depth: int = _SHALLOWEST,
    beta: float = 0.0,
    kept: Sequence[int] = (),
) -> TrainedCNN:
    """Return a strided network trained on fresh points at every step, `n_samples` in all.

    It is stored after each of the `kept` numbers of points as well.
    """
    batch = settings["batch_size"]
    return TrainedCNN(
        task,
        0,
        seed,
        architecture="strided",
        width=width,
        depth=depth,
        n_steps=max(1, n_samples // batch),
        batch_size=batch,
        learning_rate=settings["learning_rate"],
        beta=beta,
        snapshots=tuple(max(1, count // batch) for count in kept),
        device=device,
    )


def planned_classifiers(
    task: ImageTask, settings: Settings, seed: int, device: str
) -> dict[str, TrainedClassifier | None]:
    """Return the paper's four classifiers, trained on the same points; None for the optimal one."""
    n_train = settings["n_train"]
    trained = (
        None,
        planned_cnn(task, settings, seed, device),
        TrainedSVM(task, n_train, seed, "linear"),
        TrainedSVM(task, n_train, seed, "rbf"),
    )
    return dict(zip(CLASSIFIERS, trained, strict=True))


def attacks_on(
    task: ImageTask,
    classifier: TrainedClassifier | None,
    settings: Settings,
    seed: int,
    *,
    attacks: Sequence[AttackName] = (),
    model: str = FINAL,
) -> dict[str, RunConfig]:
    """Return the attacks on a classifier by their names, and its test as ``"test"``.

    The settings have ``n_points`` and what the attacks need; there is a test where they have
    ``n_test``. If no attacks are named, the optimal classifier is attacked along the gradient of
    the log densities, as in the paper; for trained ones the nearest error is searched as well.
    """
    if not attacks:
        attacks = ("gradient",) if classifier is None else ("gradient", "nearest")
    n_points = settings["n_points"]
    runs: dict[str, RunConfig] = {}
    for attack in attacks:
        own = {}
        if attack == "cw":
            own = {name: settings[name] for name in ("cw_steps", "cw_searches", "cw_rate")}
        elif attack in ("cw-paper", "cw-box"):
            own = {name: settings[f"paper_{name}"] for name in ("cw_steps", "cw_searches")}
        runs[attack] = AttackedImages(
            task, classifier, attack, n_points, **own, model=model, seed=seed
        )
    if "n_test" in settings:
        runs["test"] = Accuracy(task, classifier, settings["n_test"], model=model, seed=seed)
    return runs


def four_classifiers(
    name: str, settings: Settings, seed: int, device: str, *, attacks: Sequence[AttackName] = ()
) -> dict[str, RunConfig]:
    """Return the four classifiers of a symmetric problem, with the attacks on each and its test.

    A classifier is named like ``"mnist/0-6/CNN"``, and what is done to it ``"mnist/0-6/CNN/cw"``.
    """
    task = image_task(name, settings, seed)
    runs: dict[str, RunConfig] = {}
    for words, classifier in planned_classifiers(task, settings, seed, device).items():
        if classifier is not None:
            runs[f"{name}/{words}"] = classifier
        found = attacks_on(task, classifier, settings, seed, attacks=attacks)
        runs |= under(f"{name}/{words}", found)
    return runs


def under(prefix: str, runs: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """Return the runs with their names under `prefix`."""
    return {f"{prefix}/{name}": config for name, config in runs.items()}
