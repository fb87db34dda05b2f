"""Fitted scikit-learn classifiers in files that skops wrote: no pickles, and no unknown types."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from trueboundary.plain_text import printable
from trueboundary.regular_files import read_regular, reason

__all__ = ["MAX_FILE", "MAX_UNPACKED", "load_skops"]

#: Bytes that such a file may have, and its content.
MAX_FILE, MAX_UNPACKED = 2**30, 2**31
_MOST_PARTS = 100_000
_MOST_NAMED = 5  # unknown types that are named

# Of scikit-learn, and such as skops leaves to its users: they run no code of the file, but compiled
# code that looks things up in their arrays, which are therefore checked once they are read.
_CHECKED = (
    "sklearn.tree._tree.Tree",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
)
_HARMLESS = (
    *(f"sklearn.metrics._dist_metrics.{name}Distance64"
      for name in ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")),
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)  # fmt: skip


def load_skops(file: str | Path) -> Any:
    """Return what a file of ``skops.io.dump`` holds, if it is of known types alone.

    Such a file names the types that its content is made of. Those of scikit-learn, NumPy, SciPy
    and Python that skops itself trusts are made, and scikit-learn's trees (of decisions and of
    neighbours), whose arrays are checked; whatever else a file names is refused, before anything of
    it is made or imported.

    Parameters
    ----------
    file : str or Path
        At most 1 GiB, and 2 GiB unpacked.

    Raises
    ------
    ImportError
        If skops is not installed.
    ValueError
        If it is no such file, is too large or names other types.
    """
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "a .skops file needs the package skops: pip install 'trueboundary[skops]'."
        ) from error
    file = Path(file)
    try:
        content = read_regular(file, MAX_FILE)
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            entries = parts.infolist()
        n_bytes = sum(entry.file_size for entry in entries)
        if n_bytes > MAX_UNPACKED or len(entries) > _MOST_PARTS:
            raise ValueError(
                f"it unpacks to {n_bytes:,} bytes in {len(entries):,} parts, and at most "
                f"{MAX_UNPACKED:,} in {_MOST_PARTS:,} are read"
            )
        known = {*_CHECKED, *_HARMLESS}
        unknown = set(skops.io.get_untrusted_types(data=content)) - known
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}.") from None
    except Exception as error:  # of a damaged file anything may be raised
        why = " ".join(reason(error).split())
        raise ValueError(f"{file} is no file of skops.io.dump ({printable(why)}).") from error
    if unknown:
        named = ", ".join(map(printable, sorted(unknown)[:_MOST_NAMED]))
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        raise ValueError(
            f"{file} holds the types {named}{more}, which are none that skops trusts; load it "
            "yourself if you trust it, and give trueboundary.audit the classifier."
        )
    try:
        found = skops.io.loads(content, trusted=sorted(known))
        _check_trees(found)
    except Exception as error:
        why = " ".join(reason(error).split())
        raise ValueError(
            f"{file} cannot be read ({type(error).__name__}: {printable(why)}); was it written "
            "with another version of scikit-learn?"
        ) from error
    return found


def _check_trees(found: Any) -> None:
    """Raise unless all trees within something lead from node to node of their own."""
    seen: set[int] = set()
    waiting = [found]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
        if kind in _CHECKED:
            sound = _is_sound_tree if kind == _CHECKED[0] else _is_sound_index
            if not sound(thing):
                raise ValueError(f"its {type(thing).__name__} leads out of its own nodes")
        elif isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, (list, tuple, set)):
            waiting += thing
        elif isinstance(thing, np.ndarray):
            waiting += thing.ravel().tolist() if thing.dtype == object else []
        else:
            waiting += getattr(thing, "__dict__", {}).values()


def _is_sound_tree(tree: Any) -> bool:
    """Whether each node of a decision tree leads to later ones, and asks for a known feature."""
    n = tree.node_count
    if not 0 < n <= tree.capacity or len(tree.value) != n:
        return False
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    inner = left != -1
    own = np.arange(n)[inner]
    return all(
        bool(((child[inner] > own) & (child[inner] < n)).all()) for child in (left, right)
    ) and bool(((feature[inner] >= 0) & (feature[inner] < tree.n_features)).all())


def _is_sound_index(tree: Any) -> bool:
    """Whether the nodes of a tree of neighbours hold points that there are."""
    data, rows, nodes, bounds, _, n_levels, n_nodes, *_ = tree.__getstate__()
    n = len(data)
    return (
        0 < n_levels < 63
        and n_nodes == 2**n_levels - 1 == len(nodes) == bounds.shape[1]
        and bounds.shape[2] == data.shape[1]
        and np.array_equal(np.sort(rows), np.arange(n))
        and bool(((nodes["idx_start"] >= 0) & (nodes["idx_end"] <= n)).all())
        and bool((nodes["idx_start"] <= nodes["idx_end"]).all())
    )
