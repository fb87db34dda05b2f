"""Which runs belong to which experiment: the bridge from a store to a report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trueboundary.runs import strict_json


class DamagedPlanError(RuntimeError):
    """A plan file does not hold a plan."""


@dataclass(frozen=True)
class Plan:
    """What was asked of an experiment and the folders its runs go to.

    Parameters
    ----------
    experiment : str
        Its id.
    scale : str
        ``"smoke"``, ``"quick"`` or ``"paper"``.
    seed : int
        Seed of all its runs.
    device : str
        Device of all its runs.
    settings : mapping
        Every setting with the value that was used.
    overrides : mapping
        Those settings that were given on the command line in place of the scale's.
    runs : mapping of str to str
        Folder of each run in the store, by the name the experiment's analysis knows it under.
    """

    experiment: str
    scale: str
    seed: int
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)


def write_plan(root: Path, plan: Plan) -> Path:
    """Write ``<root>/plans/<experiment>.json``, replacing an earlier plan of the experiment."""
    file = root / "plans" / f"{plan.experiment}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_text(strict_json.dumps(asdict(plan)), encoding="utf-8")
    os.replace(temporary, file)
    return file


def read_plans(root: Path) -> dict[str, Plan]:
    """Return the plans under `root` by experiment.

    Raises
    ------
    DamagedPlanError
        If a file there is not a plan.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> path = write_plan(root, Plan("fig4", "quick", 0, "cpu", settings={"dims": (10, 100)}))
    >>> read_plans(root)["fig4"].settings
    {'dims': (10, 100)}
    """
    plans = {}
    for file in sorted((root / "plans").glob("*.json")):
        try:
            content = strict_json.loads(file.read_text(encoding="utf-8"))
            plan = Plan(
                **{
                    **content,
                    "settings": _tuples(content["settings"]),
                    "overrides": _tuples(content["overrides"]),
                    "runs": dict(content["runs"]),
                }
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedPlanError(
                f"{file} is not a plan ({type(error).__name__}: {error}); remove it and run the "
                "experiment again"
            ) from error
        plans[plan.experiment] = plan
    return plans


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn lists back into the tuples that settings are made of."""
    return {name: _tuple(value) for name, value in settings.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
