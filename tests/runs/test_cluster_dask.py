"""A real Dask scheduler with two worker processes: equal results, whatever dies."""

import os
import re
import signal
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

HELPERS = Path(__file__).parents[1] / "helpers"
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
    assert "2 of 2 runs are in out" in capsys.readouterr().out
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


def _pretend(folder, system="slurm", **commands):
    """Set up a batch system of shell scripts; return a file that names it, and its environment."""
    (folder / "bin").mkdir(parents=True)
    for name, text in commands.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    needed = "memory: 1GB, disk: 1GB" if system == "htcondor" else "memory: 1GB"
    file = folder / "batch.yaml"
    file.write_text(f"jobqueue: {{{system}: {{cores: 1, {needed}, interface: lo}}}}")
    return file, os.environ | {"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}


REFUSE = "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1"
#: Batch systems that take no jobs: the system, its command and what that does, and what is said.
USELESS = {
    "refuses": (
        "slurm",
        {"sbatch": REFUSE},
        "error: Batch job submission failed: Invalid account;",
    ),
    "is missing": ("slurm", {}, "there is no sbatch on this machine"),
    "chats": ("slurm", {"sbatch": "echo Welcome"}, "Could not parse job id .* Welcome"),
    "says why elsewhere": ("slurm", {"sbatch": "echo no; exit 3"}, "Exit code: 3 .* no"),
    "hangs": ("slurm", {"sbatch": "exec sleep 20"}, "no answer within 1 s"),
    "dies": ("slurm", {"sbatch": "kill -9 $$"}, "Exit code: -9"),
    "pbs": ("pbs", {}, "qsub"),
    "sge": ("sge", {}, "qsub"),
    "lsf": ("lsf", {}, "bsub"),
    "oar": ("oar", {}, "oarsub"),
    "moab": ("moab", {}, "msub"),
    "htcondor": ("htcondor", {}, "condor_submit"),
}
ASK_ALL = """
import os, signal, sys
from trueboundary.runs import ClusterError, cluster, open_cluster

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    for file in sys.argv[1:]:
        cluster.SUBMIT_WITHIN = 1.0 if "hangs" in file else 60.0
        os.environ["PATH"] = os.path.join(os.path.dirname(file), "bin") + ":/usr/bin:/bin"
        try:
            with open_cluster(file, n_workers=2):
                print("a cluster")
        except ClusterError as error:
            print(error)
    assert signal.getsignal(signal.SIGINT) is before
"""


def test_a_batch_system_that_takes_no_jobs_is_said_in_one_sentence_each(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")
    files = [
        _pretend(tmp_path / name, system, **commands)[0]
        for name, (system, commands, _) in USELESS.items()
    ]
    # In a process of its own, for Dask leaves sockets open.
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL, *files], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(USELESS)
    for line, (system, _, says) in zip(said, USELESS.values(), strict=True):
        assert re.search(f"{system} takes no jobs from here: .*{says}", line), line
    assert "Traceback" not in done.stderr


SWEEP = '[[sweep]]\nexperiment = "spheres-fraction"\nscale = "smoke"\nsettings.dims = [[5]]\n'


def _sweep(file, environment, *arguments):
    (file.parent / "tiny.toml").write_text(SWEEP)
    return subprocess.Popen(
        [sys.executable, "-m", "trueboundary", "sweep", "tiny.toml", "--cluster", file, *arguments],
        cwd=file.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_sweep_goes_on_with_the_jobs_that_were_taken(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")
    only_first = f'if ! mkdir "{tmp_path}/first" 2>/dev/null; then {REFUSE}; fi\n'
    start = 'cp "$1" job; setsid sh job >job.log 2>&1 &\necho "Submitted batch job $!"'
    stop = 'kill -- "-$1"'
    with _sweep(*_pretend(tmp_path / "here", sbatch=only_first + start, scancel=stop),
                "--workers", "3") as process:  # fmt: skip
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "not taken, 2 of the jobs: sbatch: error: Batch job submission failed" in err
    assert err.count("not taken") == 1
    assert "1 of 1 run is in results/tiny" in out


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("answer", ["echo Submitted batch job 7", "exec sleep 100"])
def test_ctrl_c_ends_a_sweep_whose_jobs_do_not_start(answer, tmp_path):
    pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")
    batch = {"sbatch": f"touch asked; {answer}"}  # and no scancel
    with _sweep(*_pretend(tmp_path / "here", **batch)) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "here" / "asked").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "trueboundary: interrupted; what had finished is kept" in said
    assert "Error" not in said, said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read as one: No such file"),
        ("a: [", "cannot be read as one"),
        ("a: " + 20_000 * "[", "cannot be read as one"),
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


@pytest.mark.parametrize("where", ["tcp://", "tcp://host", "tcp://host:port", "tcp://:8786"])
def test_an_address_without_host_or_port_is_refused_at_once(monkeypatch, where):
    monkeypatch.setattr(cluster, "_connect", None)
    with pytest.raises(ClusterError, match="give a host and a port"), open_cluster(where):
        pass


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
