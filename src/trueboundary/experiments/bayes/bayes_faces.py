"""Faces: what the paper shows on CelebA, run where its users have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Rows
from trueboundary.experiments.bayes import (
    bayes_capacity,
    bayes_noise,
    bayes_real,
    bayes_trades,
    face_claims,
)
from trueboundary.experiments.bayes.bayes_subspaces import SubspaceDistances, histogram_panel
from trueboundary.experiments.bayes.four_classifiers import printed_cells
from trueboundary.experiments.bayes.published import printed_numbers, printed_table, size_words
from trueboundary.experiments.images.attack_tables import (
    ATTACKS,
    attack_row,
    attack_rows,
    describe_row,
    distance_row,
    names_of,
    nearest_distances,
    with_paper,
)
from trueboundary.experiments.images.attacked_images import distances
from trueboundary.experiments.images.availability import unless_images_are_missing
from trueboundary.experiments.images.drawn_rows import classifier_colours, draw_groups
from trueboundary.experiments.images.gammas import GammaPath, path_panel, path_remark
from trueboundary.experiments.images.image_plans import (
    CLASSIFIERS,
    Settings,
    attacks_on,
    four_classifiers,
    image_task,
    planned_cnn,
    under,
    words_of,
)
from trueboundary.experiments.images.orderings import decide
from trueboundary.experiments.images.sheets import Sheet, file_name, sheet_panel
from trueboundary.experiments.summaries import mean_of_points, ratio_of_means
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.plurals import plural
from trueboundary.runs import Run, RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Images in CelebA's training set.
_N_TRAINING_FACES = 162_770
#: Pictures of each class in a sheet.
_N_SHOWN = 2
#: What is looked at besides the four classifiers, together with the experiments of `_parts`.
_CONTRAST = "contrast"
_ASYMMETRIC = "optimal, asymmetric"
_BOXED = "CNN, attacked in [0, 1]"


def plan(settings: Settings, seed: int, device: str) -> dict[str, RunConfig]:
    """Attack all classifiers of every attribute, and repeat those `parts` of the paper on some."""
    known = (_CONTRAST, *_parts())
    for part in settings["parts"]:
        if part not in known:
            raise ValueError(f"parts are some of {', '.join(known)}, got {part!r}")
    runs: dict[str, RunConfig] = {}
    for name in settings["dataset"]:
        runs[f"{name}/fit"] = image_task(name, settings, seed).fit
        runs |= four_classifiers(name, settings, seed, device)
    n_points = settings["n_points"]
    for name in _contrasted(settings):
        for variant in ("symmetric", "asymmetric"):
            task = image_task(name, settings, seed, variant=variant)
            found = attacks_on(task, None, settings, seed, attacks=("gradient", "gradient-fixed"))
            runs |= under(f"{name}/{variant}", found)
        symmetric = image_task(name, settings, seed)
        network = planned_cnn(symmetric, settings, seed, device)
        boxed = attacks_on(symmetric, network, settings, seed, attacks=("cw-box",))
        runs |= under(f"{name}/CNN", boxed)
        runs[f"{name}/subspaces"] = SubspaceDistances(symmetric, n_points, seed)
        runs[f"{name}/gammas"] = GammaPath(symmetric, settings["n_train"], n_points, seed)
    for part, experiment in _chosen_parts(settings).items():
        runs |= under(part, experiment.plan(part_settings(settings, part), seed, device))
    return runs


def _contrasted(settings: Settings) -> Sequence[str]:
    """Return the attributes whose asymmetric problem, box and subspaces are looked at as well."""
    names: Sequence[str] = settings["sweep_dataset"] if _CONTRAST in settings["parts"] else ()
    return names


def _chosen_parts(settings: Settings) -> Mapping[str, Experiment]:
    """Return the experiments that are asked for."""
    return {part: one for part, one in _parts().items() if part in settings["parts"]}


def _parts() -> Mapping[str, Experiment]:
    """Return the experiments that are repeated on faces."""
    return {
        "capacity": bayes_capacity.EXPERIMENT,
        "noise": bayes_noise.EXPERIMENT,
        "trades": bayes_trades.EXPERIMENT,
        "real": bayes_real.EXPERIMENT,
    }


def part_settings(settings: Settings, part: str) -> dict[str, Any]:
    """Return the settings of one of the repeated experiments."""
    names = settings["real_dataset" if part == "real" else "sweep_dataset"]
    return {**settings, "dataset": names, "width": settings["sweep_width"]}


@unless_images_are_missing("bayes-faces")
def analyse(runs: Mapping[str, Run], settings: Settings) -> Analysis:
    """Tabulate every attribute, and let the repeated experiments analyse their own runs."""
    names, swept = settings["dataset"], _contrasted(settings)
    rows = attack_rows(runs, names, "{}", classifier=CLASSIFIERS)
    rows = with_paper(rows, printed_table("B3.7-{}", names), CLASSIFIERS, "classifier")
    contrast = [
        attack_row(runs, f"{name}/asymmetric", dataset=name, classifier=_ASYMMETRIC)
        | {"paper": next(iter(printed_numbers(f"B1.7-{words_of(name)}-asymmetric")), None)}
        for name in swept
    ]
    boxed = [
        distance_row(distances(runs[f"{name}/CNN/cw-box"]), dataset=name, classifier=_BOXED)
        for name in swept
    ]
    order = [_BOXED if words == "CNN" else words for words in CLASSIFIERS]
    boxed = with_paper(boxed, printed_table("B3.7-{}", swept), order, "classifier")
    fits = {name: runs[f"{name}/fit"] for name in names}
    notes = [note for fit in fits.values() for note in fit.summary.get("data_notes", ())]
    remarks = list(dict.fromkeys(notes))
    remarks += [_fit_remark(fit, name) for name, fit in fits.items()]
    remarks += [describe_row(row, row["classifier"]) for row in [*rows, *contrast]]
    remarks += [_subspace_remark(runs, name) for name in swept]
    remarks += [_box_remark(runs, name) for name in swept]
    remarks += [f"{words_of(name)}. {path_remark(runs[f'{name}/gammas'])}" for name in swept]
    panels = [_means(rows, contrast, boxed)]
    panels += [_subspaces(runs, swept)] if swept else []
    panels += [_gammas(runs, name) for name in swept if name in names]
    panels += [_sheet(runs, name, settings) for name in names]
    tables: dict[str, Mapping[str, Sequence[str]]] = {}
    tables |= printed_cells(rows, size_words(settings))
    attacked = {
        f"{classifier}, {words_of(name)}": _nearer(runs, f"{name}/{classifier}")
        for name in names
        for classifier in CLASSIFIERS
    } | {f"{_ASYMMETRIC}, {words_of(name)}": _nearer(runs, f"{name}/asymmetric") for name in swept}
    claims = face_claims.of_all(runs, rows) | face_claims.of_contrast(runs, swept)
    claims |= face_claims.of_pixels(attacked)
    measurements: dict[str, Measurement] = {}
    for part, experiment in _chosen_parts(settings).items():
        within = f"{part}/"
        own = {n.removeprefix(within): run for n, run in runs.items() if n.startswith(within)}
        used = part_settings(settings, part)
        found = experiment.analyse(own, used)
        panels += [replace(panel, name=f"faces-{panel.name}") for panel in found.panels]
        remarks += found.remarks
        tables |= found.tables
        measurements |= {f"{claim}-faces": m for claim, m in found.measurements.items()}
        claims |= _table_claims(part, own, used)
    decided, undecided = decide(claims)
    return Analysis(
        panels=panels,
        measurements=measurements | decided,
        remarks=remarks + undecided,
        conditions=_fewer_photographs(list(fits.values())),
        tables=tables,
    )


def _table_claims(part: str, runs: Mapping[str, Run], settings: Settings) -> face_claims.Claims:
    """Return what one of the repeated experiments says of the paper's rows and curves."""
    names = settings["dataset"]
    if part == "capacity":
        return face_claims.of_sweeps(bayes_capacity.sweep_rows(runs, settings))
    if part == "trades":
        return face_claims.of_trades(bayes_trades.beta_rows(runs, settings))
    if part == "real":
        rows = bayes_real.attack_rows(runs, names)
        return face_claims.of_real(rows, bayes_real.transfer_rows(runs, names))
    return {}


def _fewer_photographs(fits: Sequence[Run]) -> list[str]:
    """Say where the mixtures were fitted to fewer faces than CelebA has for training."""
    n = min(sum(c["n_images"] for c in fit.summary["fit"]["classes"]) for fit in fits)
    if n >= _N_TRAINING_FACES:
        return []
    return [
        f"mixtures were fitted to {plural(n, 'face')}, of the {_N_TRAINING_FACES:,} for training"
    ]


def _fit_remark(fit: Run, name: str) -> str:
    classes = fit.summary["fit"]["classes"]
    sizes = " and ".join(
        f"{c['n_components']} to {plural(c['n_images'], 'image')}" for c in classes
    )
    factors = plural(fit.summary["fit"]["n_factors"], "factor")
    return f"{words_of(name)}: mixtures of {factors}, {sizes}."


def _subspace_remark(runs: Mapping[str, Run], name: str) -> str:
    distance = runs[f"{name}/subspaces"].arrays["distance"]
    return (
        f"{words_of(name)}: half the mean distance to the other class's nearest subspace is "
        f"{distance.mean() / 2:.2f} over {len(distance)} points (the paper, for Male: 3.1)."
    )


def _box_remark(runs: Mapping[str, Run], name: str) -> str:
    attack = runs[f"{name}/CNN/cw-box"]
    found, optimal = distances(attack), nearest_distances(runs, f"{name}/symmetric")
    to_box = attack.arrays["distance_to_box"].mean()
    share = ratio_of_means(found, optimal)[0]
    return (
        f"{words_of(name)}, CNN: the library that the paper attacked it with confines pixels to "
        f"[0, 1] unless told otherwise, and samples lie {to_box:.2f} outside on average. Such an "
        f"attack ends {mean_of_points(found)[0]:.2f} from them, {share:.2f} times as far as the "
        f"optimal classifier's boundary."
    )


def _means(rows: Rows, contrast: Rows, boxed: Rows) -> Panel:
    def draw() -> Figure:
        names = names_of(rows)
        figure, (axes,) = new_figure(width=7.6, height=1.6 + 0.55 * len(names))
        draw_groups(
            axes,
            rows,
            classifier_colours(CLASSIFIERS),
            group="dataset",
            series="classifier",
            words=words_of,
            step=0.15,
            across=True,
        )
        known = [row for row in contrast if row["dataset"] in names and row["mean_l2"] > 0]
        places = [names.index(row["dataset"]) - 0.34 for row in known]
        look: dict[str, Any] = {"ms": 5, "color": COLOURS["truth"], "label": _ASYMMETRIC}
        axes.plot([row["mean_l2"] for row in known], places, "D", **look)
        axes.set_xlim(0, 1.45 * axes.get_xlim()[1])
        axes.set_xlabel("mean L2 of the attack")
        add_legend(axes, location="center right")
        return figure

    return Panel(
        name="faces-means",
        title="Mean attacks on the symmetric problems made from faces",
        caption="Mean L2 size of the smallest perturbation found that changes the decision, with "
        "95 % intervals over points, for the optimal classifier and three trained ones; diamonds: "
        "the optimal classifier of the asymmetric problem. Crosses: the paper's values, for 64 x "
        "64 pixels and twenty times as many faces. The data have the CNN attacked in [0, 1] too.",
        draw=draw,
        data=[*rows, *contrast, *boxed],
    )


def _subspaces(runs: Mapping[str, Run], names: Sequence[str]) -> Panel:
    return histogram_panel(
        {name: runs[f"{name}/subspaces"] for name in names},
        name="faces-subspaces",
        title="Distances to the other class's nearest subspace",
        caption="Distance from test points of the symmetric problem to the nearest component "
        "subspace of the other class. Dashed: its mean; the paper has 6.2 for Male.",
    )


def _gammas(runs: Mapping[str, Run], name: str) -> Panel:
    chosen = runs[f"{name}/RBF SVM"].summary["gamma"]
    place = f"faces-gamma-{file_name(name)}"
    return path_panel(runs[f"{name}/gammas"], chosen, name=place, words=words_of(name))


def _sheet(runs: Mapping[str, Run], name: str, settings: Settings) -> Panel:
    attacked = {classifier: f"{name}/{classifier}" for classifier in CLASSIFIERS}
    if name in _contrasted(settings):
        attacked["asymmetric"] = f"{name}/asymmetric"
    return sheet_panel(
        "faces",
        name,
        {w: Sheet.from_run(_nearer(runs, prefix), _N_SHOWN) for w, prefix in attacked.items()},
        title=f"{words_of(name)}: samples, attacked samples and changes",
        caption="Samples of the fitted mixtures, not photographs; the same attacked, for each "
        "classifier of the symmetric problem; the change (grey is none); and the changes of all "
        "pixels. The last column, where there is one, is the optimal classifier of the asymmetric "
        "problem.",
    )


def _nearer(runs: Mapping[str, Run], prefix: str) -> Run:
    """Return the attack whose pictures are shown: of the most successes, that of the nearest."""
    names = (f"{prefix}/{attack}" for attack in ATTACKS)
    found = [runs[name] for name in names if name in runs]
    return min(found, key=lambda run: (-run.summary["n_changed"], distances(run).sum()))


EXPERIMENT = Experiment(
    id="bayes-faces",
    paper="bayes",
    place="Figures 1, 4, 6, 9-16",
    title="Faces",
    question="Are the optimal classifiers of problems made from faces robust, and the trained ones "
    "not?",
    plan=plan,
    analyse=analyse,
    on_request="it needs CelebA, which you bring",
)
