"""Kinds of images by name: what their pairs are called, where they are, and how they are read.

What is known of a kind of images stands in its source and nowhere else. A kind of one's own is a
subclass of `ImageSource` in one file; `register_image_source` makes it known to the process that
runs the file, and the environment variable `TRUEBOUNDARY_SOURCES`, which names such files, to the
command line and its workers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from trueboundary.data.celeba import CelebA, fingerprint_celeba, load_celeba
from trueboundary.data.cifar import CIFAR10_CLASSES, CIFAR10_PLACES, load_cifar10
from trueboundary.data.idx import load_idx_folder
from trueboundary.data.image_data import ImageData
from trueboundary.data.locations import (
    DataLocation,
    cache_folder,
    described,
    folder_from_environment,
)
from trueboundary.data.mnist import MNIST_CLASSES, MNIST_VARIABLE, load_mnist

Pair = tuple[str, str]
#: Names of two classes or more.
ClassNames = tuple[str, ...]

#: Environment variable that names files with sources of the user's own, separated as in PATH.
SOURCES_VARIABLE = "TRUEBOUNDARY_SOURCES"
#: The parts that every source has.
PARTS = ("train", "test")


@dataclass(frozen=True)
class ImageSource:
    """One kind of images, of which two classes or more are a problem.

    A subclass states what differs from the defaults below and says in `load` how its images are
    read.

    Parameters
    ----------
    place : pathlib.Path, optional
        Where the images are; unless given, the environment variable `variable` says so.
    """

    place: Path | None = None

    #: What stands before the slash in the name of a pair: a to z, 0 to 9 and "_".
    name: ClassVar[str] = ""
    #: How texts and figures call it.
    title: ClassVar[str] = ""
    #: Its classes; empty where they are not known before the images are read.
    class_names: ClassVar[tuple[str, ...]] = ()
    #: The name of one pair, for messages.
    example: ClassVar[str] = ""
    #: The environment variable that says where the images are; empty where they need no place.
    variable: ClassVar[str] = ""
    #: What it names, in words.
    where: ClassVar[str] = "the folder that holds them"
    #: The option of ``trueboundary run`` that says the same.
    option: ClassVar[str] = ""
    #: Whether images that are not there are fetched. Otherwise users bring them, and experiments
    #: that need them are left out where they did not.
    is_downloaded: ClassVar[bool] = False
    #: Files or folders by which a folder with these images is known.
    files: ClassVar[tuple[str, ...]] = ()
    #: Usual height and width; None where images come as they are.
    size: ClassVar[int | None] = None
    #: Usual number of components of a class; None stands for one per thousand images.
    n_components: ClassVar[int | None] = None
    #: Usual number of factors of a component.
    n_factors: ClassVar[int] = 10
    #: Whether the images show people. Runs then keep none of them.
    is_private: ClassVar[bool] = False
    #: Whether the images are made up for trying things out, so that no claim is judged by them.
    is_made_up: ClassVar[bool] = False
    #: Under which terms what is derived from the images is passed on; empty where not known.
    licence: ClassVar[str] = ""
    #: About how many training images a pair of classes has, and their height, width and channels:
    #: what the time that commands expect to take is worked out from.
    n_images: ClassVar[int] = 10_000
    image_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    def load(self, classes: ClassNames, part: str, size: int | None = None) -> ImageData:
        """Return the images of one part, those of some classes at least.

        Parameters
        ----------
        classes : tuple of str
            The classes that are wanted, two at least.
        part : {"train", "test"}
            Which images.
        size : int, optional
            Height and width, the usual one unless given; without a meaning where images come as
            they are.

        Raises
        ------
        FileNotFoundError
            If the images are not here; the message says what to do.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how its images are read")

    def pair(self, classes: str) -> Pair | None:
        """Return the classes that the name of a pair means after the slash; None for no name."""
        first, _, second = classes.partition("-")
        return (first, second) if first and second else None

    def classes(self, text: str) -> ClassNames | None:
        """Return the classes that a name means after the slash, all if there is nothing there.

        None for no name; of a pair those of `pair`.
        """
        names = tuple(text.split("-"))
        if not text and len(self.class_names) > 2:
            return self.class_names
        if len(names) <= 2:
            return self.pair(text)
        return names if all(names) and len(set(names)) == len(names) else None

    def words(self, classes: ClassNames) -> str:
        """Return how figures and texts call some classes."""
        is_all = len(classes) > 2 and classes == self.class_names
        return self.title if is_all else f"{self.title} {'/'.join(classes)}"

    def content(self) -> str:
        """Return a fingerprint of the images where one name may stand for different ones.

        It goes into the keys of runs, so that other images give other runs. By default it is that
        of the file which defines the source, so that what is computed from it is computed again
        when the file changes; empty for our own sources, of which there is but one set of images.
        """
        kind = type(self)
        if kind.__module__.split(".")[0] == __name__.split(".")[0]:
            return ""
        try:
            text = Path(inspect.getfile(kind)).read_bytes()
        except (OSError, TypeError):  # typed in, where there is no file to change
            return ""
        return hashlib.blake2b(text, digest_size=8).hexdigest()

    def check(self, problems: Iterable[ClassNames], size: int | None = None) -> None:
        """Raise unless the images have these classes and sizes; images not here pass."""
        location = self.location()
        if location is None or location.found:
            for classes in problems:
                for part in PARTS:
                    self.load(classes, part, size).of_classes(*classes)

    @property
    def is_brought(self) -> bool:
        """Whether users bring the images."""
        return bool(self.variable) and not self.is_downloaded

    def location(self) -> DataLocation | None:
        """Return where the images are looked for and what to do, None where they need no place."""
        if not self.variable:
            return None
        advice = f"let {self.variable} name {self.where}"
        advice += f", or give 'trueboundary run' {self.option}." if self.option else "."
        try:
            place = self._place()
        except ValueError as error:  # a variable that holds no path
            return DataLocation(None, False, f"{error}.")
        if place is None:
            return DataLocation(None, False, f"not set up; {advice}")
        return described(place, advice)

    def path(self) -> Path:
        """Return where the images are, or say in a `FileNotFoundError` how to set the place."""
        place = self._place()
        if place is None:
            raise FileNotFoundError(
                f"{self.title} is not here; let {self.variable} name {self.where}."
            )
        return place

    def _place(self) -> Path | None:
        return folder_from_environment(self.variable) if self.place is None else self.place


class MNISTSource(ImageSource):
    """Handwritten digits."""

    name, title, example = "mnist", "MNIST", "mnist/0-6"
    class_names = MNIST_CLASSES
    variable, where = MNIST_VARIABLE, "a folder of IDX files"
    is_downloaded = True
    licence = (
        "CC BY-SA 3.0, as MNIST by Y. LeCun, C. Cortes and C. J. C. Burges, from which it is "
        "derived."
    )
    n_components, n_factors = 25, 6
    n_images, image_shape = 12_000, (28, 28, 1)

    def load(self, classes: ClassNames, part: str, size: int | None = None) -> ImageData:
        """Return the digits, downloaded if need be."""
        # Its notes tell by which route it came here, which its verified content does not depend on.
        whole = load_mnist() if self.place is None else load_idx_folder(self.place)
        return replace(whole.part(part), notes=())

    def check(self, problems: Iterable[ClassNames], size: int | None = None) -> None:
        """Raise unless these are digits; MNIST is not read, for it may have to be downloaded."""
        n = len(self.class_names)
        one_each = {"all": (np.zeros((n, 1, 1, 1), np.uint8), np.arange(n))}
        for classes in problems:
            ImageData.of_parts(one_each, self.class_names).of_classes(*classes)

    def location(self) -> DataLocation:
        """Return where MNIST is or will be."""
        chosen = super().location()
        if chosen is not None and (chosen.path is not None or os.environ.get(self.variable)):
            return chosen
        return described(cache_folder() / "mnist", "it is downloaded when first needed.")


class CelebASource(ImageSource):
    """Faces, which may be used for non-commercial research only: their users bring them.

    A pair is an attribute: class 1 has it, class 0 does not.
    """

    name, title, example = "celeba", "CelebA", "celeba/Male"
    variable, where = "TRUEBOUNDARY_CELEBA", "the folder with img_align_celeba"
    option = "--celeba"
    files = ("list_attr_celeba.txt", "img_align_celeba")
    size = 64
    is_private = True
    n_images, image_shape = 160_000, (64, 64, 3)

    def load(self, classes: ClassNames, part: str, size: int | None = None) -> ImageData:
        """Return the faces with and without an attribute."""
        return _faces(self.path(), part, self.size if size is None else size).attribute(classes[1])

    def pair(self, classes: str) -> Pair | None:
        """Return the classes of an attribute."""
        return (f"not {classes}", classes) if classes and "-" not in classes else None

    def classes(self, text: str) -> Pair | None:
        """Return the classes of an attribute, which are always two."""
        return self.pair(text)

    def words(self, classes: ClassNames) -> str:
        """Return the attribute in words."""
        return classes[1].replace("_", " ")

    def content(self) -> str:
        """Return the fingerprint of the faces on this machine; empty where there are none."""
        location = self.location()
        found = location is not None and location.found
        return fingerprint_celeba(self.path()) if found else ""

    def check(self, problems: Iterable[ClassNames], size: int | None = None) -> None:
        """Read the text files and one face of each part."""
        if (location := self.location()) is not None and location.found:
            attributes = [attribute for _, attribute in problems]
            size = self.size if size is None else size
            for part in PARTS:
                load_celeba(self.path(), attributes=attributes, size=size, split=part, n_images=1)


class CIFAR10Source(ImageSource):
    """Small photographs of ten kinds of things, which their users bring."""

    name, title, example = "cifar10", "CIFAR-10", "cifar10/cat-dog"
    class_names = CIFAR10_CLASSES
    variable, where = "TRUEBOUNDARY_CIFAR10", "cifar-10-python.tar.gz or its folder"
    option = "--cifar10"
    files = CIFAR10_PLACES

    def load(self, classes: ClassNames, part: str, size: int | None = None) -> ImageData:
        """Return the images of all ten classes."""
        return _cifar10(self.path()).part(part)

    def words(self, classes: ClassNames) -> str:
        """Return the classes, whose names say enough."""
        return self.title if classes == self.class_names else "/".join(classes)


class SyntheticSource(ImageSource):
    """Soft bars, lying (0) or standing (1), at random places, with noise: for trying things out.

    Of more than two classes the k-th bar is turned by k / K of half a circle.
    """

    name, title, example = "synthetic", "bars", "synthetic"
    class_names = ("lying", "standing")
    n_components, n_factors = 2, 2
    n_images, image_shape = 300, (8, 8, 1)
    is_made_up = True
    licence = "MIT, as trueboundary."

    def load(self, classes: ClassNames, part: str, size: int | None = None) -> ImageData:
        """Return 150 bars of each class, under whichever names are asked for."""
        n, side = 150, 8
        rng = np.random.default_rng(PARTS.index(part))
        y = np.repeat(np.arange(len(classes)), n)
        places = rng.uniform(2, side - 3, size=(len(y), 1, 1))
        rows, columns = np.mgrid[:side, :side]
        if len(classes) == 2:
            across = np.where(y[:, None, None] == 0, rows, columns) - places
        else:  # turned about the middle
            angle, middle = np.pi * y[:, None, None] / len(classes), (side - 1) / 2
            across = np.cos(angle) * (rows - middle) + np.sin(angle) * (columns - middle)
            across = across - (places - middle)
        noise = 0.02 * rng.normal(size=across.shape)
        images = (np.exp(-(across**2) / 2) + noise).clip(0, 1).astype(np.float32)
        return ImageData.of_parts({part: (images[..., None], y)}, classes)

    def pair(self, classes: str) -> Pair | None:
        """Return the one pair that there is."""
        return None if classes else ("lying", "standing")

    def words(self, classes: ClassNames) -> str:
        """Return what the images show."""
        return self.title


@lru_cache(maxsize=2)  # decoding the faces takes longer than most of what is done with them
def _faces(path: Path, part: str, size: int) -> CelebA:
    return load_celeba(path, size=size, split=part)


@lru_cache(maxsize=1)  # as the faces
def _cifar10(path: Path) -> ImageData:
    return load_cifar10(path)


_OWN = (MNISTSource(), CelebASource(), CIFAR10Source(), SyntheticSource())
_SOURCES: dict[str, ImageSource] = {source.name: source for source in _OWN}
_FILES_READ: set[str] = set()


def register_image_source(source: ImageSource) -> None:
    """Make the pairs of a source known by their names.

    One of the same class and name, as when a file is read again, is replaced.
    """
    if not isinstance(source, ImageSource):
        raise TypeError(f"expected an ImageSource, got {source!r}; make one of its class.")
    if not re.fullmatch(r"[a-z0-9_]+", source.name) or not source.title:
        raise ValueError(
            f"a source needs a title and a name of a-z, 0-9 and _, got {source.title!r} and "
            f"{source.name!r}."
        )
    other = _SOURCES.get(source.name)
    if other is not None and _home(other) != _home(source):
        raise ValueError(f"{_home(other)} is called {source.name!r} already; choose another name.")
    _SOURCES[source.name] = source


def image_sources() -> Mapping[str, ImageSource]:
    """Return all sources by name, those in files that `TRUEBOUNDARY_SOURCES` names included.

    A `ValueError` says which of these files cannot be run, and why.

    Examples
    --------
    >>> from trueboundary.data import image_sources
    >>> list(image_sources())[:4]
    ['mnist', 'celeba', 'cifar10', 'synthetic']
    """
    for file in filter(None, os.environ.get(SOURCES_VARIABLE, "").split(os.pathsep)):
        if file not in _FILES_READ:
            _FILES_READ.add(file)
            try:
                _run(Path(file))
            except Exception as error:  # a file of the user's may raise anything
                _FILES_READ.discard(file)
                raise ValueError(
                    f"{SOURCES_VARIABLE}: {file} cannot be run ({type(error).__name__}: {error})"
                ) from error
    return MappingProxyType(_SOURCES)


def image_source(name: str) -> ImageSource:
    """Return the source of a name."""
    known = image_sources()
    if name not in known:
        raise ValueError(f"dataset must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def parse_pair(name: str) -> tuple[ImageSource, Pair]:
    """Return the source and the pair of classes that a name such as ``"mnist/0-6"`` stands for.

    Examples
    --------
    >>> from trueboundary.data import parse_pair
    >>> for name in ("mnist/0-6", "celeba/Wearing_Lipstick", "cifar10/cat-dog", "synthetic"):
    ...     source, pair = parse_pair(name)
    ...     print(pair, source.words(pair))
    ('0', '6') MNIST 0/6
    ('not Wearing_Lipstick', 'Wearing_Lipstick') Wearing Lipstick
    ('cat', 'dog') cat/dog
    ('lying', 'standing') bars
    """
    source, text = _parse(name)
    pair = None if source is None else source.pair(text)
    if source is None or pair is None:
        raise ValueError(_unknown(name))
    return source, pair


def parse_classes(name: str) -> tuple[ImageSource, ClassNames]:
    """Return the source and the classes, two or more, that a name of images stands for.

    It is that of a pair, or the source's alone for all of its classes, or some of them.

    Examples
    --------
    >>> from trueboundary.data import parse_classes
    >>> for name in ("mnist", "mnist/0-6-8", "mnist/0-6"):
    ...     source, classes = parse_classes(name)
    ...     print(len(classes), source.words(classes))
    10 MNIST
    3 MNIST 0/6/8
    2 MNIST 0/6
    """
    source, text = _parse(name)
    classes = None if source is None else source.classes(text)
    if source is None or classes is None:
        raise ValueError(_unknown(name))
    return source, classes


def _parse(name: str) -> tuple[ImageSource | None, str]:
    """Return the source that a name begins with, if there is one, and what follows the slash."""
    start, _, text = name.partition("/")
    return image_sources().get(start), text


def _unknown(name: str) -> str:
    known = image_sources().values()
    *most, last = (source.example or f"{source.name}/A-B" for source in known)
    return f"a data set is named like {', '.join(most)} or {last}, got {name!r}"


def find_data() -> dict[str, DataLocation]:
    """Tell where the cache and the images of each source are, without loading any.

    Examples
    --------
    >>> from trueboundary.data import find_data
    >>> sorted(find_data())[:4]
    ['cache', 'celeba', 'cifar10', 'mnist']
    """
    try:
        cache = described(cache_folder(), "it is made when something is downloaded.")
    except ValueError as error:
        cache = DataLocation(None, False, f"{error}.")
    places = {name: source.location() for name, source in image_sources().items()}
    return {"cache": cache} | {name: place for name, place in places.items() if place is not None}


def _home(source: ImageSource) -> str:
    return f"{type(source).__module__}.{type(source).__qualname__}"


def _run(file: Path) -> None:
    """Run a file as a module, under a name by which its classes can be found again."""
    name = f"trueboundary_source_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
