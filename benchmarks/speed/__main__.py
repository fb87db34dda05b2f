"""Run the benchmarks of speed, each in a process of its own, and write the page of results.

    python benchmarks/speed [NAME ...] [--list] [--tiny] [--device cuda] [--out FOLDER]

Without names all run. Each leaves a JSON file in the folder (``benchmarks/results/speed``, or
``speed-cuda`` for a card); with the default folder, ``docs/speed.md`` is written from what lies
there, so that one benchmark can be run again alone.
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
NAMES = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in ("__main__", "harness", "page"))


def one(name: str, device: str, tiny: bool, out: Path) -> None:
    """Run one benchmark in this process and write its result."""
    import torch
    from harness import Setup, machine

    torch.set_num_threads(1)
    module = importlib.import_module(name)
    start = time.process_time()
    rows = module.rows(Setup(device=device, tiny=tiny))
    result = {
        "title": module.TITLE,
        "about": " ".join(module.__doc__.split()),
        "machine": machine(device),
        "date": date.today().isoformat(),
        "seconds": round(time.process_time() - start, 1),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (out / f"{name}.json").write_text(text, encoding="utf-8")


def main() -> int:
    """Run what was asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--tiny", action="store_true", help="miniatures, which show that all runs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    if options.tiny and options.out is None:
        parser.error("miniatures are no results: say with --out where they go")
    if options.list:
        print("\n".join(NAMES))
        return 0
    kind = "speed" if options.device == "cpu" else f"speed-{options.device.partition(':')[0]}"
    out = options.out or ROOT / "benchmarks" / "results" / kind
    if options.here:
        one(options.names[0], options.device, options.tiny, out)
        return 0
    failed = []
    for name in options.names or NAMES:
        print(name, flush=True)
        command = [sys.executable, str(HERE), name, "--here", "--device", options.device]
        command += ["--out", str(out), *(["--tiny"] if options.tiny else [])]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    if options.out is None:
        from page import write_page

        write_page(ROOT)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
