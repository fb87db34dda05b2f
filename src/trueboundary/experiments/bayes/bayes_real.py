"""Figure 12 and Table 2: what holds on generated images, asked of real ones.

The caption of the manuscript's Table 2 says that its accuracies are "for the robust CNNs", which
the journal version drops. Networks are therefore trained in both ways: as the other figures' are,
and by the one adversarial training that the manuscript has, TRADES with beta = 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.bayes.published import printed_table, size_words
from trueboundary.experiments.formats import counted
from trueboundary.experiments.images import attack_tables
from trueboundary.experiments.images.attack_tables import (
    chosen,
    describe_row,
    names_of,
    share,
    with_paper,
)
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import classifier_colours, draw_groups
from trueboundary.experiments.images.image_plans import CLASSIFIERS as ALL_CLASSIFIERS
from trueboundary.experiments.images.image_plans import (
    Settings,
    attacks_on,
    fresh_cnn,
    image_task,
    planned_classifiers,
    planned_cnn,
    under,
    words_of,
)
from trueboundary.experiments.images.orderings import apart, decide, ordering
from trueboundary.experiments.images.trained_classifiers import Accuracy
from trueboundary.experiments.summaries import all_of, share_measurement
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.plurals import listed, plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Real images have no optimal classifier.
CLASSIFIERS = ALL_CLASSIFIERS[1:]
#: What a network that is tested on real images was trained on.
TRAINED_ON = ("real", "generated")
#: The manuscript's only weight of the robust term (D.3).
ROBUST_BETA = 10.0
#: What the runs of networks are called that are trained as usual, and adversarially.
TRANSFER, ROBUST = "transfer", "robust"
#: The RBF SVM counts as robust where its mean attack is this many times the others'.
_FACTOR = 2.0


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Train on real and on generated images, test and attack on real ones."""
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        generated = image_task(name, settings, seed)
        real = image_task(name, settings, seed, variant="real")
        on_real = planned_classifiers(real, settings, seed, device)
        for classifier in CLASSIFIERS:
            found = attacks_on(real, on_real[classifier], settings, seed)
            runs |= under(f"{name}/{classifier}", found)
        cnns = (on_real["CNN"], planned_cnn(generated, settings, seed, device))
        for trained_on, cnn in zip(TRAINED_ON, cnns, strict=True):
            test = Accuracy(real, cnn, settings["n_test"], seed=seed)
            runs[f"{name}/{TRANSFER}/{trained_on}"] = test
    for name in _robust_names(settings):
        sizes = {name: settings[name] for name in ("n_samples", "width")}
        generated = image_task(name, settings, seed)
        real = image_task(name, settings, seed, variant="real")
        fresh = fresh_cnn(generated, settings, seed, device, **sizes, beta=ROBUST_BETA)
        # There are no fresh photographs: as many steps go over those that there are.
        over = replace(fresh, task=real, n_train=settings["n_train"])
        for trained_on, cnn in zip(TRAINED_ON, (over, fresh), strict=True):
            test = Accuracy(real, cnn, settings["n_test"], seed=seed)
            runs[f"{name}/{ROBUST}/{trained_on}"] = test
    return runs


@unless_images_are_missing("bayes-real")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Compare the two trainings on the same real images, and the attacks on three classifiers."""
    names = settings["dataset"]
    transfers = transfer_rows(runs, names)
    robust = transfer_rows(runs, _robust_names(settings), ROBUST)
    rows = attack_rows(runs, names)
    remarks = [
        f"{words_of(row['dataset'])}: accuracy {row['accuracy']:.4f} [{row['accuracy_low']:.4f}, "
        f"{row['accuracy_high']:.4f}] on {row['n_test']:,} real test images after {training} on "
        f"{row['trained_on']} ones."
        for training, found in (("training", transfers), ("adversarial training", robust))
        for row in found
    ]
    remarks += [describe_row(row, f"real images, {row['classifier']}") for row in rows]
    claims = {
        "B1.13a": lambda: transfer_loss(runs, names, transfers),
        "B1.13b": lambda: robust_on_real(rows),
        "B2.9d": lambda: left_of_rbf(rows),
    }
    if robust:
        claims["B1.13c"] = lambda: transfer_loss(runs, names_of(robust), robust, ROBUST)
    measurements, undecided = decide(claims)
    return Analysis(
        panels=[_transfer_panel(transfers, robust), _attack_panel(rows)],
        measurements=measurements,
        remarks=remarks + undecided,
        tables=printed_cells(rows, transfers, robust, size_words(settings)),
    )


def _robust_names(settings: Settings) -> Sequence[str]:
    """Return the data sets that networks are trained on adversarially; CIFAR-10 has none."""
    names: Sequence[str] = settings.get("robust_dataset", ())
    return names


def real_means(names: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Return the paper's mean attacks on classifiers of real faces and of CIFAR-10."""
    return printed_table("B3.11-{}", names) | printed_table("B3.12-{}", names)


def attack_rows(runs: Mapping[str, Run], names: Sequence[str]) -> Rows:
    """Return one row per data set and classifier of real images, beside the paper's."""
    rows = attack_tables.attack_rows(runs, names, "{}", classifier=CLASSIFIERS)
    return with_paper(rows, real_means(names), CLASSIFIERS, "classifier")


def transfer_rows(runs: Mapping[str, Run], names: Sequence[str], part: str = TRANSFER) -> Rows:
    """Return one row per data set and kind of training images: accuracy on real test images."""
    rows: Rows = []
    for name in names:
        for trained_on in TRAINED_ON:
            correct = runs[f"{name}/{part}/{trained_on}"].arrays["correct"]
            found = share("accuracy", int(correct.sum()), len(correct))
            labels = {"dataset": name, "trained_on": trained_on}
            rows.append(labels | found | {"n_test": len(correct)})
    return with_paper(rows, printed_table("B2.7-{}", names), TRAINED_ON, "trained_on")


def transfer_loss(
    runs: Mapping[str, Run], names: Sequence[str], rows: Rows, part: str = TRANSFER
) -> Measurement:
    """Return the mean over data sets of the loss of accuracy, paired by image."""
    prefixes = [[f"{name}/{part}/{on}" for on in TRAINED_ON] for name in names]
    return replace(accuracy_difference(runs, prefixes), cells=rows)


def accuracy_difference(runs: Mapping[str, Run], prefixes: Sequence[Sequence[str]]) -> Measurement:
    """Return by how much one accuracy exceeds another, on average over data sets.

    `prefixes` names two `Accuracy` runs on the same images for each data set.
    """
    means, variances, n_images = [], [], 0
    for pair in prefixes:
        better, worse = (runs[name].arrays["correct"].astype(np.float64) for name in pair)
        difference = better - worse
        means.append(difference.mean())
        variances.append(difference.var(ddof=1) / len(difference))
        n_images += len(difference)
    value = float(np.mean(means))
    half = NormalDist().inv_cdf(0.975) * math.sqrt(sum(variances)) / len(means)
    note = (
        f"Data sets: {len(means)}, with one classifier of either kind each. The interval is over "
        "test images, which both classifiers share."
    )
    return Measurement(value, value - half, value + half, n=n_images, note=note)


def robust_on_real(rows: Rows) -> Measurement:
    """Return whether the RBF SVM's attacks are `_FACTOR` times the others', intervals included."""

    def is_robust(row: Mapping[str, Row]) -> bool | None:
        return all_of(
            [apart(row[c], row["RBF SVM"], factor=_FACTOR) for c in ("CNN", "linear SVM")]
        )

    note = "The lower end of one interval against twice the upper end of the other"
    return ordering(rows, is_robust, note)


def left_of_rbf(rows: Rows) -> Measurement:
    """Return the RBF SVM's accuracy on attacked real images, of all data sets together."""
    own = chosen(rows, classifier="RBF SVM")
    counts = [round(row["accuracy_under_attack"] * row["n_points"]) for row in own]
    note = ", ".join(
        f"{words_of(r['dataset'])} {n} of {r['n_points']}" for r, n in zip(own, counts, strict=True)
    )
    n_failed = sum(row["n_failed"] for row in own)
    return share_measurement(
        sum(counts),
        sum(row["n_points"] for row in own),
        f"Right once attacked: {note}. {plural(n_failed, 'attack')} failed; other points were "
        "wrong to begin with.",
    )


def printed_cells(
    rows: Rows, transfers: Rows, robust: Rows, words: str
) -> dict[str, dict[str, list[str]]]:
    """Return our cells of Table 2 and Figure 12; each ends with `words`, as of the other tables."""

    def percent(row: Row, value: str) -> str:
        return f"{100 * row[value]:.1f}{words}"

    def of_both(name: str, trained_on: str) -> str:
        labels = {"dataset": name, "trained_on": trained_on}
        (plain,), adversarial = chosen(transfers, **labels), chosen(robust, **labels)
        trained = "".join(f"; robust {percent(row, 'accuracy')}" for row in adversarial)
        return percent(plain, "accuracy") + trained

    male = chosen(rows, dataset="celeba/Male")
    return {
        "table-2": {name: [of_both(name, on) for on in TRAINED_ON] for name in names_of(transfers)},
        "figure-12": {
            "accuracy": [percent(row, "accuracy") for row in male],
            "accuracy_under_attack": [percent(row, "accuracy_under_attack") for row in male],
            "mean_l2": [attack_tables.mean_cell(row) + words for row in male],
        }
        if male
        else {},
    }


def _transfer_panel(plain: Rows, robust: Rows) -> Panel:
    data = [row | {"training": "plain"} for row in plain]
    data += [row | {"training": ROBUST} for row in robust]
    n = counted((row["n_test"] for row in data), "image")
    some = [words_of(name) for name in names_of(robust)]
    of = f", of {listed(some)} alone" if 0 < len(some) < len(names_of(plain)) else ""

    def draw() -> Figure:
        rows = [
            row
            | {
                "series": ("robust, " if row["training"] == ROBUST else "")
                + f"trained on {row['trained_on']} images"
            }
            for row in data
        ]
        series = names_of(rows, "series")
        palette = (COLOURS[name] for name in ("inner", "outer", "green", "orange"))
        colours = dict(zip(series, palette, strict=False))
        figure, axes = _grouped(rows, colours, series="series", value="accuracy", step=0.2)
        lowest = min(row["accuracy_low"] for row in rows)
        axes.set_ylim(lowest - 0.35 * (1.005 - lowest), 1.005)
        axes.set_ylabel("accuracy on real test images")
        add_legend(axes, location="lower left")
        return figure

    return Panel(
        name="real-transfer",
        title="Trained on real and on generated images, tested on real ones",
        caption="Accuracy on real test images of networks trained on real images and on as many "
        f"drawn from the mixtures fitted to them, with 95 % Clopper-Pearson intervals over {n}; "
        f"robust: by TRADES with beta = 10, smaller networks on fewer images{of}. Crosses: the "
        "paper's Table 2, where the data set is one of the paper's.",
        draw=draw,
        data=data,
    )


def _attack_panel(rows: Rows) -> Panel:
    n_points = counted((row["n_points"] for row in rows), "point")

    def draw() -> Figure:
        colours = classifier_colours(CLASSIFIERS)
        figure, axes = _grouped(rows, colours, series="classifier", step=0.2)
        axes.set_ylim(0, 1.4 * axes.get_ylim()[1])
        axes.set_ylabel("mean L2 of the attack")
        add_legend(axes, location="upper left")
        return figure

    return Panel(
        name="real-attacks",
        title="Attacks on classifiers of real images",
        caption="Mean L2 size of the smallest perturbation found that changes the decision at real "
        "test images, of classifiers trained on real images, with 95 % intervals over "
        f"{n_points}. Crosses: the journal version's values, where the data set is one of the "
        "paper's.",
        draw=draw,
        data=rows,
    )


def _grouped(rows: Rows, colours: Mapping[str, str], **options: Any) -> tuple[Figure, Axes]:
    """Draw the rows by data set."""
    width = max(5.6, 1.5 * len(names_of(rows)) + 2)
    figure, (axes,) = new_figure(width=width, height=3.9)
    draw_groups(axes, rows, colours, group="dataset", words=words_of, **options)
    return figure, axes


EXPERIMENT = Experiment(
    id="bayes-real",
    paper="bayes",
    place="Figure 12, Table 2",
    title="Real images",
    question="How well does a network trained on generated images do on real ones, and which "
    "classifiers of real images are robust?",
    plan=plan,
    analyse=analyse,
)
