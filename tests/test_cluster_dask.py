"""A real Dask scheduler with two worker processes: equal results, whatever dies."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from trueboundary.cli import main
from trueboundary.runs import (
    ClusterError,
    Store,
    WorkerSetupError,
    cluster,
    execute,
    open_cluster,
    run_one,
)

HELPERS = Path(__file__).parent / "helpers"
pytestmark = pytest.mark.cluster
pytest.importorskip("distributed", reason="needs the extra 'cluster'")


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    sys.path.insert(0, str(HELPERS))
    try:
        from dask_cluster import dask_cluster

        with dask_cluster(tmp_path_factory.mktemp("dask")) as started:
            yield started
    finally:
        sys.path.remove(str(HELPERS))


@pytest.fixture(autouse=True)
def _count_often(monkeypatch):
    monkeypatch.setattr(cluster, "_COUNT_INTERVAL", 0.1)


def _wait_for_workers(opened, n_workers):
    deadline = time.monotonic() + 60
    while opened.count_workers() != n_workers and time.monotonic() < deadline:
        time.sleep(0.05)
    assert opened.count_workers() == n_workers


def _tables(store, config):
    return (store.path(config) / "arrays.safetensors").read_bytes()


# The order of the tests in this file matters: the last one leaves one worker.


def test_missing_modules_are_said_and_do_not_stop_the_others(dask, tmp_path):
    from mortal import Mortal

    class Unknown(Mortal):
        pass

    Unknown.__module__, Unknown.__qualname__ = "nowhere", "Unknown"
    module = type(sys)("nowhere")
    module.Unknown = Unknown
    sys.modules["nowhere"] = module
    try:
        with open_cluster(dask[0]) as opened:
            failures = execute(
                [Unknown(0), Mortal(1)], Store(tmp_path), opened.executor, n_workers=2
            )
    finally:
        del sys.modules["nowhere"]
    assert [failure.config.kind for failure in failures] == ["Unknown"]
    assert Store(tmp_path).load(Mortal(1)) is not None


def test_workers_that_do_not_share_the_store_are_found_out(dask, tmp_path):
    from mortal import Mortal

    class Blind(Store):
        def identity(self):
            return "of a folder that only this machine has"

    with (
        open_cluster(dask[0]) as opened,
        pytest.raises(WorkerSetupError, match="all workers share"),
    ):
        execute([Mortal(2)], Blind(tmp_path), opened.executor)
    assert not (tmp_path / "runs").exists()


def test_a_sweep_on_a_cluster_from_the_command_line(dask, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(
        '[[sweep]]\nexperiment = "spheres-fraction"\nscale = "smoke"\nseeds = [0]\n'
        "settings.dims = [[5], [5, 10]]\n"
    )
    assert main(["sweep", "tiny.toml", "--cluster", dask[0], "--out", "out"]) == 0
    assert "runs are in out" in capsys.readouterr().out
    stored = {f.parent.name: f.read_bytes() for f in Path("out/runs").glob("*/arrays.safetensors")}
    assert main(["sweep", "tiny.toml", "--out", "local", "--workers", "1"]) == 0
    assert stored == {
        f.parent.name: f.read_bytes() for f in Path("local/runs").glob("*/arrays.safetensors")
    }


def test_a_mixture_is_fitted_to_shards_on_a_cluster(dask):
    from shards import LoadPart, made_up_rows

    from trueboundary.densities import MixtureOfFactorAnalyzersEM

    rows = made_up_rows()
    settings = {"n_components": 3, "n_factors": 2, "random_state": 0, "tol": 1e-2}
    expected = MixtureOfFactorAnalyzersEM(**settings).fit(rows)
    with open_cluster(dask[0]) as opened:
        shards = [LoadPart(i, 3) for i in range(3)]
        fitted = MixtureOfFactorAnalyzersEM(**settings).fit_shards(opened.executor, shards)
    assert fitted.n_iter_ == expected.n_iter_
    for name in ("weights_", "means_", "loadings_", "noise_variance_"):
        np.testing.assert_allclose(
            getattr(fitted, name), getattr(expected, name), rtol=0, atol=1e-10
        )


def test_a_worker_killed_in_mid_sweep_changes_no_bit(dask, tmp_path):
    from mortal import Mortal, Total

    address, workers = dask
    goal = Total(tuple(Mortal(seed, dies=seed == 5, seconds=0.02) for seed in range(12)))
    store, reference = Store(tmp_path / "cluster"), Store(tmp_path / "here")
    with open_cluster(address) as opened:
        _wait_for_workers(opened, 2)
        failures = execute([goal], store, opened.executor, n_workers=opened.count_workers)
    assert failures == []
    assert sorted(worker.poll() is None for worker in workers) == [False, True], "one was killed"
    killed = store.load(goal.parts[5])
    assert killed is not None
    assert killed.summary == {"lives": 2}
    same = Total(tuple(Mortal(seed) for seed in range(12)))
    for config in (*same.parts, same):
        run_one(str(reference.root), config)
    assert _tables(store, goal) == _tables(reference, same)
    for here, there in zip(same.parts, goal.parts, strict=True):
        assert _tables(store, there) == _tables(reference, here)


def test_a_device_item_waits_for_a_worker_that_has_one(dask):
    with open_cluster(dask[0], device="cuda:0") as opened:
        future = opened.executor.submit(abs, -1)
        time.sleep(0.5)
        assert not future.done(), "no worker here was started with --resources 'device=1'"
        future.cancel()
    with open_cluster(dask[0]) as opened:
        assert opened.executor.submit(abs, -1).result(60) == 1


_SBATCH = """#!/bin/bash
cp "$1" job  # as SLURM does: the file is removed once it has been handed in
setsid bash job >job.log 2>&1 &
echo "Submitted batch job $!"
"""
_SCANCEL = """#!/bin/bash
kill -- "-$1"
"""


def _use_cluster(file, tmp_path):
    """Run one item in a process of its own, on a machine whose SLURM is two small scripts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    script = (
        "import sys\n"
        "from trueboundary.runs import ClusterError, open_cluster\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        with open_cluster(sys.argv[1], n_workers=1) as opened:\n"
        "            print(opened.executor.submit(abs, -7).result(60))\n"
        "    except ClusterError as error:\n"
        "        print(error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(file)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
    )


def test_slurm_starts_workers_from_its_own_configuration(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")
    file = tmp_path / "slurm.yaml"
    file.write_text(
        "jobqueue:\n  slurm:\n    cores: 1\n    processes: 1\n    memory: 1GB\n"
        f"    interface: lo\n    local-directory: {tmp_path}\n"
    )
    done = _use_cluster(file, tmp_path)
    assert done.stdout == "7\n", done.stderr


def test_what_the_batch_system_refuses_is_said_in_one_sentence(tmp_path):
    file = tmp_path / "slurm.yaml"
    file.write_text("jobqueue: {slurm: {nonsense: 1}}")
    said = _use_cluster(file, tmp_path).stdout
    assert "no slurm cluster can be had" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read as one: No such file"),
        ("a: [", "cannot be read as one"),
        ("cores: 1", "has no section 'jobqueue'"),
        ("jobqueue: {}", "must name one batch system .*got none"),
        ("jobqueue: {slrm: {cores: 1}}", "must name one batch system .*slurm.*got slrm"),
        ("jobqueue: {slurm: {}, pbs: {}}", "got slurm, pbs"),
    ],
)
def test_a_bad_file_is_said_in_one_sentence(tmp_path, monkeypatch, content, says):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("batch.yaml").write_text(content)
    with pytest.raises(ClusterError, match=says) as caught, open_cluster("batch.yaml"):
        pass
    assert "\n" not in str(caught.value)


def test_nobody_at_an_address_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_WITHIN", 0.2)
    with (
        pytest.raises(ClusterError, match=r"answers at tcp://127\.0\.0\.1:1 "),
        open_cluster("tcp://127.0.0.1:1"),
    ):
        pass


def test_a_missing_extra_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ClusterError, match=r"pip install 'trueboundary\[cluster\]'"),
        open_cluster("tcp://127.0.0.1:1"),
    ):
        pass


def test_dask_is_not_loaded_unless_asked_for():
    script = (
        "import sys, trueboundary.runs, trueboundary.cli\n"
        "sys.exit(bool({'dask', 'distributed', 'yaml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
