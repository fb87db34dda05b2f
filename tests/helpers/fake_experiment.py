"""A tiny experiment for tests: importable in worker processes and free of torch."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from trueboundary.experiments import Analysis, Experiment, Measurement, Panel
from trueboundary.figures import add_legend, new_figure
from trueboundary.runs import RunConfig, RunResult

SCALES = {
    "sums": {
        "n_terms": {
            "smoke": 10,
            "quick": 100,
            "paper": 1000,
            "why": "fewer terms are faster",
            "stated": "section 1",
            "amount": True,
        },
        "powers": {
            "smoke": [1.0],
            "quick": [1.0, 2.0],
            "paper": [1.0, 2.0],
            "why": "time",
            "assumed": "squares",
        },
        "mode": {"smoke": "plain", "quick": "plain", "paper": "plain", "assumed": "not stated"},
        "shifted": {"smoke": False, "quick": False, "paper": False, "assumed": "not stated"},
    }
}

CLAIMS = [
    {
        "id": "T1",
        "section": "section 1",
        "statement": "The sum of inverse squares comes near pi squared over six",
        "experiment": "sums",
        "quantity": "sum of the first terms",
        "test": "interval",
        "value": 1.64,
        "rounding": 0.01,
        "printed": "1.64",
        "why": "printed to two places",
        "depends_on": ["n_terms"],
    },
    {
        "id": "T2",
        "section": "section 2 | appendix",
        "statement": "The sums grow with the number of terms",
        "experiment": "sums",
        "quantity": "order of the partial sums",
        "test": "statement",
        "why": "an ordering",
        "corrected": "they grow strictly",
        "expected": "differs",
    },
    {
        "id": "T3",
        "section": "section 3",
        "statement": "Something that another experiment measures",
        "experiment": "elsewhere",
        "quantity": "a number",
        "test": "at most",
        "value": 1.0,
        "why": "a bound",
    },
]


@dataclass(frozen=True)
class Base(RunConfig):
    n_terms: int
    seed: int

    def compute(self, context):
        terms = 1.0 / np.arange(1, self.n_terms + 1) ** 2
        context.progress(1.0)
        return RunResult({"n": self.n_terms}, {"terms": terms})


@dataclass(frozen=True)
class Sum(RunConfig):
    n_terms: int
    power: float
    mode: str
    seed: int

    def __post_init__(self):
        if self.n_terms < 1:
            raise ValueError(f"n_terms must be at least 1, got {self.n_terms}")

    def needs(self):
        return {"base": Base(self.n_terms, self.seed)}

    def compute(self, context):
        if self.mode == "fail":
            raise ArithmeticError("this sum was asked to fail")
        if self.mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "slow":
            (context.checkpoint / "started").touch()
            time.sleep(60)
        terms = context.inputs["base"].arrays["terms"] ** (self.power / 2.0)
        sums = np.cumsum(terms)
        return RunResult({"last": float(sums[-1]), "limit": float("inf")}, {"sums": sums})


def plan(settings, seed, device):
    return {
        f"power {power:g}": Sum(settings["n_terms"], power, settings["mode"], seed)
        for power in settings["powers"]
    }


def analyse(runs, settings):
    sums = {name: run.arrays["sums"] for name, run in runs.items()}
    rows = [
        {"run": name, "n": i + 1, "sum": float(value)}
        for name, values in sums.items()
        for i, value in enumerate(values[:5])
    ]

    def draw():
        figure, (axes,) = new_figure()
        for name, values in sums.items():
            axes.semilogx(np.arange(1, len(values) + 1), values, label=name)
        axes.set(xlabel="terms", ylabel="partial sum", title="Partial sums")
        add_legend(axes)
        return figure

    last = list(sums.values())[-1]
    growing = Measurement(bool((np.diff(last) > 0).all()), cells=rows, note="Every step counts.")
    value = Measurement(float(last[-1]), n=len(last), exact=float(np.pi**2 / 6))
    panel = Panel("sums", "Partial sums", "They level off & <stay> below the limit.", draw, rows)
    return Analysis([panel], {"T1": value, "T2": growing}, ["A remark with an umlaut: ü."])


EXPERIMENT = Experiment(
    "sums", "spheres", "Figure 0", "Sums of powers", "Do the sums settle?", plan, analyse
)
