"""Which runs belong to which experiment: the bridge from a store to a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from trueboundary.regular_files import read_regular, reason, write_atomically
from trueboundary.runs import strict_json

#: How large an experiment is run, from the smallest.
Scale = Literal["smoke", "quick", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "quick", "paper")

#: Layout of a plan file.
PLAN_SCHEMA = 1

#: Bytes that a plan file may have.
MAX_PLAN = 16 * 2**20

# Experiments and runs are files and folders below the store's, and nothing else may be reached by
# their names.
_NAME = re.compile(r"\w[\w.-]{0,199}")
_DEVICE = re.compile(r"cpu|cuda(:\d{1,4})?")
_LARGEST_NUMBER = 2**63


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

    def __post_init__(self) -> None:
        _check_name("experiment", self.experiment)
        _check_name("scale", self.scale)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise ValueError("device must be cpu, cuda or cuda:0, cuda:1, ...")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError("seed must be a whole number, 0 or more")
        for name in ("settings", "overrides", "runs"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
                raise ValueError(f"{name} must be a table of names and values")
        _check_values([*self.settings.values(), *self.overrides.values(), self.seed])
        for folder in self.runs.values():
            _check_name("the folder of a run", folder)


class UncheckedPlan(Plan):
    """A plan read from a file of an older version, which carries no checksum."""


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{what} must be a name of letters, digits, '_', '.' and '-'")


def _check_values(values: Any) -> None:
    """Refuse numbers that no setting has and that cannot be shown."""
    for value in values:
        if isinstance(value, (list, tuple)):
            _check_values(value)
        elif isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
            raise ValueError("a setting is larger than any number of 64 bits")


def write_plan(root: Path, plan: Plan) -> Path:
    """Write ``<root>/plans/<experiment>.json``, replacing an earlier plan of the experiment."""
    file = plan_file(root, plan.experiment)
    record = {"schema": PLAN_SCHEMA, **asdict(plan)}
    write_atomically(file, strict_json.seal(record).encode())
    return file


def plan_file(root: Path, experiment: str) -> Path:
    """Return where the plan of an experiment is kept, whether it is there or not."""
    return root / "plans" / f"{experiment}.json"


def plan_files(root: Path) -> dict[str, Path]:
    """Return the plan files under `root` by the experiments that they are named after."""
    return {file.stem: file for file in sorted((root / "plans").glob("*.json"))}


def read_plan(file: Path) -> Plan:
    """Return the plan in `file`.

    Plans of older versions carry no checksum; they are returned as `UncheckedPlan`.

    Raises
    ------
    DamagedPlanError
        If it cannot be read, has changed since it was written, or is named after another
        experiment than it is of.
    """
    try:
        text = read_regular(file, MAX_PLAN).decode("utf-8")
        record = strict_json.loads(text)
        kind: type[Plan] = UncheckedPlan
        # Whatever is left of a seal, an older version wrote neither part of it.
        if strict_json.is_sealed(record) or "schema" in record:
            record, kind = strict_json.unseal(text), Plan
            if (schema := record.pop("schema", None)) != PLAN_SCHEMA:
                raise ValueError(f"it is of layout {schema!r}, this version reads {PLAN_SCHEMA}")
        if set(record) != {each.name for each in fields(Plan)}:
            raise ValueError("it lacks something or has something unknown")
        plan = kind(**{name: _tuples(value) for name, value in record.items()})
        if plan.experiment != file.stem:
            raise ValueError("it is named after another experiment")
    except (OSError, ValueError, TypeError) as error:
        raise DamagedPlanError(
            f"{file} is not a plan: {reason(error)}; the same 'trueboundary run' again replaces it "
            "and keeps what is computed"
        ) from error
    return plan


def read_plans(root: Path) -> dict[str, Plan]:
    """Return the plans under `root` by experiment.

    Raises
    ------
    DamagedPlanError
        If a file there is not a plan; `plan_files` and `read_plan` read the others all the same.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> path = write_plan(root, Plan("fig4", "quick", 0, "cpu", settings={"dims": (10, 100)}))
    >>> read_plans(root)["fig4"].settings
    {'dims': (10, 100)}
    """
    return {name: read_plan(file) for name, file in plan_files(root).items()}


def _tuples(value: Any) -> Any:
    """Turn lists back into the tuples that settings are made of."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
