"""A killed and resumed run equals an uninterrupted one."""

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork
from trueboundary.problems import ConcentricSpheres, FiniteSample, OnlineStream
from trueboundary.training import (
    CheckpointWarning,
    ExactWorstCase,
    OnManifoldAdversary,
    TrainingConfig,
    train,
)

PROBLEM = ConcentricSpheres(dim=3)
CONFIG = TrainingConfig(
    n_steps=25,
    learning_rate=1e-2,
    schedule="linear",
    snapshots=(0, 4, 10, 20, 25),
    checkpoint_every=5,
    log_every=4,
)


class PowerCut(Exception):
    pass


def cut_at(step):
    def progress(completed):
        if completed == step:
            raise PowerCut

    return progress


def relu():
    return ReLUNetwork(3, 8, 2, generator=torch.Generator().manual_seed(0))


def quadratic():
    return QuadraticNetwork(3, 6, generator=torch.Generator().manual_seed(0))


def measure(step, model):
    x = torch.ones(2, 3)
    return {"margin": model.margin(x).detach().numpy(), "step": step}


def jitter(classifier, x, y, generator):
    """Stand in for a random attack."""
    noise = torch.randn(x.shape, generator=generator)
    return x + 0.01 * noise


CASES = {
    "online": (relu, OnlineStream(PROBLEM, 20, seed=3), None),
    "finite": (relu, FiniteSample(PROBLEM, 70, 20, seed=3), None),
    "worst case": (quadratic, OnlineStream(PROBLEM, 20, seed=3), ExactWorstCase("both")),
    "random attack": (relu, OnlineStream(PROBLEM, 20, seed=3), OnManifoldAdversary(jitter)),
}


def assert_same_run(model, result, other_model, other):
    for (name, a), b in zip(
        model.state_dict().items(), other_model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert np.array_equal(result.steps, other.steps)
    assert np.array_equal(result.losses, other.losses)
    assert list(result.snapshots) == list(other.snapshots)
    for step, values in result.snapshots.items():
        for name, value in values.items():
            assert np.array_equal(value, other.snapshots[step][name]), (step, name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cuts", [(3,), (5,), (13, 17), (24,), (25,)])
def test_interrupted_and_resumed_equals_uninterrupted(case, cuts, tmp_path):
    make, stream, adversary = CASES[case]
    path = tmp_path / "run.safetensors"
    options = {"on_snapshot": measure, "adversary": adversary}
    whole = make()
    expected = train(whole, stream, CONFIG, **options)
    for cut in cuts:
        with pytest.raises(PowerCut):
            train(make(), stream, CONFIG, checkpoint=path, progress=cut_at(cut), **options)
    resumed = make()
    result = train(resumed, stream, CONFIG, checkpoint=path, **options)
    assert result.resumed_from == cuts[-1] // 5 * 5
    assert_same_run(resumed, result, whole, expected)


def test_a_finished_run_is_not_trained_again(tmp_path):
    make, stream, _ = CASES["online"]
    path = tmp_path / "run.safetensors"
    first, again = make(), make()
    result = train(first, stream, CONFIG, checkpoint=path, on_snapshot=measure)

    def never(step, model):
        raise AssertionError("called for a finished run")

    loaded = train(again, stream, CONFIG, checkpoint=path, on_snapshot=never)
    assert loaded.resumed_from == 25
    assert_same_run(again, loaded, first, result)


def test_a_run_that_ended_early_stays_ended(tmp_path):
    make, stream, _ = CASES["online"]
    path = tmp_path / "run.safetensors"
    first, again = make(), make()
    result = train(first, stream, CONFIG, checkpoint=path, until=lambda _: True)
    assert result.n_steps == 0
    steps = iter([False, False, True])
    path = tmp_path / "other.safetensors"
    train(first, stream, CONFIG, checkpoint=path, until=lambda _: next(steps))
    loaded = train(again, stream, CONFIG, checkpoint=path, until=lambda _: False)
    assert (loaded.n_steps, loaded.stopped_early) == (10, True)


def test_a_run_survives_being_killed(tmp_path):
    path = tmp_path / "run.safetensors"
    script = f"""
        import os, signal
        from pathlib import Path
        import torch
        from trueboundary.classifiers import ReLUNetwork
        from trueboundary.problems import ConcentricSpheres, OnlineStream
        from trueboundary.training import TrainingConfig, train

        torch.set_num_threads(1)
        model = ReLUNetwork(3, 8, 2, generator=torch.Generator().manual_seed(0))
        stream = OnlineStream(ConcentricSpheres(dim=3), 20, seed=3)
        config = TrainingConfig(25, 1e-2, "linear", (0, 4, 10, 20, 25), 5, 4)

        def kill(step):
            if step == 17:
                os.kill(os.getpid(), signal.SIGKILL)

        train(model, stream, config, checkpoint=Path({str(path)!r}), progress=kill)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -signal.SIGKILL
    make, stream, _ = CASES["online"]
    resumed, whole = make(), make()
    result = train(resumed, stream, CONFIG, checkpoint=path)
    assert result.resumed_from == 15
    assert_same_run(resumed, result, whole, train(whole, stream, CONFIG))


def damaged_copies(content):
    middle = len(content) - 10
    return {
        "cut off": content[: len(content) // 2],
        "empty": b"",
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "nonsense": b"not a checkpoint at all",
    }


@pytest.mark.parametrize("damage", ["cut off", "empty", "one bit", "nonsense"])
def test_a_damaged_checkpoint_is_named_and_training_starts_again(damage, tmp_path):
    make, stream, _ = CASES["online"]
    path = tmp_path / "run.safetensors"
    whole = make()
    expected = train(whole, stream, CONFIG, checkpoint=path)
    path.write_bytes(damaged_copies(path.read_bytes())[damage])
    again = make()
    with pytest.warns(CheckpointWarning, match=r"run\.safetensors cannot be used.*starts again"):
        result = train(again, stream, CONFIG, checkpoint=path)
    assert result.resumed_from == 0
    assert_same_run(again, result, whole, expected)
    assert train(make(), stream, CONFIG, checkpoint=path).resumed_from == 25


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    make, stream, _ = CASES["online"]
    path = tmp_path / "run.safetensors"
    train(make(), stream, CONFIG, checkpoint=path)
    with pytest.raises(ValueError, match="another run \\(its stream differs\\)"):
        train(make(), OnlineStream(PROBLEM, 20, seed=4), CONFIG, checkpoint=path)
    with pytest.raises(ValueError, match="another run \\(its config differs\\)"):
        train(make(), stream, TrainingConfig(n_steps=25), checkpoint=path)
    with pytest.raises(ValueError, match="another run \\(its adversary, model differs\\)"):
        train(quadratic(), stream, CONFIG, checkpoint=path, adversary=ExactWorstCase())


def test_how_often_checkpoints_are_written_changes_nothing(tmp_path):
    make, stream, _ = CASES["online"]
    models = [make() for _ in range(3)]
    for every, model in zip((1, 7, None), models, strict=True):
        config = TrainingConfig(n_steps=25, checkpoint_every=every)
        train(model, stream, config, checkpoint=tmp_path / f"{every}.safetensors")
    for model in models[1:]:
        assert torch.equal(model.linear[0].weight, models[0].linear[0].weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "1.safetensors",
        "7.safetensors",
        "None.safetensors",
    ]


def test_the_folder_of_the_checkpoint_is_made(tmp_path):
    make, stream, _ = CASES["online"]
    path = tmp_path / "new" / "folder" / "run.safetensors"
    train(make(), stream, TrainingConfig(n_steps=2), checkpoint=path)
    assert [p.name for p in path.parent.iterdir()] == ["run.safetensors"]
