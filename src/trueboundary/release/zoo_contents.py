"""What the zoo is made of: which runs become entries, under which names, and what cards say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trueboundary.experiments import get_experiment
from trueboundary.experiments.images.image_fits import FIT, ImageTask
from trueboundary.experiments.images.image_plans import words_of
from trueboundary.experiments.images.trained_classifiers import TrainedClassifier
from trueboundary.experiments.networks.trained_networks import FINAL, OfNetwork, TrainedNetwork
from trueboundary.runs import Run, RunConfig, Scale
from trueboundary.zoo.entry_cards import Kind

if TYPE_CHECKING:
    from trueboundary.runs.config import Model

#: The dimension of the spheres that names do not mention, that of the paper.
_USUAL_DIM = 500
#: Experiments on images, of one kind each or of several.
_IMAGES = ("bayes-symmetric", "beyond-ten-digits")
_OURS = "MIT, as trueboundary."
_SPHERES = "points drawn from the spheres."
_VARIANTS = {
    "symmetric": "All components have the same small noise, so that the optimal classifier is "
    "robust (Richardson and Weiss 2021, Figure 6)",
    "asymmetric": "Each class has one broad component more, so that the optimal classifier is not "
    "robust (Richardson and Weiss 2021, Figure 5)",
}


_NUMBERS = {2: "Two", 3: "Three", 10: "Ten"}


@dataclass(frozen=True)
class Draft:
    """An entry to be, with the run that it is made from.

    Parameters
    ----------
    name, kind, title, about, problem, data, licence : str
        As on the card.
    run : RunConfig or None
        The run whose stored model it is; None for a formula.
    model : callable
        ``model(run)`` returns the spec of the card, and the arrays.
    file : str
        File for the arrays; empty for a formula.
    """

    name: str
    kind: Kind
    title: str
    about: str
    problem: str
    data: str
    licence: str
    run: RunConfig | None
    model: Callable[[Run | None], Model]
    file: str = ""


@dataclass(frozen=True)
class Group:
    """Entries that belong together: all of them are made from one store, or none.

    Parameters
    ----------
    experiment, scale : str
        What computes the runs.
    drafts : tuple of Draft
        The entries; a problem comes before the classifiers that were trained on it.
    """

    experiment: str
    scale: Scale
    drafts: tuple[Draft, ...]


def groups(scale: Scale) -> Iterator[Group]:
    """Yield what the runs of a scale can give to the zoo.

    Of networks on the spheres the paper's own, trained as in the paper, and at the scale quick
    the smaller one that becomes free of errors; of images every pair, and all ten digits.
    """
    seen: set[str] = set()
    for experiment, prefixes in _networks(scale).items():
        for name, run in get_experiment(experiment).runs(scale).items():
            if name.startswith(prefixes) and isinstance(run, OfNetwork):
                group = Group(experiment, scale, _of_network(run.network))
                if group.drafts[-1].name not in seen:
                    seen.add(group.drafts[-1].name)
                    yield group
    for name in _IMAGES:
        images = get_experiment(name)
        runs, named = images.runs(scale), images.settings(scale)["dataset"]
        for dataset in [named] if isinstance(named, str) else named:
            yield Group(name, scale, tuple(_of_images(dataset, runs)))


def _networks(scale: Scale) -> Mapping[str, tuple[str, ...]]:
    """Return the names of runs on the first network of each kind, by experiment."""
    if scale == "quick":
        return {"spheres-alphas": ("small-seed0",)}
    return {"spheres-alphas": ("n100000-seed0", "n1000000-seed0", "n2000-seed0", "online-seed0"),
            "spheres-error-rate": ("seed-0",)}  # fmt: skip


def _of_network(network: TrainedNetwork) -> tuple[Draft, Draft]:
    """Return the spheres and a network that was trained on them."""
    problem = f"spheres-d{network.dim}"
    arguments = {"dim": network.dim, "radius": network.radius}
    spheres = Draft(
        problem,
        "problem",
        f"Concentric spheres in {network.dim} dimensions",
        f"Points of norm 1 are class 0, and of norm {network.radius:g} class 1 (Gilmer et al. "
        "2018, Section 3).",
        problem,
        _SPHERES,
        _OURS,
        None,
        lambda _: ({"class": "ConcentricSpheres", "arguments": arguments}, {}),
    )
    samples = f"{network.n_train:,} points" if network.n_train else "fresh points at every step"
    place = "Section 3" if network.architecture == "relu" else "Section 4"
    name = network_name(network)
    trained = Draft(
        name,
        "classifier",
        f"{network.name[0].upper()}{network.name[1:]}, trained on {samples}",
        f"Trained for {network.n_steps:,} steps of {network.batch_size} points (Gilmer et al. "
        f"2018, {place}).",
        problem,
        _SPHERES,
        _OURS,
        network,
        _final,
        f"{name}.safetensors",
    )
    return spheres, trained


def network_name(network: TrainedNetwork) -> str:
    """Return the name of a network on the spheres, such as ``spheres-relu-h1000-d2-online``.

    h is its width and d its depth, which quadratic networks do not have; the dimension is
    mentioned where it is not the paper's.
    """
    dim = "" if network.dim == _USUAL_DIM else f"-d{network.dim}"
    depth = f"-d{network.depth}" if network.architecture == "relu" else ""
    sample = f"n{network.n_train}" if network.n_train else "online"
    return f"spheres-{network.architecture}{dim}-h{network.width}{depth}-{sample}"


def _of_images(dataset: str, runs: Mapping[str, RunConfig]) -> Iterator[Draft]:
    """Yield both problems of some classes, and the classifiers of the symmetric one."""
    # Runs of one data set are named by the classifier alone.
    trained = {
        name.removeprefix(f"{dataset}/"): run
        for name, run in runs.items()
        if isinstance(run, TrainedClassifier)
        and (name.startswith(f"{dataset}/") or "/" not in name)
    }
    task = next(iter(trained.values())).task
    stem = dataset.replace("/", "-").lower()
    n = task.fit.n_classes
    licence = task.fit.source.licence
    data = f"mixtures fitted to the training images of {words_of(dataset)}, rounded to float32."
    for variant, words in _VARIANTS.items():
        yield Draft(
            f"{stem}-{variant}",
            "problem",
            f"{words_of(dataset)}, {variant}",
            f"{_NUMBERS.get(n, str(n))} mixtures of {task.fit.n_components} factor analyzers with "
            f"{task.fit.n_factors} factors and noise of standard deviation {task.noise_std:g}. "
            f"{words}.",
            f"{stem}-{variant}",
            data,
            licence,
            task.fit,
            _variant(variant, task),
            f"{stem}.safetensors",
        )
    for words, run in trained.items():
        name = f"{stem}-symmetric-{words.lower().replace(' ', '-')}"
        yield Draft(
            name,
            "classifier",
            f"{words} on {words_of(dataset)}, symmetric",
            f"Trained on {run.n_train:,} points of the problem"
            + (" (Richardson and Weiss 2021, Figure 6)." if n == 2 else "."),
            f"{stem}-symmetric",
            f"points drawn from mixtures that were fitted to {words_of(dataset)}.",
            licence,
            run,
            _final,
            f"{name}.safetensors",
        )


def _final(run: Run | None) -> Model:
    assert run is not None
    return run.result.models[FINAL]


def _variant(variant: str, task: ImageTask) -> Callable[[Run | None], Model]:
    def model(run: Run | None) -> Model:
        assert run is not None
        fit, arrays = run.result.models[FIT]
        arguments = {"variant": variant, "noise_std": task.noise_std}
        small = {name: array.astype("float32") for name, array in arrays.items()}
        return {"class": "ImageFit", "fit": fit, "arguments": arguments}, small

    return model
