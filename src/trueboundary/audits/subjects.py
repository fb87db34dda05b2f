"""What is audited, found by what a user types: a network in a file, and a problem by its name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import joblib
import torch
from torch import Tensor, nn

from trueboundary.audits.onnx_files import load_onnx
from trueboundary.audits.skops_files import load_skops
from trueboundary.classifiers import LabelsAlone, from_sklearn, labels_of_sklearn
from trueboundary.classifiers.adapters import CallableClassifier
from trueboundary.plurals import listed
from trueboundary.regular_files import open_regular, reason
from trueboundary.suggestions import nearest

if TYPE_CHECKING:
    from trueboundary.classifiers import Classifier, ClassifierModule
    from trueboundary.problems import Problem

__all__ = [
    "Estimator",
    "Subject",
    "is_estimator",
    "load_problem",
    "load_subject",
    "subject_of_estimator",
]

_TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")
_EXPORTED = ".pt2"
_SKOPS, _ONNX = ".skops", ".onnx"
_MOST_LISTED = 8  # of the names that a file defines
_N_CHECKED = 50  # points of each class at which a module is compared with what it stands for
_REFUSED = (".pkl", ".pickle", ".joblib")
_EXPECTED = (
    "expected module:name, file.py:name, a file of TorchScript, torch.export, ONNX or skops, or a "
    "name that 'trueboundary zoo' lists"
)


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier to be audited, with the name that it was asked for by.

    Attributes
    ----------
    classifier : callable
        The classifier.
    name : str
        What was typed.
    notes : tuple of str
        What is to be known of how it was loaded, each a sentence.
    identity : str
        A digest of what its outputs alone may not tell apart, such as its file.
    """

    classifier: Classifier
    name: str
    notes: tuple[str, ...] = ()
    identity: str = ""


def load_subject(
    what: str, *, weights: str | Path | None = None, problem: Problem | None = None
) -> Subject:
    """Return the classifier that a user names.

    Parameters
    ----------
    what : str
        ``module:name`` or ``file.py:name``: a classifier, a module, or a function or class without
        required arguments that returns one; a TorchScript file (``.pt``, ``.pth``, ``.ts``); a file
        of ``torch.export`` (``.pt2``); a fitted scikit-learn classifier in a file of skops
        (``.skops``); an ONNX file (``.onnx``); or the name of a classifier of the zoo.
    weights : str or Path, optional
        A safetensors file with the state of the module that ``what`` names.
    problem : Problem, optional
        At whose points a module that stands for something else is compared with it; at random
        ones by default. What refuses its points as vectors and takes them as images gets images.

    Raises
    ------
    ValueError
        If there is no such thing, or it is no classifier.

    Notes
    -----
    All of these but the zoo, skops and ONNX run the code that they name or hold: load only what you
    trust. Pickles are refused, and of skops all types that it does not trust.

    Examples
    --------
    >>> from trueboundary.audits import load_subject
    >>> load_subject("torch.nn:Identity").classifier
    Identity()
    """
    place, _, name = what.rpartition(":")
    suffix = Path(what).suffix.lower()
    if suffix in _REFUSED:
        raise ValueError(
            f"{what} is a pickle, which runs whatever code it holds; store the network as "
            "safetensors with a factory, or export it with torch.export.save."
        )
    if place and name.isidentifier():
        found = _called(named_object(what), what)
        if is_estimator(found):
            return replace(subject_of_estimator(found, problem), name=what)
        if weights is not None:
            found = _with_weights(found, Path(weights), what)
        is_file = place.endswith(".py")
        notes = (f"{what} ran code of its file.",) if is_file else ()
        identity = _digest(Path(place)) if is_file else what
        return _of_images(Subject(found, what, notes, identity), problem)
    if weights is not None:
        raise ValueError(f"weights belong to a factory, module:name or file.py:name; got {what}.")
    if suffix in (*_TORCHSCRIPT, _EXPORTED):
        stored = _stored(Path(what))
        note = f"Loading {what} ran the code it holds."
        return _of_images(Subject(stored, what, (note,), _digest(Path(what))), problem)
    if suffix == _SKOPS:
        return replace(subject_of_estimator(load_skops(what), problem), name=what)
    if suffix == _ONNX:
        found, note = load_onnx(what, problem)
        return Subject(found, what, (note,), _digest(Path(what)))
    return Subject(_from_zoo(what), what)


def _of_images(subject: Subject, problem: Problem | None) -> Subject:
    """Return a subject that gets a problem's points as images, if those are what it wants."""
    if not isinstance(subject.classifier, torch.nn.Module):
        return subject
    shaped = given_images(subject.classifier, problem)
    if shaped is subject.classifier:
        return subject
    shape = shaped[0].unflattened_size  # type: ignore[index]
    size = " x ".join(map(str, shape))
    note = f"{subject.name} takes images, and gets the points as {size}."
    return replace(
        subject,
        classifier=shaped,
        notes=(*subject.notes, note),
        identity=f"{subject.identity} {shape}",
    )


def given_images(network: torch.nn.Module, problem: Problem | None) -> torch.nn.Module:
    """Return a module that gives a network points as images, if it takes these and no vectors."""
    from trueboundary.classifiers import dtype_of, evaluated, outputs
    from trueboundary.problems import ImageProblem

    if not isinstance(problem, ImageProblem):
        return network
    rows = _checked(problem, 0)[:2].to(dtype_of(network))
    shaped = torch.nn.Sequential(torch.nn.Unflatten(1, problem.image_shape), network)
    shaped.training = network.training

    def takes(classifier: Classifier) -> bool:
        try:
            with evaluated(classifier), torch.no_grad():
                outputs(classifier, rows, allow_nan=True)
        except (Exception, SystemExit):  # whatever it says of points that it does not take
            return False
        return True

    return shaped if not takes(network) and takes(shaped) else network


def subject_of_estimator(estimator: Any, problem: Problem | None = None) -> Subject:
    """Return a fitted scikit-learn classifier as it is audited: a module, or labels alone.

    Parameters
    ----------
    estimator : object
        See `trueboundary.classifiers.from_sklearn`.
    problem : Problem, optional
        At whose points the module is compared with it; at random ones by default.

    Raises
    ------
    ValueError
        If it is no fitted classifier, takes other points than the problem's, or has its classes in
        another order.
    """
    by_labels = labels_of_sklearn(estimator)
    name = type(estimator).__name__
    wanted = tuple(getattr(problem, "class_names", None) or ())
    own = tuple(map(str, estimator.classes_))
    if own != wanted and set(own) == set(wanted):  # else every class would be taken for another
        raise ValueError(
            f"the {name} has the classes in the order {', '.join(own)}, and the problem has "
            f"{', '.join(wanted)}; fit it to the labels 0 to {len(own) - 1} in that order."
        )
    if problem is None:
        rows = torch.randn(
            _N_CHECKED,
            by_labels.dim,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(0),
        )
    else:
        rows = torch.cat([_checked(problem, label) for label in range(problem.n_classes)])
        if rows.shape[1] != by_labels.dim:
            raise ValueError(
                f"the {name} was fitted to points of {by_labels.dim} numbers, and the problem's "
                f"have {rows.shape[1]}."
            )
    try:
        module: ClassifierModule = from_sklearn(estimator, rows)
    except (TypeError, ValueError) as error:
        note = "" if isinstance(error, TypeError) else f", since {reason(error)}"
        said = (f"The {name} is audited by its labels alone{note}.",)
        return Subject(by_labels, name, said, joblib.hash(estimator))
    notes = (f"The {name} {module.why}.",) if isinstance(module, LabelsAlone) else ()
    return Subject(module, name, notes, joblib.hash(estimator))


def _digest(file: Path) -> str:
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(problem: Problem, label: int) -> Tensor:
    """Return points of one class as rows, at which modules are compared."""
    block = problem.block(
        0, seed=0, block_size=_N_CHECKED, label=label, dtype=torch.float64, purpose="outputs"
    )
    return block[0].flatten(1)


class Estimator(Protocol):
    """What is a classifier in scikit-learn's manner."""

    def predict(self, points: Any, /) -> Any:
        """Return the class of each point."""


def is_estimator(found: Any) -> bool:
    """Whether something is a classifier in scikit-learn's manner, fitted or not."""
    return not callable(found) and hasattr(found, "predict")


def load_problem(where: str | Path | Problem) -> Problem:
    """Return the problem that a user names.

    Parameters
    ----------
    where : str, Path or Problem
        ``spheres``, the paper's, in 500 dimensions, or ``spheres-d100`` in as many as it says;
        the folder of a data set; the name of a problem of the zoo, of which ``digits`` are all ten;
        or a problem, as it is.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from trueboundary.audits import load_problem
    >>> load_problem("spheres-d20")
    ConcentricSpheres(dim=20, radius=1.3)
    """
    from trueboundary import zoo
    from trueboundary.datasets import load_dataset
    from trueboundary.problems import ConcentricSpheres, Problem
    from trueboundary.suggestions import nearest

    if isinstance(where, Problem):
        return where
    text = str(where)
    if text == "spheres":
        return ConcentricSpheres(500)
    dim = text.removeprefix("spheres-d")
    if dim != text and dim.isdecimal():
        return ConcentricSpheres(int(dim))
    if Path(text).is_dir():
        _check_folder(Path(text))
        found = load_dataset(text)
        if found.is_private:  # which folders of earlier versions say in their card alone
            found.problem.report["private"] = True
        return found.problem
    known = zoo.names("problem")
    text = {"digits": "mnist-symmetric"}.get(text, text)
    if text in known:
        return zoo.problem(text)
    raise ValueError(
        f"there is no problem {text!r}: expected spheres, digits, the folder of a data set "
        f"(trueboundary dataset make), or one of {', '.join(known)}{nearest(text, known) or '.'}"
    )


def _check_folder(folder: Path) -> None:
    """Say of a folder of images what makes a problem of it."""
    if (folder / "card.json").exists():
        return
    classes = [entry for entry in folder.iterdir() if entry.is_dir()]
    make = f"trueboundary dataset make {folder} --out DIR"
    if len(classes) == 1:
        raise ValueError(
            f"{folder} has one class, {classes[0].name}, and no problem has fewer than two; sort "
            f"the images into subfolders named after their classes, then '{make}'."
        )
    if classes:
        raise ValueError(
            f"{folder} holds no data set, though subfolders; if these are classes of images, make "
            f"one with '{make}'."
        )


def named_object(what: str) -> Any:
    """Return an object of a module or of a file of Python, given as ``place:name``."""
    place, _, name = what.rpartition(":")
    module = _module_of(Path(place)) if place.endswith(".py") else _imported(place, what)
    if not hasattr(module, name):
        own = _defined_in(module)
        if not own:
            raise ValueError(f"{place} has no {name!r}, and defines no function or class itself.")
        more = len(own) - _MOST_LISTED
        names = own if more < 2 else [*own[:-more], f"{more} more"]
        hint = nearest(name, own) or "."
        raise ValueError(f"{place} has no {name!r}; it defines {listed(names)}{hint}")
    return getattr(module, name)


def _defined_in(module: ModuleType) -> list[str]:
    """Return names of functions and classes that a module defines itself, and of its networks."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            getattr(value, "__module__", None) == module.__name__
            if isinstance(value, type | FunctionType)
            else isinstance(value, nn.Module)
        )
    ]


def _imported(name: str, what: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{_EXPECTED}, got {what!r}.")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"there is no module {name!r} ({error}); is it installed, or its folder in PYTHONPATH?"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} stops with {type(error).__name__}: {error}") from error


def _module_of(file: Path) -> ModuleType:
    if not file.is_file():
        raise ValueError(f"there is no file {file}.")
    spec = importlib.util.spec_from_file_location(f"_audited_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no file of Python.")
    module = importlib.util.module_from_spec(spec)
    # What lies beside the file can be imported by it, as when it is run.
    beside = str(file.resolve().parent)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} stops with {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(beside)
    return module


def _called(found: Any, what: str) -> Classifier:
    """Return a classifier itself, or what a factory returns."""
    from torch import nn

    if isinstance(found, nn.Module):
        return found
    if is_estimator(found):
        return found  # type: ignore[no-any-return]
    if not callable(found):
        raise ValueError(
            f"expected {what} to be a classifier or a factory, got {type(found).__name__}."
        )
    if not _needs_nothing(found):
        if isinstance(found, type):
            raise ValueError(f"{what} needs arguments; give a function that makes one of it.")
        return found  # type: ignore[no-any-return]
    try:
        made = found()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{what} stops with {type(error).__name__}: {error}") from error
    if not callable(made) and not is_estimator(made):
        raise ValueError(f"{what} returned a {type(made).__name__}; expected a classifier.")
    return made  # type: ignore[no-any-return]


def _needs_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without arguments; a classifier takes points."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in optional for p in parameters)


def _with_weights(module: Any, file: Path, what: str) -> Classifier:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch import nn

    if not isinstance(module, nn.Module):
        raise ValueError(f"{what} is no torch module, so that it has no weights to load.")
    if not file.exists():
        raise ValueError(f"there is no file {file}.")
    try:
        with open_regular(file):  # of a pipe nothing ever comes
            pass
        state = load_file(file)
        _holder(module, state, what).load_state_dict(state)
    except SafetensorError as error:
        raise ValueError(
            f"{file} does not hold the weights of {what}: expected a file of safetensors, as "
            'safetensors.torch.save_file(network.state_dict(), "weights.safetensors") writes it, '
            f"got another ({reason(error)})."
        ) from error
    except (OSError, RuntimeError) as error:
        why = " ".join(reason(error).split())
        raise ValueError(f"{file} does not hold the weights of {what}: {why}") from error
    return module


def _holder(module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> torch.nn.Module:
    """Return the module that a state belongs to: this one, or what `as_classifier` made it of."""
    wrapped = "function."
    while isinstance(module, CallableClassifier) and isinstance(module.function, torch.nn.Module):
        if set(state) == set(module.state_dict()):
            break
        module = module.function
    if not set(state) == set(module.state_dict()) and all(n.startswith(wrapped) for n in state):
        raise RuntimeError(
            "it holds those of what as_classifier makes of a network, whose classes and "
            f"preprocessing stand in the code alone; name that in place of {what}"
        )
    return module


def _stored(file: Path) -> Classifier:
    import torch

    if not file.is_file():
        raise ValueError(f"there is no file {file}.")
    try:
        if file.suffix.lower() == _EXPORTED:
            if not zipfile.is_zipfile(file):  # of which torch logs a traceback
                raise ValueError("it is no archive")
            with warnings.catch_warnings():  # torch 2.10 warns of how it reads its own files
                warnings.filterwarnings("ignore", "The given buffer is not writable")
                return torch.export.load(file).module()
        return torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-any-return, no-untyped-call]
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"{file} holds no TorchScript or torch.export program ({reason}); a state_dict needs "
            "the module it belongs to: give file.py:factory and the weights as safetensors."
        ) from error


def _from_zoo(name: str) -> Classifier:
    from trueboundary import zoo
    from trueboundary.suggestions import nearest

    known = zoo.names("classifier")
    if name not in known:
        if Path(name).is_dir():
            raise ValueError(f"{name} is a folder; {_EXPECTED}.")
        if name.endswith(".py"):
            raise ValueError(f"say which object of {name} is meant, as in {name}:network.")
        if Path(name).is_file():
            raise ValueError(f"{name} is of no kind that is read; {_EXPECTED}.")
        hint = nearest(name, known) or "."
        raise ValueError(f"there is no classifier {name!r}: {_EXPECTED}{hint}")
    return zoo.load(name)
