"""The commands that make and read image data sets with a known optimal classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from trueboundary.cli import dataset_export
from trueboundary.cli.errors import UserError
from trueboundary.cli.json_output import Json, Quiet, say_json
from trueboundary.cli.paths import path as path_option
from trueboundary.cli.typed_commands import Command, Group
from trueboundary.plain_text import printable
from trueboundary.plurals import listed, plural
from trueboundary.typed_paths import typed_path

if TYPE_CHECKING:
    from trueboundary.data import ImageData, ImageSource


class _Commands(Group):
    order = ("make", "load", "export")


app = typer.Typer(
    name="dataset",
    cls=_Commands,
    help="Image data sets whose optimal classifier is known.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

app.command("export", cls=Command, epilog=dataset_export.EPILOG)(dataset_export.export)

ClassNames = tuple[str, ...]

#: Layout of what ``dataset load --json`` prints.
LOAD_SCHEMA = "1.0"

_CLASSES = "--classes"
_ONE_SIZE = "--size is for image folders and CelebA; these images have one size"
# The largest grey images that get the numbers of components and factors of MNIST's digits.
_SMALL_SIDE = 32


@dataclass(frozen=True)
class _Images:
    """The images of all classes, ready to be fitted, and some that are kept from the fit.

    `usual` are the numbers of components (None: one per thousand images) and factors.
    """

    x: Any
    y: Any
    held_out: Any
    image_shape: tuple[int, int, int]
    class_names: ClassNames
    source: str
    notes: tuple[str, ...]
    usual: tuple[int | None, int]
    private: bool


def _is_folder(word: str) -> bool:
    try:
        return Path(word).is_dir()
    except OSError:  # too long for a name
        return False


class _MakeCommand(Command):
    """A command whose ``--classes`` takes names up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._one_name_each(args))

    def _one_name_each(self, args: list[str]) -> list[str]:
        """Return ``--classes A B C`` as ``--classes A --classes B --classes C``, or refuse one."""
        n_values = {
            name: 0 if getattr(option, "is_flag", False) else option.nargs
            for option in self.params
            for name in (*option.opts, *option.secondary_opts)
            if name.startswith("--")
        }
        words, names, others, bare = list(args), list[str](), list[str](), list[str]()
        has_images = False
        while words:
            word = words.pop(0)
            name, has_value, value = word.partition("=")
            end = next((i for i, later in enumerate(words) if later.startswith("--")), len(words))
            if name == _CLASSES:
                if names:
                    raise UserError(f"{_CLASSES} is given twice; give all names at once")
                names = [value] * bool(has_value) + words[:end]
                if len(names) < 2:
                    raise UserError(
                        f"{_CLASSES} takes two names or more, as in {_CLASSES} cats dogs; got only "
                        f"{names[0] if names else 'none'!r}"
                        + (f" before {words[end]}" if words[end:] else "")
                    )
            elif word == "--":
                end, has_images = len(words), True
                others += [word, *words]
            elif name in n_values:
                end = 0 if has_value else n_values[name]
                others += [word, *words[:end]]
            else:
                bare += [] if word.startswith("-") else [word]
                end, has_images = 0, bool(bare)
                others.append(word)
            words = words[end:]
        if len(bare) > 1 and all(map(_is_folder, bare)):
            raise UserError(
                f"expected one folder with one subfolder of images per class, got {listed(bare)}; "
                "if these are the classes, move them into one folder and give that"
            )
        # The images may stand last, where they would be taken for one more name.
        last = [names.pop()] if len(names) > 2 and not has_images else []
        return [*(part for name in names for part in (_CLASSES, name)), *last, *others]


@app.command(
    "make",
    cls=_MakeCommand,
    epilog="[bold]Example[/]\n\n  trueboundary dataset make mnist --out digits\n\n"
    "  trueboundary dataset make mnist --classes 0 6 --out zeros-and-sixes\n\n"
    "  trueboundary dataset make celeba --celeba DIR --attribute Smiling --out faces",
)
def make(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="The name of images, such as [bold]mnist[/], or of some of their classes, such as "
            "[bold]mnist/0-6[/] or [bold]celeba/Male[/]; a folder with one subfolder per class, "
            "a folder of IDX files, or CelebA's or CIFAR-10's files.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(parser=path_option, help="Folder for the data set; must be new or empty."),
    ],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A B ...", help="Two classes or more by name; by default, all that there are."
        ),
    ] = None,
    variant: Annotated[
        Literal["symmetric", "asymmetric", "as-fitted"],
        typer.Option(help="Which covariances the mixtures get, and so how robust the optimal "
                     "classifier is."),
    ] = "symmetric",
    noise_std: Annotated[
        float, typer.Option(help="Noise of every pixel; the paper uses 0.01, 0.001 and 0.05.")
    ] = 0.01,
    equalise_spectrum: Annotated[
        bool, typer.Option("--equalise-spectrum", help="Give all components the same spread.")
    ] = False,
    outlier_std: Annotated[float, typer.Option(help="Asymmetric: noise of the outliers.")] = 0.5,
    outlier_rank: Annotated[
        int, typer.Option(help="Asymmetric: principal direction in which the outliers lie.")
    ] = 50,
    outlier_step: Annotated[
        float, typer.Option(help="Asymmetric: how far, in standard deviations.")
    ] = 1.0,
    outlier_weight: Annotated[
        float, typer.Option(help="Asymmetric: mixing weight of the outliers.")
    ] = 0.01,
    components: Annotated[
        int | None,
        typer.Option(help="Components per class; by default what is usual for images with a "
                     "name, 25 for other small grey ones or as many as there are images for, and "
                     "one for each thousand others."),
    ] = None,
    factors: Annotated[
        int | None,
        typer.Option(help="Factors per component; by default what is usual for images with a "
                     "name, 6 for other small grey ones, else 10."),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(help="Share of the images of each class that is kept from the fit, to see how "
                     "it does on others; where there are test images, those are taken."),
    ] = 0.1,
    max_iter: Annotated[int, typer.Option(help="Largest number of iterations of the fit.")] = 100,
    n_train: Annotated[int, typer.Option(help="Training images to draw.")] = 10_000,
    n_test: Annotated[int, typer.Option(help="Test images to draw.")] = 2_000,
    size: Annotated[
        int | None, typer.Option(help="Height and width of the images; 64 for CelebA.")
    ] = None,
    celeba: Annotated[
        Path | None,
        typer.Option(
            parser=path_option, help="CelebA's folder; else TRUEBOUNDARY_CELEBA says where."
        ),
    ] = None,
    attribute: Annotated[
        str | None, typer.Option(help="CelebA: the attribute that class 1 has.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit and of the images.")] = 0,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Fit a mixture to the images of each class and draw a data set from them."""
    from trueboundary.new_folders import check_new_folder
    from trueboundary.problems.image_fitting import (
        LARGEST_FIT_SEED,
        LARGEST_STD,
        LEAST_STD,
        Outlier,
        fit_image_problem,
    )

    for name, value, minimum in (
        ("--components", components, 1),
        ("--factors", factors, 0),
        ("--max-iter", max_iter, 1),
        ("--n-train", n_train, 1),
        ("--n-test", n_test, 1),
        ("--outlier-rank", outlier_rank, 1),
        ("--size", size, 1),
    ):
        if value is not None and value < minimum:
            raise UserError(f"{name} must be at least {minimum}, got {value}")
    for name, number in (("--noise-std", noise_std), ("--outlier-std", outlier_std)):
        if not LEAST_STD <= number <= LARGEST_STD:
            raise UserError(
                f"{name} must be a finite number above 0 (between {LEAST_STD:g} and "
                f"{LARGEST_STD:g}), got {number}"
            )
    if not abs(outlier_step) <= LARGEST_STD:
        raise UserError(f"--outlier-step must be a finite number, got {outlier_step}")
    if seed > LARGEST_FIT_SEED:
        raise UserError(f"--seed must be at most {LARGEST_FIT_SEED}, got {seed}")
    if not 0 < outlier_weight < 1:
        raise UserError(f"--outlier-weight must lie strictly between 0 and 1, got {outlier_weight}")
    if not 0 <= held_out < 1:
        raise UserError(f"--held-out must be at least 0 and below 1, got {held_out}")
    place = Path(_answer(lambda: str(check_new_folder(out))))

    def work() -> str:
        from trueboundary.datasets import card_text, check_room, make_dataset

        say = (lambda what: None) if quiet else _say
        outlier = Outlier(outlier_std, outlier_rank, outlier_step, outlier_weight)
        say(f"reading {images}")
        found = _read(images, tuple(classes or ()), size, celeba, attribute, seed, held_out)
        check_room(place, n_train + n_test, math.prod(found.image_shape))
        n_components, n_factors = _sizes(found, components, factors)
        of = "" if n_components is None else f" of {plural(n_components, 'component')}"
        say(f"fitting mixtures{of} to {plural(len(found.x), 'image')}")
        problem = fit_image_problem(
            found.x,
            found.y,
            image_shape=found.image_shape,
            variant=variant,
            noise_std=noise_std,
            equalise_spectrum=equalise_spectrum,
            outlier=outlier,
            class_names=found.class_names,
            n_components=n_components,
            n_factors=n_factors,
            max_iter=max_iter,
            seed=seed,
            held_out=found.held_out,
            private=found.private,
        )
        made = make_dataset(
            problem,
            out,
            n_train=n_train,
            n_test=n_test,
            seed=seed,
            source=found.source,
            notes=found.notes,
            progress=say,
        )
        return card_text(made.card, escape=printable)

    card = _answer(work)
    if not quiet:
        typer.echo(card)
    typer.echo(f"Data set: {printable(str(out))}")


@app.command("load", cls=Command, epilog="[bold]Example[/]\n\n  trueboundary dataset load digits")
def load(
    folder: Annotated[
        Path, typer.Argument(parser=path_option, metavar="DIR", help="A data set's folder.")
    ],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check every file of a data set and print its card."""
    from trueboundary.datasets import card_text, load_dataset

    if folder.is_file():
        raise UserError(f"{folder} is a file; expected the folder of a data set")
    card = _answer(lambda: load_dataset(folder).card)
    if as_json:
        say_json("dataset load", LOAD_SCHEMA, folder=str(folder), is_intact=True, card=card)
        return
    if not quiet:
        typer.echo(card_text(card, escape=printable))
    typer.echo("Every file is as it was written.")


_Answer = TypeVar("_Answer")


def _answer(work: Callable[[], _Answer]) -> _Answer:
    """Do the work; what is wrong with the input becomes one sentence."""
    try:
        return work()
    except (UserError, ValueError, OSError) as error:
        raise UserError(printable(str(error))) from error


def _say(what: str) -> None:
    typer.echo(f"{printable(what)} ...", err=True)


@contextmanager
def _of_source(source: ImageSource) -> Iterator[None]:
    """Say of a source that is not ours what went wrong in its code, in one sentence."""
    try:
        yield
    except (OSError, ValueError, UserError):  # sentences already
        raise
    except Exception as error:
        raise UserError(
            f"{type(source).__name__}, the source of {source.name}, cannot load its images "
            f"({type(error).__name__}: {error})"
        ) from error


def _read(
    images: str,
    chosen: ClassNames,
    size: int | None,
    celeba: Path | None,
    attribute: str | None,
    seed: int,
    held_out: float,
) -> _Images:
    from trueboundary.datasets import against

    source, named = _named(images, celeba, attribute)
    if source is None:
        train, test, origin = _from_folder(typed_path(images), size)
        classes = chosen or train.class_names
    else:
        if size is not None and source.size is None:
            raise UserError(_ONE_SIZE)
        if chosen and named is not None:
            raise UserError(f"{images} names its classes already; leave {_CLASSES} out")
        classes = named or chosen or source.class_names
        if not classes:
            raise UserError(f"name the classes of {source.title} with {_CLASSES} A B ...")
        with _of_source(source):
            source.check([classes], size)  # what is wrong is said before all images are read
            train = source.load(classes, "train", size)
            test = source.load(classes, "test", size) if held_out > 0 else None
        origin = source.title
        if source.size is not None:
            origin += f" at {train.event_shape[1]} x {train.event_shape[2]}"
    x, y = train.of_classes(*classes)
    n_images, chosen_text = len(x), against(classes)
    if len(classes) > 2:
        chosen_text = f"classes {chosen_text}"
    unseen: Any = (x[:0], y[:0])
    # A class without test images has the share of its other ones.
    if test is not None and held_out > 0 and all(map(test.has, classes)):
        unseen = test.of_classes(*classes)
    elif (kept := _kept_from_fit(y, held_out, seed)).any():
        unseen, x, y = (x[kept], y[kept]), x[~kept], y[~kept]
    return _Images(
        x=x,
        y=y,
        held_out=unseen if len(unseen[0]) else None,
        image_shape=train.event_shape,
        class_names=classes,
        source=f"{origin}, {chosen_text}, {plural(n_images, 'image')}",
        notes=train.notes,
        usual=_usual_sizes(source, train.event_shape),
        private=source is not None and source.is_private,
    )


def _named(
    images: str, celeba: Path | None, attribute: str | None
) -> tuple[ImageSource | None, ClassNames | None]:
    """Return the source that is meant, None for other images' folder, and the classes if named."""
    from trueboundary.data import image_sources, parse_classes, parse_pair
    from trueboundary.data.sources import CelebASource

    known, path = image_sources(), typed_path(images)
    source: ImageSource | None = known.get(images.lower())
    named: ClassNames | None = None
    if celeba is not None:
        if images.partition("/")[0].lower() != CelebASource.name:
            raise UserError(f"--celeba is for CelebA: say 'dataset make celeba', not {images!r}")
        source = CelebASource(celeba)
        named = parse_classes(images)[1] if "/" in images else None
    elif source is None and path.exists():
        names = {path.name, *(entry.name for entry in (path.iterdir() if path.is_dir() else ()))}
        source = next((replace(s, place=path) for s in known.values() if names & {*s.files}), None)
    elif source is None and images.partition("/")[0] in known:
        source, named = parse_classes(images)
    elif source is None:
        raise UserError(
            f"there are no images at {path}: expected {', '.join(known)}, or a folder with one "
            "subfolder of images per class, such as photos/cats and photos/dogs in photos"
        )
    if attribute is not None:
        if not isinstance(source, CelebASource):
            raise UserError("--attribute is for CelebA: say 'dataset make celeba --celeba PATH'")
        _, named = parse_pair(f"{source.name}/{attribute}")
    if isinstance(source, CelebASource) and source.path() and named is None:
        raise UserError("CelebA needs an attribute, for instance --attribute Smiling")
    return source, named


def _from_folder(path: Path, size: int | None) -> tuple[ImageData, ImageData | None, str]:
    """Return training images, test images if there are any, and what they are called."""
    from trueboundary.data import load_idx_folder, load_image_folder

    if path.is_dir() and any("idx3" in e.name and "ubyte" in e.name for e in path.iterdir()):
        if size is not None:
            raise UserError(_ONE_SIZE)
        whole, origin = load_idx_folder(path), f"the IDX files in {path.name}"
    else:
        whole, origin = load_image_folder(path, size=size), f"the images in {path.name}"
    train, test = (whole.part(p) if p in whole.split_names else None for p in ("train", "test"))
    return whole if train is None else train, test, origin


def _usual_sizes(source: ImageSource | None, shape: tuple[int, int, int]) -> tuple[int | None, int]:
    """Return the source's numbers of components and factors, or those of images that look alike."""
    from trueboundary.data.sources import ImageSource, MNISTSource

    like: Any = source
    if like is None:
        like = MNISTSource if shape[0] == 1 and max(shape) <= _SMALL_SIDE else ImageSource
    return like.n_components, like.n_factors


def _kept_from_fit(y: Any, share: float, seed: int) -> Any:
    """Return which images are not fitted: a share of each class, yet one where there are two."""
    import numpy as np

    kept = np.zeros(len(y), bool)
    rng = np.random.default_rng(seed)
    for label in range(int(y.max()) + 1):
        of_class = np.flatnonzero(y == label)
        wanted = max(1, round(share * len(of_class))) if share > 0 else 0
        kept[rng.permutation(of_class)[: min(wanted, len(of_class) - 1)]] = True
    return kept


def _sizes(found: _Images, components: int | None, factors: int | None) -> tuple[Any, int]:
    """Return the numbers of components and factors, with a word where images are few for them."""
    from trueboundary.datasets import few_images, most_components

    factors = found.usual[1] if factors is None else factors
    if components is None and found.usual[0] is not None:
        fewest = min(int((found.y == label).sum()) for label in range(len(found.class_names)))
        components = min(found.usual[0], most_components(fewest, factors))
    dim = math.prod(found.image_shape)
    if factors > dim:
        raise UserError(f"--factors must be at most the number of pixels, {dim}, got {factors}")
    for label, name in enumerate(found.class_names):
        n_images = int((found.y == label).sum())
        if components is not None and components > n_images:
            raise UserError(
                f"{components} components need at least as many images of class {name!r}, got "
                f"{n_images} to fit; give fewer --components"
            )
        each = n_images / (components or max(1, round(n_images / 1000)))
        if (caution := few_images(name, each, factors)) is not None:
            typer.echo(f"caution: {printable(caution)}", err=True)
    return components, factors
