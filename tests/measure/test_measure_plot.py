"""Figures of one's own classifier: they show the numbers, and touch nothing global."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.measure import Distances
from trueboundary.problems import planar_problem
from trueboundary.theory import caps

SPHERES = tb.ConcentricSpheres(dim=20)
PLANE = planar_problem("a")
X, Y = PLANE.sample(9, seed=0)
IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def of_brightness(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).mean(1) - 0.5


def line(axes, label):
    return next(one for one in axes.lines if one.get_label() == label)


def bracketed(lower, upper):
    lower, upper = np.array(lower), np.array(upper)
    return Distances(0, lower, upper, lower == upper)


@pytest.fixture
def saved(tmp_path):
    def save(figure) -> None:
        figure.savefig(tmp_path / "figure.png", dpi=40)
        assert (tmp_path / "figure.png").stat().st_size > 1000

    return save


def test_the_tradeoff_marks_rate_and_distances_beside_the_best_possible(saved) -> None:
    network = tb.QuadraticNetwork(20, 40, seed=0)
    found = tb.optimality(network, SPHERES, n_points=5)
    figure = tb.plot.tradeoff({"mine": found}, SPHERES)
    for axes, one in zip(figure.axes, found, strict=True):
        (x,), (y,) = line(axes, "mine").get_data()
        assert x == pytest.approx(one.rate.log10)
        assert y == pytest.approx(one.mean_distance)
        rates, best = line(axes, "best possible (cap, exact)").get_data()
        radius = SPHERES.radii[one.label]
        wanted = caps.mean_distance(20, 10.0 ** rates[50], radius=radius)
        assert best[50] == pytest.approx(wanted, rel=1e-9)
        limit = line(axes, r"$1/\sqrt{2}$ of it").get_ydata()
        assert limit == pytest.approx(best / math.sqrt(2))
    saved(figure)


def test_a_classifier_without_errors_is_named_and_not_placed() -> None:
    perfect = tb.optimality(tb.QuadraticNetwork.perfect(20, 20), SPHERES, n_points=2)
    figure = tb.plot.tradeoff({"perfect": perfect}, SPHERES)
    for axes in figure.axes:
        assert "no error known: perfect" in [text.get_text() for text in axes.texts]
        assert len(line(axes, "perfect").get_xdata()) == 0


def test_a_classifier_that_errs_too_rarely_for_the_axis_is_named_with_its_rate() -> None:
    spheres = tb.ConcentricSpheres(dim=500)
    network = tb.QuadraticNetwork.perfect(500, 500)
    with torch.no_grad():
        network.hidden_weight[:, 0] *= 1.2  # an error lies nearly along one axis
    found = tb.optimality(network, spheres, n_points=2)
    assert found[0].rate.log10 < -100
    inner, outer = tb.plot.tradeoff({"mine": found}, spheres).axes
    named = f"error rate $10^{{{found[0].rate.log10:.1f}}}$: mine"
    assert named in [text.get_text() for text in inner.texts]
    assert named not in [text.get_text() for text in outer.texts]
    assert len(line(inner, "mine").get_xdata()) == 0


def test_the_tradeoff_takes_a_few_classifiers() -> None:
    with pytest.raises(ValueError, match="expected 1 to 7 classifiers, got 0"):
        tb.plot.tradeoff({}, SPHERES)


def test_brackets_are_shares_of_points_between_proof_and_attack(saved) -> None:
    found = bracketed([0.0, 1.0, 2.0, 0.0], [0.0, 1.5, 2.0, math.inf])
    figure = tb.plot.brackets([found], bracketed([3.0] * 4, [3.0] * 4))
    (axes,) = figure.axes
    size, proven = line(axes, "proven: no error nearer").get_data()
    attacked = line(axes, "no error found nearer").get_ydata()
    best = line(axes, "optimal classifier, proven").get_ydata()
    for place, want in (
        (0.5, (0.5, 0.75)),
        (1.2, (0.25, 0.75)),
        (1.8, (0.25, 0.5)),
        (2.5, (0, 0.25)),
    ):
        i = np.searchsorted(size, place)
        assert (proven[i], attacked[i]) == want
    assert best[np.searchsorted(size, 2.9)] == 1
    assert size[-1] > 3
    saved(figure)


def test_brackets_of_one_class_and_of_none() -> None:
    figure = tb.plot.brackets(bracketed([0.0], [math.inf]))
    assert line(figure.axes[0], "no error found nearer").get_ydata()[-1] == 1
    with pytest.raises(ValueError, match="expected distances of one class at least"):
        tb.plot.brackets([])


def test_attacked_images_stand_below_each_other_with_their_distances(saved) -> None:
    result = tb.NearestError()(of_brightness, IMAGES, (of_brightness(IMAGES) > 0).long())
    for x in (IMAGES, IMAGES.flatten(1)):
        given = result if x.ndim == 4 else tb.NearestError()(of_brightness, x, result.y)
        figure = tb.plot.attacked(given, x, image_shape=(1, 6, 6), n_shown=3)
        (axes,) = figure.axes
        picture = axes.images[0].get_array()
        assert picture.shape == (20, 20)  # three by three of six pixels, and gaps
        np.testing.assert_allclose(picture[:6, :6], IMAGES[0, 0], atol=1e-6)
        np.testing.assert_allclose(picture[7:13, :6], given.x_adv[0].reshape(6, 6).clip(0, 1))
        words = [label.get_text() for label in axes.get_xticklabels()]
        assert words == [f"{d:.2g}" for d in result.distance[:3].tolist()]
    saved(figure)


def test_points_of_a_plane_are_drawn_with_their_ways(saved) -> None:
    result = tb.NearestError()(lambda x: x[:, 0], X, Y)
    figure = tb.plot.attacked(result, X)
    (axes,) = figure.axes
    ways = [one for one in axes.lines if len(one.get_xdata()) == 2 and one.get_linestyle() == "-"]
    assert len(ways) >= int(result.success.sum())
    saved(figure)


def test_other_samples_are_refused_in_a_sentence() -> None:
    result = tb.NearestError()(lambda x: x[:, 0], X, Y)
    with pytest.raises(ValueError, match="expected the samples that were attacked"):
        tb.plot.attacked(result, X[:3])
    points, labels = SPHERES.sample(3, seed=0)
    found = tb.NearestError()(lambda x: x[:, 0], points, labels)
    with pytest.raises(ValueError, match="expected images of 1 or 3 channels"):
        tb.plot.attacked(found, points)


def test_figures_are_registered_nowhere() -> None:
    code = (
        "import sys, trueboundary as tb; tb.plot; assert 'matplotlib' not in sys.modules\n"
        "import numpy as np; from trueboundary.measure import Distances\n"
        "one = np.ones(3); tb.plot.brackets(Distances(0, one, one, one == 1))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
