"""Attacks over the suite: in memory, or through a store that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from trueboundary import __version__
from trueboundary.audits.attack_members import member, names_of_members
from trueboundary.audits.attack_trials import (
    MemberTruth,
    Trial,
    TrialRun,
    trial_of,
    truth_of,
    try_attack,
)
from trueboundary.audits.leaderboard import Known, Leaderboard, Standing
from trueboundary.audits.named_attacks import FoundAttack, as_attack, find_attack, find_attacks
from trueboundary.peers import PeerAttack
from trueboundary.progress_bars import bar_of_steps, shown_progress
from trueboundary.runs import Store

__all__ = ["audit_attack", "plan_trials", "stored_leaderboard"]

_PACKAGES = ("torch", "numpy", "scipy")


def audit_attack(
    attacks: Any | Sequence[Any] | Mapping[str, Any],
    *,
    members: Sequence[str] | None = None,
    n_points: int = 20,
    seed: int = 0,
    progress: bool | Callable[[str, float], None] | None = None,
) -> Leaderboard:
    """Run attacks over classifiers whose nearest errors are known, and rank them.

    Parameters
    ----------
    attacks : Attack, function, str, sequence or mapping
        An `Attack`, a class of them, a function ``(model, x, y) -> x_adv``, or a name that
        `find_attack` takes, such as ``"DDN"`` or ``"foolbox:DDN-100"``; a list of such, in which
        ``"all"`` stands for what `find_attacks` says; or several under names of one's own.
        A function is given a torch module that returns logits, points ``(n, *event)`` that it is
        right about and their labels; and where errors count, if it has a parameter ``domain``
        (`trueboundary.attacks.FunctionAttack`).
    members : sequence of str, optional
        Some of `MEMBERS`; all by default, which takes a few minutes for the truths alone.
    n_points : int
        Points of each member.
    seed : int
        Seed of the points.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(what, fraction)``, told of what begins.

    Returns
    -------
    Leaderboard
        Ratios of the distances found over the true ones, queries, time, failures with their
        reasons, and claims of success that do not verify.

    Raises
    ------
    ValueError
        If something is no attack, two of a list have one name, or the suite has no such member.

    Examples
    --------
    >>> from trueboundary.audits import audit_attack
    >>> def along_gradient(model, x, y):
    ...     leaf = x.clone().requires_grad_()
    ...     logits = model(leaf)
    ...     gap = logits.gather(1, 1 - y[:, None]) - logits.gather(1, y[:, None])
    ...     gap.sum().backward()
    ...     step = leaf.grad / leaf.grad.square().sum(1, keepdim=True)
    ...     return (leaf - 1.0001 * gap * step).detach()
    >>> board = audit_attack(along_gradient, members=["linear"], n_points=4)
    >>> print(board.details(board.standings[0]))
    member   median      p90  lower  found  false  fwd  back    s
    linear  1.0e-04  1.0e-04  exact    4/4      0    3     1  ...
    """
    ready = _found(attacks)
    names = names_of_members(members)
    trials: dict[str, dict[str, Trial]] = {name: {} for name in ready}
    known = {}
    with shown_progress(progress, bar_of_steps) as say:
        for place, name in enumerate(names):
            say(f"truth of {name}", place / len(names))
            made = member(name, n_points, seed)
            known[name] = Known(made.find_truth(), made.digest)
            for number, (attack_name, found) in enumerate(ready.items(), 1):
                share = (place + number / (len(ready) + 1)) / len(names)
                say(f"{attack_name} on {name}", share)
                trials[attack_name][name] = try_attack(found.attack, made)
    standings = tuple(
        Standing(name, found.library, found.version, trials[name]) for name, found in ready.items()
    )
    return Leaderboard(seed, n_points, known, standings, _versions(ready.values()))


def _found(attacks: Any) -> dict[str, FoundAttack]:
    """Return attacks, given in any form that `audit_attack` takes, by the names on the board."""
    if isinstance(attacks, Mapping):
        found = {name: _find(attack, name) for name, attack in attacks.items()}
    else:
        found = {}
        names: set[str] = set()  # of those that are not given by name, which may come twice
        for attack in attacks if isinstance(attacks, list | tuple) else [attacks]:
            by_name = isinstance(attack, str)
            name = getattr(attack, "__name__", type(attack).__name__)
            new = find_attacks([attack]) if by_name else [_find(attack, name)]
            names |= set() if by_name else {name}
            if twice := [each.name for each in new if each.name in found and each.name in names]:
                raise ValueError(
                    f"expected attacks that differ by name, got {twice[0]!r} twice; give them as "
                    "a dictionary of names and attacks."
                )
            found |= {each.name: each for each in new}
    if not found:
        raise ValueError("expected at least one attack, got none.")
    return found


def _find(attack: Any, name: str) -> FoundAttack:
    if isinstance(attack, str):
        return find_attack(attack)
    ready = as_attack(attack, name)
    if isinstance(ready, PeerAttack):
        return FoundAttack(name, ready, ready.peer.library, ready.version, "")
    ours = type(ready).__module__.startswith("trueboundary.") and not hasattr(ready, "function")
    return FoundAttack(name, ready, *(("trueboundary", __version__) if ours else ("", "")), "")


def plan_trials(
    attacks: Sequence[FoundAttack],
    *,
    members: Sequence[str] | None = None,
    n_points: int = 20,
    seed: int = 0,
) -> list[MemberTruth | TrialRun]:
    """Return the runs of a leaderboard: one for each member, and for each attack on it.

    Parameters
    ----------
    attacks : sequence of FoundAttack
        What `find_attacks` found.
    members, n_points, seed
        As for `audit_attack`.

    Examples
    --------
    >>> from trueboundary.audits import find_attacks
    >>> [run.in_words() for run in plan_trials(find_attacks(["DDN"]), members=["linear"])]
    ['truth of linear', 'DDN on linear']
    """
    truths = [MemberTruth(name, n_points, seed) for name in names_of_members(members)]
    return [
        *truths,
        *(TrialRun(a.name, a.identity, truth) for a in attacks for truth in truths),
    ]


def stored_leaderboard(
    attacks: Sequence[FoundAttack],
    store: Store,
    *,
    members: Sequence[str] | None = None,
    n_points: int = 20,
    seed: int = 0,
) -> Leaderboard:
    """Return the leaderboard of those runs that a store holds; see `plan_trials`.

    What is not there stands in `Leaderboard.missing`.

    Raises
    ------
    ValueError
        If runs saw other points than those whose distances are known.

    Examples
    --------
    >>> import tempfile
    >>> from trueboundary.audits import find_attacks
    >>> found, store = find_attacks(["DDN"]), Store(tempfile.mkdtemp())
    >>> stored_leaderboard(found, store, members=["linear"]).missing
    ('truth of linear was not run.', 'DDN on linear was not run.')
    """
    known: dict[str, Known] = {}
    trials: dict[str, dict[str, Trial]] = {attack.name: {} for attack in attacks}
    missing = []
    for config in plan_trials(attacks, members=members, n_points=n_points, seed=seed):
        run = store.load(config)
        if run is None:
            missing.append(f"{config.in_words()} was not run.")
        elif isinstance(config, MemberTruth):
            known[config.member] = Known(truth_of(run), str(run.summary["points"]))
        elif config.known.member in known:
            if run.summary["points"] != known[config.known.member].points:
                raise ValueError(
                    f"{config.in_words()} saw other points than those whose distances are known: "
                    f"the runs in {store.root} are of different machines; take another folder."
                )
            trials[config.attack][config.known.member] = trial_of(run)
    standings = tuple(
        Standing(attack.name, attack.library, attack.version, trials[attack.name])
        for attack in attacks
        if trials[attack.name]
    )
    return Leaderboard(seed, n_points, known, standings, _versions(attacks), tuple(missing))


def _versions(attacks: Iterable[FoundAttack]) -> dict[str, str]:
    """Return versions of what computes, and of the libraries that attacks come from."""
    others = {a.library: a.version for a in attacks if a.library not in ("", "trueboundary")}
    return {name: metadata.version(name) for name in _PACKAGES} | others
