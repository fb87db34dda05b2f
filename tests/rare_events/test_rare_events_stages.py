"""Splitting in stages: what is handed on, what is combined, and that nothing is lost on the way."""

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from trueboundary.classifiers import ReLUNetwork, SphereBayes
from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers, UniformSphere
from trueboundary.problems import ConcentricSpheres
from trueboundary.rare_events import (
    InvariantMove,
    Pilot,
    RareEventWarning,
    Replicates,
    Splitting,
    SplittingStages,
    estimate_error_rate,
)
from trueboundary.theory import caps
from trueboundary.theory.intervals import clopper_pearson

SMALL = Splitting(n_particles=200)
SPHERE = UniformSphere(20)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cap(probability, axis=0, slope=1.0):
    threshold = caps.threshold(20, probability)
    return lambda x: slope * (x[:, axis] - threshold)


def in_stages(stages, n_replicates=10, **options):
    pilot = stages.run_pilot(generator=seeded())
    parts = [
        stages.run_replicates(pilot, 1, generator=seeded(1 + index))
        for index in range(n_replicates)
    ]
    return stages.combine(pilot, parts, **options)


def stored(thing):
    """Return what a store on disk would make of it."""
    return type(thing).from_arrays(load(save(thing.to_arrays())))


def test_one_generator_throughout_is_the_function():
    generator, seeds = seeded(3), torch.eye(20, dtype=torch.float64)[:2]
    stages = SplittingStages(cap(1e-6), SPHERE, 0, splitting=SMALL)
    pilot = stages.run_pilot(generator=generator)
    replicates = stages.run_replicates(pilot, 10, generator=generator)
    result = stages.combine(pilot, [replicates], seeds=seeds, generator=generator)
    assert result == estimate_error_rate(
        cap(1e-6), SPHERE, 0, generator=seeded(3), splitting=SMALL, seeds=seeds
    )


def test_replicates_of_their_own_are_independent_and_right():
    splitting = Splitting(n_particles=200, confidence=0.9999)
    result = in_stages(SplittingStages(cap(1e-8), SPHERE, 0, splitting=splitting))
    assert result.interval.low < 1e-8 < result.interval.high
    assert len(set(result.replicates)) == 10
    # The spread that independent, well-mixed replicates have, within a chi-square interval.
    assert 0.5 < result.relative_spread / splitting.ideal_spread(1e-8) < 2.5
    assert result.n_evaluations == 200 * 11 * (1 + 5 * (len(result.levels) - 1))
    assert result.n_independent == 2000


def test_replicates_are_unbiased_whatever_the_pilot():
    # With few particles, and levels that were chosen badly on purpose.
    splitting = Splitting(n_particles=20, n_sweeps=2)
    threshold = caps.threshold(20, 1e-2)
    stages = SplittingStages(cap(1e-2), SPHERE, 0, splitting=splitting)
    pilot = Pilot((-0.9 * threshold, -0.1 * threshold, 0.0), (0.3, 0.9), -4.6, 0)
    values = stages.run_replicates(pilot, 4000, generator=seeded()).values
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - 1e-2) < 4 * error
    assert error < 1e-3


@pytest.mark.parametrize(
    "source",
    [
        SPHERE,
        LowRankGaussian(torch.zeros(20).double(), torch.ones(20, 2).double(), 0.1),
        MixtureOfFactorAnalyzers(
            torch.tensor([0.5, 0.5]).double(),
            torch.zeros(2, 20).double(),
            torch.ones(2, 20, 1).double(),
            0.1,
        ),
    ],
    ids=["sphere", "gaussian", "mixture"],
)
def test_what_is_stored_comes_back_bit_for_bit(source):
    stages = SplittingStages(lambda x: x[:, 0] - x[:, 1] - 0.9, source, 0, splitting=SMALL)
    pilot = stages.run_pilot(generator=seeded())
    assert pilot.reached
    assert len(pilot.levels) > 1
    assert stored(pilot) == pilot
    parts = [stages.run_replicates(pilot, 2, generator=seeded(seed)) for seed in (1, 2)]
    again = [stages.run_replicates(stored(pilot), 2, generator=seeded(seed)) for seed in (1, 2)]
    for part, same in zip(parts, again, strict=True):
        assert torch.equal(stored(part).survivors, same.survivors)
    seeds = source.sample((2000,), generator=seeded(5)).double()
    options = {"seeds": seeds, "generator": seeded(9)}
    result = stages.combine(pilot, parts, **options)
    options["generator"] = seeded(9)
    assert stages.combine(stored(pilot), [stored(part) for part in again], **options) == result


def test_replicates_in_pieces_are_unbiased_with_their_pilots():
    # Everything is drawn anew for every estimate, levels and steps included, and stored between.
    threshold, splitting = caps.threshold(10, 1e-4), Splitting(n_particles=20, n_sweeps=2)
    stages = SplittingStages(
        lambda x: x[:, 0] - threshold, UniformSphere(10), 0, splitting=splitting
    )
    values = []
    for seed in range(0, 300, 3):
        pilot = stored(stages.run_pilot(generator=seeded(seed)))
        parts = [stages.run_replicates(pilot, 1, generator=seeded(seed + i)) for i in (1, 2)]
        values.append(Replicates.joined([stored(part.thinned(1)) for part in parts]).values)
    values = np.array(values)
    error = values.mean(axis=1).std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - 1e-4) < 3 * error
    assert error < 2e-5
    assert (values == 0).any(), "replicates that lost all particles are part of the mean"


def test_particles_that_come_back_after_all_were_lost_do_not_count():
    # Hardly any of 10 particles are beyond the first level, but the moves lead all of them there.
    class Climb(InvariantMove):
        def sample(self, n, generator):
            return torch.rand(n, 1, generator=generator)

        def propose(self, state, step, generator):
            return torch.ones_like(state)

    stages = SplittingStages(
        lambda x: x[:, 0] - 0.99, Climb(), 0, splitting=Splitting(n_particles=10)
    )
    pilot = Pilot((-0.05, 0.0), (0.1,), -3.0, 10)
    part = stages.run_replicates(pilot, 20, generator=seeded())
    lost = part.values == 0
    assert 0 < lost.sum() < 20
    assert [n > 0 for n in part.n_ancestors] == (~lost).tolist()
    assert len(part.survivors) == 10 * (~lost).sum()


def test_replicates_that_lost_all_particles_come_back():
    part = Replicates((-math.inf, -3.0), (), (0, 1), 0, torch.zeros(0, 3), 10)
    assert stored(part).log_values == part.log_values
    assert stored(part).values.tolist() == [0.0, math.exp(-3)]
    assert stored(part).survivors.shape == (0, 3)


def test_parts_of_several_sizes_weigh_by_their_replicates():
    parts = [
        Replicates((-1.0,), (0.2,), (3,), 1, torch.zeros(2, 3), 10),
        Replicates((-2.0, -3.0, -4.0), (0.6,), (4, 5, 6), 2, torch.ones(1, 3), 30),
    ]
    joined = Replicates.joined(parts)
    assert joined.log_values == (-1.0, -2.0, -3.0, -4.0)
    assert joined.acceptance == (pytest.approx(0.5),)
    assert (joined.n_ancestors, joined.n_first_errors) == ((3, 4, 5, 6), 3)
    assert joined.survivors.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert joined.n_evaluations == 40


def test_thinned_replicates_keep_everything_but_survivors():
    survivors = torch.arange(10.0)[:, None]
    part = Replicates((-1.0,), (0.2,), (3,), 1, survivors, 10)
    assert part.thinned(4).survivors.flatten().tolist() == [0, 3, 6, 9]
    assert part.thinned(4).log_values == part.log_values
    assert torch.equal(part.thinned(20).survivors, survivors)


def test_where_no_error_is_reached_only_first_draws_count():
    stages = SplittingStages(
        SphereBayes(dim=20, dtype=torch.float64), ConcentricSpheres(dim=20), 0, splitting=SMALL
    )
    pilot = stages.run_pilot(generator=seeded())
    assert not pilot.reached
    part = stages.run_replicates(pilot, 1, generator=seeded(1))
    assert part.n_evaluations == 200
    assert part.acceptance == ()
    result = in_stages(stages, n_replicates=10)
    assert not result.reached
    assert (result.low, result.high) == clopper_pearson(0, 2000)
    assert result.levels == pilot.levels
    assert result.deepest_probability == math.exp(pilot.log_probability)


def test_errors_that_no_replicate_represents_are_told():
    # The steep margin of the larger cap hides it behind the smaller one.
    dim = 100
    small, large = caps.threshold(dim, 1e-9), caps.threshold(dim, 1e-8)
    stages = SplittingStages(
        lambda x: torch.maximum(x[:, 0] - small, 10 * (x[:, 1] - large)),
        UniformSphere(dim),
        0,
        splitting=SMALL,
    )
    seeds = torch.eye(dim, dtype=torch.float64)[:2]
    with pytest.warns(RareEventWarning, match="1 of 2 groups of the given errors are not"):
        result = in_stages(stages, seeds=seeds, generator=seeded())
    assert len(result.warnings) == 1
    n_climbing = 200 * 11 * (1 + 5 * (len(result.levels) - 1))
    assert result.n_evaluations > n_climbing + 2 * 64 * 200, "the comparison is counted too"


def test_the_points_have_the_dtype_of_the_network():
    network = ReLUNetwork(20, 16, 2, generator=seeded(1)).eval()
    stages = SplittingStages(network, ConcentricSpheres(dim=20), 0, splitting=SMALL)
    pilot = stages.run_pilot(generator=seeded())
    part = stages.run_replicates(pilot, 1, generator=seeded())
    assert part.survivors.dtype == torch.float32
    assert part.to_arrays()["survivors"].dtype == np.float32


def test_bad_stages():
    with pytest.raises(ValueError, match="label must be at least 0"):
        SplittingStages(cap(0.1), SPHERE, -1)
    with pytest.raises(ValueError, match="expected score"):
        SplittingStages(cap(0.1), SPHERE, 0, score="logit")
    with pytest.raises(TypeError, match="no move"):
        SplittingStages(cap(0.1), torch.distributions.Normal(0.0, 1.0), 0)
    stages = SplittingStages(cap(1e-3), SPHERE, 0, splitting=SMALL)
    with pytest.raises(TypeError, match=r"must be a torch\.Generator"):
        stages.run_pilot(generator=7)
    pilot = stages.run_pilot(generator=seeded())
    with pytest.raises(ValueError, match="n_replicates must be at least 1"):
        stages.run_replicates(pilot, 0, generator=seeded())
    part = stages.run_replicates(pilot, 1, generator=seeded())
    with pytest.raises(ValueError, match="at least 2 replicates are needed for an interval, got 1"):
        stages.combine(pilot, [part])
    with pytest.raises(TypeError, match="pilot must be a Pilot, got float"):
        stages.run_replicates(1e-3, 1, generator=seeded())
    with pytest.raises(TypeError, match="parts must be a Sequence, got Replicates"):
        stages.combine(pilot, part)
    with pytest.raises(TypeError, match="a part must be a Replicates, got Pilot"):
        stages.combine(pilot, [part, pilot])
    with pytest.raises(TypeError, match="pilot must be a Pilot, got dict"):
        stages.combine(pilot.to_arrays(), [part, part])
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not there"):
            SplittingStages(cap(1e-3), SPHERE, 0, device="cuda")
    other = Pilot((0.0,), (), -0.1, 10)
    with pytest.raises(ValueError, match="do not belong to this pilot"):
        stages.combine(other, [part, part])
    with pytest.raises(TypeError, match=r"needs generator= or seed="):
        stages.combine(pilot, [part, part], seeds=torch.eye(20).double())
    with pytest.raises(ValueError, match="seeds must be points of shape"):
        stages.combine(pilot, [part, part], seeds=torch.ones(2, 4), generator=seeded())


@pytest.mark.parametrize("levels", [(), (-0.1, -0.2, 0.0), (-0.1, 0.1), (math.nan, 0.0)])
def test_levels_that_do_not_rise_are_refused(levels):
    with pytest.raises(ValueError, match="levels must rise to at most 0"):
        Pilot(levels, (0.5,) * (len(levels) - 1), -1.0, 10)


def test_a_pilot_has_a_step_between_levels():
    with pytest.raises(ValueError, match="got 0 steps for 2 levels"):
        Pilot((-0.1, 0.0), (), -1.0, 10)


def test_replicates_of_different_levels_are_not_joined():
    one = Replicates((-1.0,), (0.2,), (3,), 1, torch.zeros(2, 3), 10)
    two = Replicates((-1.0,), (), (3,), 1, torch.zeros(2, 3), 10)
    with pytest.raises(ValueError, match=r"got some that moved \[0, 1\] times"):
        Replicates.joined([one, two])
    with pytest.raises(ValueError, match=r"of one pilot, got none\."):
        Replicates.joined([])
