"""Jobs cut into pieces: the same bits in pieces, on any number of workers, whatever dies."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trueboundary.classifiers import SphereBayes, TruncatedSum, to_arrays
from trueboundary.experiments.images import attacked_images as images
from trueboundary.experiments.images.attacked_images import AttackedImages
from trueboundary.experiments.images.image_fits import FittedMixtures, ImageTask
from trueboundary.experiments.images.trained_classifiers import TrainedSVM
from trueboundary.experiments.networks import (
    attacked_norms,
    attacked_points,
    error_counts,
    splitting_rates,
)
from trueboundary.experiments.networks.attacked_norms import NormAttack
from trueboundary.experiments.networks.attacked_points import AttackedPoints
from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.splitting_rates import SplittingPilot, SplittingRate
from trueboundary.experiments.networks.trained_networks import TrainedNetwork
from trueboundary.experiments.registry import experiments
from trueboundary.experiments.spheres.spheres_tradeoff import SnapshotTradeoff
from trueboundary.experiments.work_rates import RATES
from trueboundary.problems.base import BLOCK_SIZE
from trueboundary.runs import (
    Context,
    Pieced,
    Run,
    RunResult,
    Store,
    collect,
    execute,
    open_cluster,
)
from trueboundary.theory import truncated

HELPERS = Path(__file__).parents[1] / "helpers"
#: The kinds of all pieces.
PIECES = {
    *("CountedChunk", "AttackedChunk", "AttackedNorm", "AttackedImagesChunk"),
    "SplittingReplicate",
}
NETWORK = TrainedNetwork(6, "relu", 8, 2, 300, learning_rate=1e-2)
LARGE = TrainedNetwork(500, "relu", 1000, 2, 10)
DIGITS = ImageTask(FittedMixtures("mnist", ("0", "1")))
FIT = FittedMixtures("synthetic", ("lying", "standing"), 1, 1, max_iter=2)
SVM = TrainedSVM(ImageTask(FIT), 20)


def computed(config, folder, inputs=None):
    """Compute a configuration after everything that it needs and that is not among `inputs`."""
    known = dict(inputs or {})

    def run(wanted):
        if wanted.digest not in known:
            needs = {name: run(need) for name, need in wanted.needs().items()}
            result = wanted.compute(Context(needs, folder, lambda fraction: None))
            known[wanted.digest] = Run(wanted.describe(), result, {}, folder)
        return known[wanted.digest]

    return run(config)


def with_model(model, config=NETWORK):
    """Return `model` in place of the trained network."""
    return {config.digest: Run({}, RunResult({}, {}, {"final": to_arrays(model)}), {}, Path())}


def assert_equal(one, other):
    assert one.summary == other.summary
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name])


# ------------------------------------------------------------------------------- what is cut


def test_nothing_is_cut_at_the_scale_quick():
    goals = [config for e in experiments().values() for config in e.runs("quick").values()]
    assert not {config.kind for config in collect(goals).values()} & PIECES


def test_all_kinds_of_pieces_occur_at_the_scale_paper():
    names = ("spheres-distances", "spheres-norms", "bayes-symmetric", "truth-relu-error")
    goals = [config for name in names for config in experiments()[name].runs("paper").values()]
    assert {config.kind for config in collect(goals).values()} >= PIECES


@pytest.mark.parametrize(
    ("config", "n_pieces"),
    [
        (ErrorCount(LARGE, 1_000_000), 0),
        (ErrorCount(LARGE, 10_000_000), 22),
        (AttackedPoints(LARGE, 250), 0),
        (AttackedPoints(LARGE, 251), 2),
        (AttackedPoints(LARGE, 1000), 4),
        (NormAttack(LARGE, (1.0, 1.3), 250, 50), 0),
        (NormAttack(LARGE, (1.0, 1.3), 125, 50, n_restarts=3), 2),
        (AttackedImages(DIGITS, None, "cw", 200), 0),
        (AttackedImages(DIGITS, None, "cw", 1000), 10),
        (SplittingRate(LARGE, "inner", 400, 4, 20, 4), 0),
        (SplittingRate(LARGE, "inner", 400, 4, 21, 4), 22),
    ],
)
def test_pieces_cost_what_the_whole_would(config, n_pieces):
    pieces = config.pieces()
    assert len(pieces) == n_pieces
    in_all = config.cost() + sum(piece.cost() for piece in pieces.values())
    # Every piece starts on its own, and with it the kernels of each step of its attack.
    starts = {AttackedPoints: 150, NormAttack: 50, AttackedImages: 9000}
    start = RATES.run + LARGE.seconds_of_attack(0, starts.get(type(config), 0))
    assert 0.999 * config.whole_cost() <= in_all
    assert in_all <= 1.05 * config.whole_cost() + n_pieces * start


def test_runs_that_count_and_attack_by_themselves_cost_all_of_it():
    small, large = (SnapshotTradeoff(NETWORK, n, n // 1000, 10) for n in (10**7, 10**9))
    assert large.cost() > 50 * small.cost()
    assert ErrorCount(NETWORK, 10**8).cost() < 1


def test_a_piece_is_named_after_all_that_changes_it_and_nothing_else(monkeypatch):
    def digests(config):
        return {need.digest for need in config.needs().values()}

    # Points of another number are other points, but full blocks of a count stay what they are.
    assert not digests(AttackedPoints(LARGE, 500)) & digests(AttackedPoints(LARGE, 750))
    few, many = (digests(ErrorCount(LARGE, n)) for n in (2_000_000, 4_000_000))
    assert [len(few), len(many), len(few & many)] == [6, 10, 4]
    # Pieces of another size must not be taken for these.
    attack, pictures = AttackedPoints(LARGE, 1000), AttackedImages(DIGITS, None, "cw", 1000)
    before = digests(attack) | digests(pictures)
    monkeypatch.setattr(attacked_points, "PIECE_POINTS", 500)
    monkeypatch.setattr(images, "_PIECE_POINTS", 50)
    assert (digests(attack) | digests(pictures)) & before == {DIGITS.fit.digest}


# ------------------------------------------------------------------------------- equal bits


def descendants(of):
    return {of}.union(*(descendants(kind) for kind in of.__subclasses__()))


#: A job in pieces of every class that has them. A class joins by a line.
JOBS = {
    ErrorCount: lambda: ErrorCount(NETWORK, 3 * error_counts.BLOCK_POINTS + 100),
    AttackedPoints: lambda: AttackedPoints(NETWORK, 10, 40, step_size=0.02, refine_steps=3),
    NormAttack: lambda: NormAttack(NETWORK, (0.8, 1.0, 1.3), 5, 40),
    AttackedImages: lambda: AttackedImages(ImageTask(FIT), SVM, "gradient", 10, n_kept=3),
}
#: Classes whose pieces draw other random numbers than the whole, and are tested on their own.
OTHER_NUMBERS = {SplittingRate}


def test_blocks_are_those_of_the_problems_streams():
    assert error_counts.BLOCK_POINTS == BLOCK_SIZE


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(error_counts, "PIECE_BLOCKS", 2)
    monkeypatch.setattr(attacked_points, "PIECE_POINTS", 4)
    monkeypatch.setattr(attacked_norms, "PIECE_POINTS", 4)
    monkeypatch.setattr(images, "_PIECE_POINTS", 4)
    monkeypatch.setattr(images, "_LARGEST_PIECE", 4)


def test_every_class_that_is_cut_is_tested_here(small_pieces):
    pieces = {type(piece) for job in JOBS.values() for piece in job().pieces().values()}
    ours = {kind for kind in descendants(Pieced) if kind.__module__.startswith("trueboundary.")}
    assert ours - {Pieced} - pieces == JOBS.keys() | OTHER_NUMBERS


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind.__name__)
def test_put_together_the_pieces_are_the_whole(kind, tmp_path, small_pieces):
    job, inputs = JOBS[kind](), with_model(TruncatedSum(6, 3, 0.6))
    assert len(job.pieces()) > 2
    found = computed(job, tmp_path / "pieces", inputs)
    needs = {name: computed(need, tmp_path, inputs) for name, need in job.whole_needs().items()}
    whole = job.whole(Context(needs, tmp_path, lambda fraction: None))
    assert_equal(found, Run({}, whole, {}, tmp_path))
    # Jobs that find nothing would be equal whatever they did.
    with pytest.raises(AssertionError):
        assert_equal(found, computed(replace(job, seed=1), tmp_path, inputs))


# ------------------------------------------------------------------------------- attacks


def test_an_attack_between_the_spheres_is_the_same_in_pieces(tmp_path, small_pieces):
    model = TruncatedSum(6, 3, 0.6)
    config = AttackedPoints(NETWORK, 10, 40, surface="shell", step_size=0.02, refine_steps=3)
    assert [piece.first for piece in config.pieces().values()] == [0, 4, 8]
    found = computed(config, tmp_path, with_model(model))
    whole = config.attack(model)
    assert_equal(found, Run({}, RunResult({"n_points": 10}, whole), {}, tmp_path))
    assert len(np.unique(whole["distance"][np.isfinite(whole["distance"])])) > 3


def test_norms_attacked_apart_come_in_their_order(tmp_path, small_pieces):
    found = computed(JOBS[NormAttack](), tmp_path, with_model(TruncatedSum(6, 3, 0.6)))
    assert found.arrays["norm"].tolist() == [0.8, 1.0, 1.3]
    assert found.arrays["n_found"].sum() > 0


@pytest.mark.parametrize(("variant", "n_points", "n"), [("symmetric", 10, 4), ("real", 303, 100)])
def test_images_attacked_apart_are_kept_by_class(variant, n_points, n, tmp_path, monkeypatch):
    # There are 300 real images, so that the last of the pieces asked for is empty.
    monkeypatch.setattr(images, "_PIECE_POINTS", n)
    monkeypatch.setattr(images, "_LARGEST_PIECE", n)
    task = ImageTask(FIT, variant)
    config = AttackedImages(task, replace(SVM, task=task), "gradient", n_points, n_kept=3)
    assert len(config.pieces()) == -(-n_points // n)
    found = computed(config, tmp_path)
    monkeypatch.setattr(images, "_LARGEST_PIECE", n_points)
    assert_equal(found, computed(config, tmp_path))
    labels = found.arrays["label"]
    assert found.summary["n_points"] == min(n_points, 300)
    assert labels[found.arrays["kept"]].tolist() == [0, 0, 0, 1, 1, 1]


def test_pieces_without_their_images_say_so(tmp_path, monkeypatch):
    monkeypatch.delenv("TRUEBOUNDARY_CELEBA", raising=False)
    faces = ImageTask(FittedMixtures("celeba", ("not Male", "Male")))
    found = computed(AttackedImages(faces, None, "gradient", 201), tmp_path)
    assert found.summary["available"] is False
    assert "TRUEBOUNDARY_CELEBA" in found.summary["reason"]


# ------------------------------------------------------------------------------- splitting


def test_a_large_splitting_estimate_is_right_and_reuses_its_replicates(tmp_path, monkeypatch):
    monkeypatch.setattr(splitting_rates, "_LARGEST_PIECE", 0)
    dim, k = 20, 17
    threshold = truncated.optimal_threshold(dim, k)
    network = TrainedNetwork(dim, "relu", 8, 2, 10)
    inputs = with_model(TruncatedSum(dim, k, threshold), network)
    config = SplittingRate(network, "inner", 300, 4, 10, n_attacks=2)
    found = computed(config, tmp_path, inputs)
    exact = np.exp(truncated.log_errors(dim, k, threshold).inner)
    assert found.summary["low"] < exact < found.summary["high"]
    assert found.summary["warnings"] == []
    assert len(set(found.arrays["replicates"])) == 10
    n_climbing = 300 * 11 * (1 + 4 * (found.summary["n_levels"] - 1))
    assert n_climbing < found.summary["n_evaluations"] < 2 * n_climbing + 40_000
    more = SplittingRate(network, "inner", 300, 4, 11, n_attacks=2)
    assert set(config.pieces().values()) < set(more.pieces().values())
    outer = SplittingPilot(network, "outer", 300, 4)
    assert (
        outer.generator(0, "pilot").initial_seed()
        != config.pilot.generator(0, "pilot").initial_seed()
    )


def test_a_large_splitting_estimate_says_when_it_reaches_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(splitting_rates, "_LARGEST_PIECE", 0)
    config = SplittingRate(NETWORK, "inner", 20, 1, 3, n_attacks=2)
    found = computed(config, tmp_path, with_model(SphereBayes(6))).summary
    assert not found["reached"]
    assert found["rate"] is None
    assert 0 < found["low"] + found["high"] < 1


# ------------------------------------------------------------------------------- workers


GOALS = [
    AttackedPoints(NETWORK, 501, 30, step_size=0.02),
    SplittingRate(NETWORK, "inner", 900, 1, 9, n_attacks=2),
]


def stored(store):
    return {
        digest: (store.path(config) / "arrays.safetensors").read_bytes()
        for digest, config in collect(GOALS).items()
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return everything as one worker computes it, run by run."""
    store = Store(tmp_path_factory.mktemp("one-worker"))
    with ThreadPoolExecutor(1) as one:
        assert execute(GOALS, store, one) == []
    return store


def test_the_goals_are_cut_and_find_errors(reference):
    kinds = [config.kind for config in collect(GOALS).values()]
    assert [kinds.count(kind) for kind in ("AttackedChunk", "SplittingReplicate")] == [3, 9]
    attacked, split = (reference.load(goal) for goal in GOALS)
    assert np.isfinite(attacked.arrays["distance"]).any()
    assert split.summary["reached"]
    assert split.summary["n_levels"] > 2


def test_a_lost_piece_is_computed_again_and_nothing_else(reference):
    attack = GOALS[0]
    lost = [attack.pieces()["chunk-250"], attack]
    before = stored(reference)
    times = {folder: folder.stat().st_mtime_ns for folder in (reference.root / "runs").iterdir()}
    for config in lost:
        reference.discard(config)
    with ThreadPoolExecutor(1) as one:
        assert execute(GOALS, reference, one) == []
    assert stored(reference) == before
    again = {folder for folder, when in times.items() if folder.stat().st_mtime_ns != when}
    assert again == {reference.path(config) for config in lost}


@pytest.mark.cluster
def test_two_cluster_workers_of_which_one_is_killed_change_no_bit(reference, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    monkeypatch.syspath_prepend(HELPERS)
    from dask_cluster import dask_cluster

    store = Store(tmp_path / "store")
    with dask_cluster(tmp_path) as (address, workers), open_cluster(address) as opened:
        deadline = time.monotonic() + 60
        while opened.count_workers() < 2 and time.monotonic() < deadline:
            time.sleep(0.05)

        def kill_one(progress):
            if progress.n_done >= 3:
                workers[0].kill()

        failures = execute(
            GOALS, store, opened.executor, n_workers=opened.count_workers, on_progress=kill_one
        )
        assert [worker.poll() is None for worker in workers] == [False, True]
    assert failures == []
    assert stored(store) == stored(reference)
