"""What attacks say of the paper's four classifiers, of digits and of faces alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trueboundary.experiments.base import Measurement, Row, Rows
from trueboundary.experiments.images.attack_tables import (
    chosen,
    mean_cell,
    names_of,
    nearest_distances,
)
from trueboundary.experiments.images.orderings import (
    ACCURATE,
    accurate_and_brittle,
    apart,
    extreme_share,
    ordering,
    smallest,
)
from trueboundary.experiments.summaries import Estimate, all_of, ratio_of_means
from trueboundary.runs import Run


def claims_on_four(
    runs: Mapping[str, Run], rows: Sequence[Row], *, brittle: float
) -> dict[str, Callable[[], Measurement]]:
    """Return what measures the claims that the paper makes of all data sets at once.

    The CNN counts as brittle up to the share `brittle` of the optimal classifier's mean attack.
    """
    names = names_of(rows)
    n_points = min(row["n_points"] for row in rows)

    def of(classifier: str) -> Rows:
        return chosen(rows, classifier=classifier)

    def ratios(classifier: str) -> dict[str, Estimate]:
        """Return mean attacks over the optimal classifier's, at the same points."""
        return {
            name: ratio_of_means(
                nearest_distances(runs, f"{name}/{classifier}"),
                nearest_distances(runs, f"{name}/optimal"),
            )
            for name in names
        }

    return {
        "B1.6": lambda: extreme_share(of("optimal"), "accuracy", min),
        "B1.8": lambda: accurate_and_brittle(
            of("CNN"), list(ratios("CNN").values()), accurate=ACCURATE, brittle=brittle
        ),
        "B1.9a": lambda: smallest(
            ratios("RBF SVM"), n_points, "The same points for both, by data set"
        ),
        "B1.9b": lambda: ordering(rows, _linear_is_smallest),
        "B1.9c": lambda: ordering(rows, _in_the_papers_order),
        "B2.5": lambda: extreme_share(of("RBF SVM"), "accuracy_under_attack", max),
    }


def _linear_is_smallest(row: Mapping[str, Row]) -> bool | None:
    return apart(row["linear SVM"], row["CNN"], row["RBF SVM"], row["optimal"])


def _in_the_papers_order(row: Mapping[str, Row]) -> bool | None:
    """Whether the linear SVM lies under the CNN, and that under both others."""
    return all_of(
        [
            apart(row["CNN"], row["RBF SVM"], row["optimal"]),
            apart(row["linear SVM"], row["CNN"]),
        ]
    )


def printed_cells(rows: Sequence[Row], words: str = "") -> dict[str, dict[str, list[str]]]:
    """Return our cells of Table 1 and Figure 6, by data set; rows are in the order of columns.

    Each cell ends with `words`, which say what was not as in the paper.
    """
    by_name = {name: chosen(rows, dataset=name) for name in names_of(rows)}
    return {
        "table-1": {
            name: [
                f"{_percent(r, 'accuracy')} ({_percent(r, 'accuracy_under_attack')}){words}"
                for r in own
            ]
            for name, own in by_name.items()
        },
        "figure-6": {name: [mean_cell(r) + words for r in own] for name, own in by_name.items()},
    }


def _percent(row: Row, value: str) -> str:
    return f"{100 * row[value]:.3g}"
