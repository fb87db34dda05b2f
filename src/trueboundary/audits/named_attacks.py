"""Attacks by name: ours, those of other libraries, and a stranger's in a module or a file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from trueboundary import __version__, attacks
from trueboundary.attacks import Attack, FunctionAttack, function_attack
from trueboundary.audits.subjects import named_object
from trueboundary.peers import inward, peer_attack, peer_attacks, peer_calls
from trueboundary.suggestions import nearest

__all__ = ["OURS", "FoundAttack", "as_attack", "find_attack", "find_attacks"]

#: Our attacks that search the nearest error, by name.
OURS: Mapping[str, Attack] = MappingProxyType(
    {
        "NearestError": attacks.NearestError(),
        "NearestError-3-starts": attacks.NearestError(n_restarts=3),
        "DDN": attacks.DDN(),
        "FMN": attacks.FMN(),
        "DeepFool": attacks.DeepFool(),
        "CarliniWagnerL2-3x100": attacks.CarliniWagnerL2(100, 3),
        "LogDensityGradient": attacks.LogDensityGradient(),
        "ManifoldAttack": attacks.ManifoldAttack(),
        "HopSkipJump": attacks.HopSkipJump(),
    }
)


@dataclass(frozen=True, eq=False)
class FoundAttack:
    """An attack with what tells it from others.

    Attributes
    ----------
    name : str
        What it was asked for by.
    attack : Attack
        The attack.
    library, version : str
        Where it comes from.
    identity : str
        Settings, version and a hash of the code, of other libraries that of what calls them: what
        another result may follow from.
    """

    name: str
    attack: Attack
    library: str
    version: str
    identity: str


def as_attack(attack: Any, name: str = "") -> Attack:
    """Return an attack for an `Attack`, a class of them, or a function ``(model, x, y) -> x_adv``.

    Raises
    ------
    ValueError
        If it is none of these, or a class that needs arguments.

    Examples
    --------
    >>> from trueboundary.attacks import DeepFool
    >>> as_attack(DeepFool)
    DeepFool(n_steps=50, n_classes=9, overshoot=0.02)
    """
    what = name or getattr(attack, "__name__", repr(attack))
    if isinstance(attack, Attack):
        return attack
    if isinstance(attack, type) and issubclass(attack, Attack):
        try:
            return attack()
        except TypeError as error:
            raise ValueError(
                f"{what} needs settings ({error}); give an instance of it, as in "
                f"attack = {attack.__name__}(...)."
            ) from error
    if isinstance(attack, type) or not callable(attack):
        raise ValueError(
            f"expected {what} to be a function (model, x, y) -> x_adv or an Attack, got "
            f"{'a class' if isinstance(attack, type) else type(attack).__name__}."
        )
    found = FunctionAttack(attack, name=what)
    try:
        inspect.signature(attack).bind(
            None, None, None, **dict.fromkeys(["domain"] * found.wants_domain)
        )
    except TypeError as error:
        raise ValueError(
            f"expected {what} to take three arguments, (model, x, y), and domain=... if it likes, "
            f"but it has {inspect.signature(attack)}; give the others defaults."
        ) from error
    except ValueError:  # a function of another language, whose arguments nothing tells
        pass
    return found


def find_attack(what: str) -> FoundAttack:
    """Return the attack that a user names.

    Parameters
    ----------
    what : str
        One of `OURS`, ``library:name`` of another library that is installed, or ``module:name`` or
        ``file.py:name`` of an `Attack`, a class of them or a function ``(model, x, y) -> x_adv``.
        The last two run the code that they name.

    Raises
    ------
    ValueError
        If there is no such thing, or it is no attack.

    Examples
    --------
    >>> find_attack("DDN").library
    'trueboundary'
    """
    if what in OURS:
        attack = OURS[what]
        identity = f"{attack!r} {__version__} {_code_of_attacks()}"
        return FoundAttack(what, attack, "trueboundary", __version__, identity)
    if what.endswith(".py"):
        raise ValueError(f"say which function of {what} is meant, as in {what}:attack.")
    place, _, name = what.rpartition(":")
    peers = peer_attacks()
    if place in {peer.library for peer in peers.values()}:
        return _of_peer(what)
    if not place:
        raise ValueError(
            f"there is no attack {what!r}: expected one of {', '.join(OURS)}, library:name, "
            f"module:name, file.py:name, or all{nearest(what, [*OURS, *peers]) or '.'}"
        )
    if not (name.isidentifier() and (place.endswith(".py") or _is_dotted(place))):
        raise ValueError(f"expected an attack as module:name or file.py:name, got {what!r}.")
    attack = as_attack(named_object(what), what)
    return FoundAttack(what, attack, "", "", f"{_settings(attack)} {_code(place)}")


def find_attacks(names: Sequence[str]) -> list[FoundAttack]:
    """Return attacks by their names, of which ``all`` are ours and those of installed libraries.

    Examples
    --------
    >>> [found.name for found in find_attacks(["FMN", "DDN", "FMN"])]
    ['FMN', 'DDN']
    """
    wanted: dict[str, None] = {}
    others = [
        name for name, peer in peer_attacks().items() if importlib.util.find_spec(peer.library)
    ]
    for name in names:
        wanted |= dict.fromkeys([*OURS, *others] if name == "all" else [name])
    return [find_attack(name) for name in wanted]


def _of_peer(what: str) -> FoundAttack:
    attack = peer_attack(what)
    library, version = attack.peer.library, attack.version
    identity = f"{attack.peer!r} {version} {_code_of(function_attack, peer_calls, inward)}"
    return FoundAttack(what, attack, library, version, identity)


def _is_dotted(place: str) -> bool:
    return all(part.isidentifier() for part in place.split("."))


def _settings(attack: Attack) -> str:
    """Return an attack's settings, without addresses in memory."""
    if isinstance(attack, FunctionAttack):
        return f"function {attack.name} {_code_of(function_attack)}"
    return repr(attack)


@cache
def _code_of_attacks() -> str:
    """Return a hash of the modules of our attacks, whose version changes with releases alone."""
    folder = Path(attacks.__file__).parent
    return _hash(*(file.read_bytes() for file in sorted(folder.glob("*.py"))))


@cache
def _code_of(*modules: ModuleType) -> str:
    """Return a hash of modules of ours that call attacks of others."""
    return _hash(*(Path(str(module.__file__)).read_bytes() for module in modules))


def _code(place: str) -> str:
    """Return a hash of a file, or of the file of a module."""
    if place.endswith(".py"):
        return _hash(Path(place).read_bytes())
    file = getattr(importlib.import_module(place), "__file__", None)
    return _hash(Path(file).read_bytes()) if file and file.endswith(".py") else place


def _hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]
