"""What a borrowed graphics card is for, in pieces of at most ten minutes, most valuable first.

    python benchmarks/gpu.py [--list] [--piece NAME ...] [--limit SECONDS] [--out FOLDER]
    python benchmarks/gpu.py --tiny --device cpu --out FOLDER

Every piece is made of runs in a store, so that nothing is computed twice: a piece that comes to its
limit stops, keeps what has finished and the checkpoint of what has not, and the same command goes
on from there. Runs of the experiments have the keys that ``trueboundary run --device cuda`` gives
them. Miniatures show that all pieces run, on a machine without a card too.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.trained_networks import TrainedNetwork
from trueboundary.experiments.registry import get_experiment
from trueboundary.regular_files import write_atomically
from trueboundary.runs import (
    Context,
    DamagedRunError,
    Run,
    RunConfig,
    RunResult,
    Store,
    collect,
    run_one,
)

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "benchmarks" / "speed"
LIMIT = 600.0


class TimeIsUp(BaseException):
    """The piece has come to its limit; no handler of errors on the way is to stop it."""


@dataclass(frozen=True)
class OnCard(RunConfig):
    """What another program finds on a device, at one state of this repository."""

    commit: str
    device: str
    tiny: bool

    def output(self, *arguments: str) -> str:
        """Run a Python program to its end and return what it said, or raise with its last lines."""
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip().splitlines()[-40:]
            raise RuntimeError("\n".join([f"{' '.join(arguments)} failed:", *said]))
        return done.stdout


@dataclass(frozen=True)
class CardTests(OnCard):
    """The tests marked ``gpu``."""

    def compute(self, context: Context) -> RunResult:
        """Run them; one that fails is no result, and all are tried again the next time."""
        where = "tests/training/test_training_recorded.py" if self.tiny else "tests"
        said = self.output("-m", "pytest", "-q", "-n", "0", "-m", "gpu", where)
        return RunResult({"last_line": said.strip().splitlines()[-1]})


@dataclass(frozen=True)
class CardSpeed(OnCard):
    """One of the benchmarks of speed."""

    name: str

    def compute(self, context: Context) -> RunResult:
        """Run it, in another process."""
        # In that very process: a limit that ends it leaves none behind.
        options = ["--here", "--device", self.device, "--out", str(context.checkpoint)]
        self.output(str(SPEED), self.name, *options, *(["--tiny"] if self.tiny else []))
        return RunResult(json.loads((context.checkpoint / f"{self.name}.json").read_text("utf-8")))


def pieces(device: str, tiny: bool) -> dict[str, list[RunConfig]]:
    """Return the runs of every piece; those that they need are not named."""
    shared: Any = {"commit": _commit(), "device": device, "tiny": tiny}
    # What starts a process has nothing to say of a card.
    speed = ["training"] if tiny else [name for name in _benchmarks() if name != "start"]
    scale: Any = "smoke" if tiny else "paper"
    relu = get_experiment("truth-relu-error").runs(scale, device=device).values()
    count = next(run for run in relu if isinstance(run, ErrorCount))
    figure = get_experiment("spheres-tradeoff").runs(scale, device=device)
    online = [run for run in _networks(figure.values()) if run.n_train == 0]
    deepest = max(online, key=lambda network: network.n_weights)
    return {
        "tests": [CardTests(**shared)],
        "speed": [CardSpeed(**shared, name=name) for name in speed],
        "relu": [count.network],
        "relu-count": [count],
        "h2000-d8": [deepest],
        # What needs no trained network has no use for a card.
        **{f"fig5-{name}": [run] for name, run in figure.items() if any(_networks([run]))},
    }


def _networks(goals: Any) -> Iterator[TrainedNetwork]:
    return (run for run in collect(goals).values() if isinstance(run, TrainedNetwork))


def _benchmarks() -> list[str]:
    command = [sys.executable, str(SPEED), "--list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def in_order(goals: list[RunConfig]) -> list[RunConfig]:
    """Return runs and all that they need, each after its needs."""
    ordered: dict[str, RunConfig] = {}

    def add(run: RunConfig) -> None:
        if run.digest not in ordered:
            for need in run.needs().values():
                add(need)
            ordered[run.digest] = run

    for goal in goals:
        add(goal)
    return list(ordered.values())


def stored(run: RunConfig, store: Store) -> Run | None:
    """Return a finished run; one that is damaged is computed again."""
    try:
        return store.load(run)
    except DamagedRunError:
        return None


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TimeIsUp` when the time is up, wherever the program is then."""

    def stop(number: int, frame: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def work(name: str, goals: list[RunConfig], store: Store, limit: float) -> bool:
    """Compute a piece within its limit; return whether nothing failed."""
    missing = [run for run in in_order(goals) if stored(run, store) is None]
    if not missing:
        print(f"{name}: done before", flush=True)
        return True
    start = time.monotonic()
    n_done = 0
    try:
        with limited(limit):
            for run in missing:
                run_one(str(store.root.absolute()), run)
                n_done += 1
    except TimeIsUp:
        left = len(missing) - n_done
        print(
            f"{name}: stopped after {limit:g} s, {left} of {len(missing)} runs left; the same "
            "command goes on from there",
            flush=True,
        )
        return True
    except Exception as error:
        print(f"{name}: {missing[n_done].folder} failed: {error}", file=sys.stderr, flush=True)
        return False
    print(f"{name}: done in {time.monotonic() - start:.0f} s", flush=True)
    return True


def write_tables(goals: list[RunConfig], store: Store, folder: Path) -> None:
    """Write the finished tables of speed where the page of results looks for them."""
    for run in goals:
        found = stored(run, store) if isinstance(run, CardSpeed) else None
        if isinstance(run, CardSpeed) and found is not None:
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found.summary, indent=1) + "\n"
            write_atomically(folder / f"{run.name}.json", text.encode())


def main() -> int:
    """Compute the pieces that were asked for, in their order."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the names of all pieces and end")
    parser.add_argument("--piece", action="append", metavar="NAME", help="compute this piece alone")
    parser.add_argument("--limit", type=_seconds, default=LIMIT, help="seconds for each piece")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="miniatures, which show that all runs")
    parser.add_argument("--out", type=Path, help="folder of the store, results/gpu")
    options = parser.parse_args()
    if options.tiny and options.out is None:
        parser.error("miniatures are no results: say with --out where they go")
    if options.device == "cpu" and not (options.tiny or options.list):
        parser.error("the pieces take days on a CPU: say --tiny as well")
    if options.device != "cpu" and not options.list and not torch.cuda.is_available():
        print(
            "torch finds no CUDA device on this machine, which the pieces are for.", file=sys.stderr
        )
        return 2
    every = pieces(options.device, options.tiny)
    unknown = [name for name in options.piece or () if name not in every]
    if unknown:
        parser.error(f"there is no piece {unknown[0]!r}; there are {', '.join(every)}")
    if options.list:
        print("\n".join(every))
        return 0
    store = Store(options.out or ROOT / "results" / "gpu")
    tables = store.root if options.tiny else ROOT / "benchmarks" / "results"
    sound = True
    for name in options.piece or every:
        sound &= work(name, every[name], store, options.limit)
        write_tables(every[name], store, tables / f"speed-{torch.device(options.device).type}")
    return 0 if sound else 1


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
