"""Mixtures, classifiers and attacks at an experiment's settings, shared where those are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueboundary.experiments.images.attacked_images import AttackedImages, AttackName
from trueboundary.experiments.images.image_fits import FittedMixtures, ImageTask
from trueboundary.experiments.images.trained_classifiers import (
    TrainedClassifier,
    TrainedCNN,
    TrainedSVM,
)


def planned_fit(settings: Mapping[str, Any], pair: str, seed: int) -> FittedMixtures:
    """Return the mixtures of a pair such as ``"0/6"`` at an experiment's settings.

    Experiments with equal settings share the fit. No components stand for one per thousand images.
    """
    from trueboundary.data import image_source

    zero, one = pair.split("/")
    return FittedMixtures(
        settings["dataset"],
        (zero, one),
        settings["n_components"] or None,
        settings["n_factors"],
        settings["max_iter"],
        seed=seed,
        content=image_source(settings["dataset"]).content(),
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
