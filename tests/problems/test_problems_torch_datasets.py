"""Problems as data sets of torch: the same points in any loader, each once."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from trueboundary import zoo
from trueboundary.datasets import make_dataset
from trueboundary.problems import ConcentricSpheres, FreshBatches, PointDataset, fit_image_problem

SPHERES = ConcentricSpheres(dim=6)


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = 0.2 + 0.2 * y[:, None] + 0.1 * rng.normal(size=(120, 16))
    return fit_image_problem(x, y, image_shape=(1, 4, 4), n_components=1, n_factors=2)


class TestPointDataset:
    def test_the_first_points_of_a_long_one_are_those_of_a_short_one(self):
        short, long = SPHERES.dataset(2500, seed=3), SPHERES.dataset(5000, seed=3)
        assert torch.equal(short.x, long.x[:2500])
        assert torch.equal(short.y, long.y[:2500])

    def test_points_lie_where_their_labels_say(self):
        points = SPHERES.dataset(500, dtype=torch.float64)
        radius = torch.tensor([1.0, SPHERES.radius], dtype=torch.float64)[points.y]
        torch.testing.assert_close(points.x.norm(dim=1), radius, rtol=1e-12, atol=0)

    def test_splits_and_seeds_share_no_point(self):
        drawn = [
            SPHERES.dataset(300, split=split, seed=seed).x
            for split in ("train", "test")
            for seed in (0, 1)
        ]
        assert len(rows(torch.cat(drawn))) == 1200

    @pytest.mark.parametrize("n_workers", [0, 2])
    def test_a_loader_gives_every_point_once_with_its_label(self, n_workers):
        points = SPHERES.dataset(60)
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(
            points, batch_size=7, shuffle=True, num_workers=n_workers, generator=generator
        )
        x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
        assert rows(x) == rows(points.x)
        assert y.dtype == torch.int64
        assert torch.equal(x.norm(dim=1) > 1.15, y == 1)

    def test_workers_that_are_started_anew_hold_the_same_points(self):
        points = SPHERES.dataset(20)
        again = pickle.loads(pickle.dumps(points))
        assert torch.equal(again.x, points.x)

    def test_single_items_and_batches_of_items_agree(self):
        points = SPHERES.dataset(10)
        for (x, label), (other, same) in zip(
            points.__getitems__([3, 5]), [points[3], points[5]], strict=True
        ):
            assert torch.equal(x, other)
            assert label == same
            assert type(label) is int

    def test_images_come_in_their_shape_with_the_names_of_their_classes(self, images):
        flat, shaped = images.dataset(9), images.dataset(9, as_images=True)
        assert shaped[0][0].shape == (1, 4, 4)
        assert torch.equal(flat.x, shaped.x.reshape(9, 16))
        assert shaped.classes == ("0", "1", "2")

    def test_they_are_the_points_of_a_data_set_on_disk(self, images, tmp_path):
        made = make_dataset(images, tmp_path / "set", n_train=40, n_test=20, n_accuracy=50, seed=2)
        assert torch.equal(made.x_train, images.dataset(40, seed=2).x)
        assert torch.equal(made.y_test, images.dataset(20, split="test", seed=2).y)

    def test_points_of_before_are_drawn_still(self):
        # Data sets on disk were drawn so: another hash here would be other data for one seed.
        x, y = ConcentricSpheres(dim=4).to_numpy(100, split="train", seed=1)
        assert hashlib.sha256(y.tobytes()).hexdigest()[:12] == "6b970b99f8e0"
        assert round(float(x[:, 0].sum()), 3) == 4.669

    def test_what_is_no_image_is_refused(self):
        with pytest.raises(TypeError, match="no images"):
            SPHERES.dataset(5, as_images=True)

    @pytest.mark.parametrize("bad", [0, -1, 2.5])
    def test_a_number_of_points_is_at_least_one(self, bad):
        with pytest.raises((TypeError, ValueError), match="n must be"):
            PointDataset(SPHERES, bad)


class TestFreshBatches:
    @pytest.mark.parametrize("n_workers", [1, 2])
    def test_any_number_of_workers_gives_the_same_batches_in_the_same_order(self, n_workers):
        batches = FreshBatches(SPHERES, 5, n_batches=7, seed=1)
        alone = list(batches)
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(batches, batch_size=None, num_workers=n_workers, generator=generator)
        loaded = list(loader)
        assert len(alone) == len(loaded) == 7
        for (x, y), (x_loaded, y_loaded) in zip(alone, loaded, strict=True):
            assert torch.equal(x, x_loaded)
            assert torch.equal(y, y_loaded)
        assert len(rows(torch.cat([x for x, _ in loaded]))) == 35

    def test_an_endless_one_goes_on_where_it_is_told(self):
        endless = iter(SPHERES.fresh_batches(4, seed=5))
        first = [next(endless) for _ in range(6)]
        later = next(iter(SPHERES.fresh_batches(4, seed=5, start=5)))
        assert torch.equal(first[5][0], later[0])
        with pytest.raises(TypeError, match="no end"):
            len(SPHERES.fresh_batches(4))

    def test_it_shares_no_point_with_the_data_sets(self):
        fresh = torch.cat([x for x, _ in SPHERES.fresh_batches(100, n_batches=3)])
        assert not rows(fresh) & rows(SPHERES.dataset(300).x)

    def test_images_come_in_their_shape(self, images):
        x, y = next(iter(images.fresh_batches(3, as_images=True)))
        assert x.shape == (3, 1, 4, 4)
        assert y.shape == (3,)


def test_arrays_are_the_points(images):
    x, y = images.to_numpy(50, split="test", seed=4)
    points = images.dataset(50, split="test", seed=4)
    assert (x == points.x.numpy()).all()
    assert (y == points.y.numpy()).all()


def test_the_optimal_classifier_is_right_on_the_points_of_the_zoo():
    problem = zoo.problem("mnist-0-6-symmetric")
    points = problem.dataset(50, split="test")
    assert bool((problem.bayes_classifier().predict(points.x) == points.y).all())
