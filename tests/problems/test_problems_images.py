"""Image problems: fitting, variants, storage, and how near the boundary of each is."""

import json
import math

import numpy as np
import pytest
import torch

from trueboundary.certificates import MixtureCertificate
from trueboundary.densities import MixtureOfFactorAnalyzersEM
from trueboundary.problems import (
    ImageFit,
    ImageProblem,
    MixtureProblem,
    Outlier,
    fit_image_problem,
    fit_images,
)
from trueboundary.theory.gaussian_pairs import outlier_attack_size

SHAPE = (1, 8, 10)
DIM = 80


def toy_images(seed=0, n=150):
    """Return grey images of two classes: smooth blobs of varying size at two places."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:8, :10]
    y = np.repeat([0, 1], n)
    centre = np.where(y == 0, 2.0, 7.0) + 0.5 * rng.normal(size=2 * n)
    width = rng.uniform(1.0, 2.0, size=2 * n)
    distance = (row - 3.5) ** 2 + (column - centre[:, None, None]) ** 2
    x = np.exp(-distance / (2 * width[:, None, None] ** 2)).reshape(2 * n, DIM)
    order = rng.permutation(2 * n)
    return (x + 0.01 * rng.normal(size=x.shape))[order], y[order]


@pytest.fixture(scope="module")
def fit():
    x, y = toy_images()
    return fit_images(
        x, y, image_shape=SHAPE, n_components=(2, 3), n_factors=4, class_names=("left", "right")
    )


def certified(problem, n=200):
    generator = torch.Generator().manual_seed(0)
    x, y = problem.sample(n, generator=generator, dtype=torch.float64)
    classifier = problem.bayes_classifier(dtype=torch.float64)
    return MixtureCertificate()(classifier, x, y).distance


def test_the_fit_is_reported(fit):
    classes = fit.report["classes"]
    assert [c["n_images"] for c in classes] == [150, 150]
    assert [c["n_components"] for c in classes] == [2, 3]
    assert [m.n_components for m in fit.mixtures] == [2, 3]
    assert all(math.isfinite(c["log_likelihood"]) and c["n_iter"] > 0 for c in classes)
    assert json.loads(json.dumps(fit.report)) == fit.report


def test_a_fit_that_stops_early_says_so_and_does_not_warn():
    x, y = toy_images(n=30)
    fit = fit_images(x, y, image_shape=SHAPE, n_components=1, n_factors=2, max_iter=1, tol=0)
    assert [c["converged"] for c in fit.report["classes"]] == [False, False]
    assert "did not converge" in fit.report["classes"][0]["notes"][0]


def test_principal_directions_are_those_of_all_images(fit):
    x, _ = toy_images()
    np.testing.assert_allclose(fit.mean, x.mean(0))
    variances = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(fit.variances, variances[: len(fit.variances)], rtol=1e-8)
    products = (x - x.mean(0)) @ fit.directions[3]
    assert products.var(ddof=1) == pytest.approx(variances[3])
    assert len(fit.directions) == 64
    assert (
        np.take_along_axis(fit.directions, np.abs(fit.directions).argmax(1)[:, None], 1) > 0
    ).all()


@pytest.mark.parametrize("noise_std", [0.001, 0.01, 0.05])
def test_symmetric_means_the_same_noise_everywhere(fit, noise_std):
    problem = fit.problem("symmetric", noise_std=noise_std)
    for density, fitted in zip((problem.density_0, problem.density_1), fit.mixtures, strict=True):
        assert (density.noise_variance == noise_std**2).all()
        assert torch.equal(density.loadings, fitted.loadings)
        assert torch.equal(density.means, fitted.means)
    assert problem.report["settings"]["noise_std"] == noise_std


def test_as_fitted_changes_nothing(fit):
    problem = fit.problem("as-fitted")
    assert problem.density_0 is fit.mixtures[0]
    assert problem.report["settings"] == {"variant": "as-fitted"}


def test_equal_spectra_and_therefore_equal_peaks(fit):
    problem = fit.problem(equalise_spectrum=True)
    spectra = torch.cat(
        [torch.linalg.svdvals(d.loadings) for d in (problem.density_0, problem.density_1)]
    )
    torch.testing.assert_close(spectra, spectra[:1].expand_as(spectra))
    fitted = torch.cat([torch.linalg.svdvals(m.loadings) for m in fit.mixtures])
    torch.testing.assert_close(spectra[0].square(), fitted.square().mean(0))
    before, after = fit.mixtures[1].loadings[0], problem.density_1.loadings[0]
    joined = torch.linalg.matrix_rank(torch.cat([before, after], 1), rtol=1e-9)
    assert joined == before.shape[1], "the subspace has changed"


def test_the_outlier_is_where_it_should_be(fit):
    outlier = Outlier(noise_std=0.4, rank=7, step=2.0, weight=0.05)
    problem = fit.problem("asymmetric", outlier=outlier)
    shift = 2.0 * np.sqrt(fit.variances[6]) * fit.directions[6]
    for density, sign, n in ((problem.density_0, -1, 2), (problem.density_1, 1, 3)):
        assert density.n_components == n + 1
        np.testing.assert_allclose(density.means[-1], fit.mean + sign * shift)
        assert (density.loadings[-1] == 0).all()
        torch.testing.assert_close(
            density.noise_variance[-1].sqrt(), torch.full((DIM,), 0.4).double()
        )
        assert density.weights[-1].item() == pytest.approx(0.05)
        assert density.weights.sum().item() == pytest.approx(1)
        assert (density.noise_variance[:-1] == 1e-4).all()
    assert problem.report["settings"]["outlier"]["rank"] == 7


def test_the_outlier_of_the_paper_is_the_default():
    assert Outlier() == Outlier(noise_std=0.5, rank=50, step=1.0, weight=0.01)


def test_the_asymmetric_problem_is_fragile_and_the_symmetric_one_is_not(fit):
    """The size of the effect is that of the closed form, from below."""
    symmetric = certified(fit.problem())
    asymmetric = certified(fit.problem("asymmetric", outlier=Outlier(rank=20)))
    assert np.median(symmetric) > 3 * np.median(asymmetric)
    formula = outlier_attack_size(0.01, 0.5, DIM, 4, weight_ratio=99)
    assert np.median(asymmetric) == pytest.approx(formula, rel=0.3)


def test_points_are_flat_images(fit, generator):
    problem = fit.problem()
    x, _ = problem.sample(6, generator=generator)
    assert x.shape == (6, DIM)
    assert problem.images(x).shape == (6, *SHAPE)
    assert isinstance(problem, MixtureProblem)
    description = problem.describe()
    assert description["image_shape"] == list(SHAPE)
    assert description["class_names"] == ["left", "right"]


def test_one_step_is_the_same_as_two(fit):
    x, y = toy_images()
    problem = fit_image_problem(
        x, y, image_shape=SHAPE, n_components=(2, 3), n_factors=4, variant="symmetric"
    )
    assert problem.describe()["digest"] == fit.problem().describe()["digest"]


def test_components_follow_the_number_of_faces():
    x, y = toy_images(n=40)
    fit = fit_images(x, y, image_shape=SHAPE, n_components=None, n_factors=2)
    assert [m.n_components for m in fit.mixtures] == [1, 1]
    many = np.concatenate([np.zeros(1600, int), np.ones(400, int)])
    rng = np.random.default_rng(0)
    fit = fit_images(
        rng.normal(size=(2000, 4)), many, image_shape=(1, 2, 2), n_components=None, n_factors=1
    )
    assert [m.n_components for m in fit.mixtures] == [2, 1]


def test_mistakes_are_found_before_the_first_class_is_fitted(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("it was fitted")

    monkeypatch.setattr(MixtureOfFactorAnalyzersEM, "fit", fail)
    x, y = toy_images()
    options = {"image_shape": SHAPE, "n_components": 1, "n_factors": 2}
    with_nan = x.copy()
    with_nan[y == 1] = np.nan
    for call, message in (
        (lambda: fit_image_problem(x, y, **options, noise_std=-1.0), "noise_std"),
        (lambda: fit_image_problem(x, y, **options, variant="as-fitted", noise_std=-1), "noise_st"),
        (lambda: fit_image_problem(x, y, **{**options, "image_shape": (1, 1, 1)}), "image_shape"),
        (lambda: fit_image_problem(x, y, **options, class_names=("a", "\udcff")), "class_names"),
        (lambda: fit_image_problem(x, y, **options, class_names="ab"), "class_names"),
        (lambda: fit_image_problem(x, y, **{**options, "n_components": (1, 9999)}), "as many im"),
        (lambda: fit_image_problem(x, y, **options, class_names=("a",)), "two classes or more"),
        (lambda: fit_image_problem(with_nan, y, **options), "must be finite"),
        (lambda: fit_images(x, y, **options, held_out=(x[:, :3], y)), "held-out images"),
        (lambda: fit_images(x, y, **options, held_out=(x, y + 5)), "labels 0 and 1"),
        (
            lambda: fit_image_problem(
                x, y, **options, variant="asymmetric", outlier=Outlier(rank=65)
            ),
            "at most 64 here",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_held_out_images_are_scored_by_the_mixture_of_their_class():
    x, y = toy_images()
    unseen, labels = toy_images()
    unseen = unseen + 0.01
    fit = fit_images(
        x, y, image_shape=SHAPE, n_components=1, n_factors=2, held_out=(unseen, labels)
    )
    same = fit_images(x, y, image_shape=SHAPE, n_components=1, n_factors=2)
    for label, part in enumerate(fit.report["classes"]):
        rows = torch.from_numpy(unseen[labels == label]).double()
        expected = same.mixtures[label].log_prob(rows).mean().item()
        assert part.pop("held_out") == {
            "n_images": len(rows),
            "log_likelihood": pytest.approx(expected),
        }
    assert fit.report == same.report


@pytest.fixture(scope="module")
def three():
    """Blobs at two places, and their mean pictures upside down."""
    x, y = toy_images()
    rows = np.random.default_rng(1).choice(len(x), 100, replace=False)
    x = np.concatenate([x, 1 - x[rows]])
    y = np.concatenate([y, np.full(100, 2)])
    names = ("left", "right", "dark")
    return fit_images(
        x, y, image_shape=SHAPE, n_components=(2, 3, 1), n_factors=4, class_names=names
    )


class TestThreeClasses:
    def test_every_class_is_fitted_as_if_there_were_no_others(self, fit, three):
        assert [m.n_components for m in three.mixtures] == [2, 3, 1]
        assert [c["n_images"] for c in three.report["classes"]] == [150, 150, 100]
        for ours, alone in zip(three.mixtures, fit.mixtures, strict=False):
            assert torch.equal(ours.means, alone.means)
            assert torch.equal(ours.loadings, alone.loadings)

    def test_outliers_take_one_direction_for_each_pair_of_classes(self, three):
        outlier = Outlier(noise_std=0.4, rank=7, step=2.0, weight=0.05)
        problem = three.problem("asymmetric", outlier=outlier)
        for density, row, sign in zip(problem.densities, (6, 6, 7), (-1, 1, -1), strict=True):
            shift = 2.0 * np.sqrt(three.variances[row]) * three.directions[row]
            np.testing.assert_allclose(density.means[-1], three.mean + sign * shift)
            assert density.weights[-1].item() == pytest.approx(0.05)

    def test_more_classes_than_directions_are_refused(self, three):
        three.problem("asymmetric", outlier=Outlier(rank=63))
        with pytest.raises(ValueError, match="at most 63 here, since 3 classes take 2 of the 64"):
            three.problem("asymmetric", outlier=Outlier(rank=64))

    def test_one_spectrum_for_all(self, three):
        problem = three.problem(equalise_spectrum=True)
        spectra = torch.cat([torch.linalg.svdvals(d.loadings) for d in problem.densities])
        assert len(spectra) == 6
        torch.testing.assert_close(spectra, spectra[:1].expand_as(spectra))

    def test_the_problem_has_names_and_equal_priors_and_an_accurate_optimum(self, three, generator):
        problem = three.problem()
        assert problem.class_names == ("left", "right", "dark")
        assert problem.priors == (1 / 3,) * 3
        x, y = problem.sample(300, generator=generator)
        assert (problem.bayes_classifier().predict(x) == y).double().mean() > 0.99

    def test_storage(self, three, tmp_path):
        problem = three.problem("asymmetric", outlier=Outlier(rank=20))
        again = ImageProblem.load(problem.save(tmp_path / "problem"))
        assert again.class_names == problem.class_names
        x = problem.sample(9, generator=torch.Generator().manual_seed(0))[0]
        expected = problem.bayes_classifier().outputs(x)
        torch.testing.assert_close(again.bayes_classifier().outputs(x), expected)
        spec, arrays = three.to_arrays()
        fit = ImageFit.from_arrays(json.loads(json.dumps(spec)), arrays)
        assert fit.class_names == three.class_names
        assert len(fit.mixtures) == 3


class TestStorage:
    def test_problems(self, fit, tmp_path):
        problem = fit.problem("asymmetric", outlier=Outlier(rank=20))
        again = ImageProblem.load(problem.save(tmp_path / "deep" / "problem"))
        assert again.describe() == problem.describe()
        assert again.report == problem.report
        assert [p.name for p in (tmp_path / "deep").iterdir()] == ["problem"]

    def test_fits(self, fit):
        spec, arrays = fit.to_arrays()
        again = ImageFit.from_arrays(json.loads(json.dumps(spec)), arrays)
        for variant in ("symmetric", "asymmetric"):
            first, second = (f.problem(variant) for f in (fit, again))
            assert first.describe() == second.describe()

    def test_nothing_is_replaced(self, fit, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(FileExistsError, match="is there already"):
            fit.problem().save(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def test_nothing_half_written_stays(self, fit, tmp_path, monkeypatch):
        def fail(*_):
            raise OSError("disk full")

        monkeypatch.setattr("trueboundary.problems.images.write_folder", fail)
        with pytest.raises(OSError, match="disk full"):
            fit.problem().save(tmp_path / "problem")
        assert list(tmp_path.iterdir()) == []

    def test_damage_is_found(self, fit, tmp_path):
        folder = fit.problem().save(tmp_path / "problem")
        arrays = next(folder.glob("*.safetensors"))
        content = bytearray(arrays.read_bytes())
        content[-1] ^= 1
        arrays.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            ImageProblem.load(folder)
        for name, junk in (("class_0", 3), ("image_shape", 5), ("report", 1), ("prior", "a")):
            spec, stored = fit.problem().to_arrays()
            with pytest.raises(ValueError, match="holds something else than it should"):
                ImageProblem.from_arrays({**spec, name: junk}, stored)
        with pytest.raises(ValueError, match="not the description of a ImageProblem"):
            ImageProblem.from_arrays({"class": "MixtureProblem"}, {})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.problem("symetric"), "variant must be one of"),
        (lambda f: f.problem(noise_std=0.0), "noise_std"),
        (lambda f: f.problem("asymmetric", outlier=Outlier(rank=65)), "at most 64 here"),
        (lambda _: Outlier(weight=1.0), "outlier weight"),
        (lambda _: Outlier(noise_std=-1.0), "outlier noise_std"),
        (lambda _: fit_images(np.zeros((4, 2, 2)), np.zeros(4), image_shape=(1, 2, 2)), "flatten"),
        (
            lambda _: fit_images(np.zeros((4, 4)), np.zeros(4), image_shape=(1, 2, 2)),
            "images of two classes or more, got '0' alone",
        ),
        (
            lambda _: fit_images(np.zeros((4, 4)), np.ones(4), image_shape=(1, 2, 2)),
            r"labels 0 and 1, and each at least once, but class '0' \(label 0\) has no images",
        ),
        (
            lambda _: fit_images(np.zeros((4, 4)), np.array([0, 3, 1, 1]), image_shape=(1, 2, 2)),
            r"labels 0 to 3, and each at least once, but class '2' \(label 2\) has no images",
        ),
        (
            lambda _: fit_images(np.zeros((4, 4)), np.array([0, -1, 1, 1]), image_shape=(1, 2, 2)),
            "labels 0 and 1, and each at least once, got -1",
        ),
        (
            lambda _: fit_images(
                np.zeros((4, 4)), np.arange(4), image_shape=(1, 2, 2), class_names=tuple("abc")
            ),
            "labels 0 to 2, and each at least once, got 3",
        ),
        (
            lambda _: fit_images(
                np.zeros((4, 4)), np.arange(4) % 2, image_shape=(1, 2, 2), n_components=(1, 2, 3)
            ),
            "one number or 2, one for each class",
        ),
        (
            lambda f: ImageProblem(*f.mixtures, image_shape=(3, 8, 10)),
            "channels, height and width of 80",
        ),
        (
            lambda f: ImageProblem(*f.mixtures, image_shape=SHAPE, class_names=("a",)),
            "2 names",
        ),
    ],
)
def test_bad_input_is_named(fit, call, message):
    with pytest.raises(ValueError, match=message):
        call(fit)


@pytest.mark.parametrize("y", [["0", "1", "2"] * 4, [0.0, 1.0, np.nan] * 4, [None, 0, 1] * 4])
def test_labels_that_are_no_numbers_are_named(y):
    x = np.zeros((12, 4))
    with pytest.raises(ValueError, match="labels 0 to K - 1 as finite numbers, got"):
        fit_images(x, np.array(y), image_shape=(1, 2, 2), n_components=1, n_factors=1)


def test_names_of_classes_differ():
    x, y = np.zeros((12, 4)), np.arange(12) % 3
    with pytest.raises(ValueError, match="class_names must differ from one another, got"):
        fit_images(x, y, image_shape=(1, 2, 2), class_names=("cat", "dog", "cat"))
