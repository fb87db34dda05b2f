"""The page about adding an experiment: what it shows does work."""

import re
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from trueboundary.experiments import Verdict, base, judge
from trueboundary.experiments.claims import parse_claim
from trueboundary.runs import Store, execute

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-experiment.md"


def test_the_experiment_in_the_documentation_runs(monkeypatch, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    settings, claims = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    module = ModuleType("coin_tosses")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, module.__dict__)
    monkeypatch.setattr(base, "_scales", lambda: tomllib.loads(settings))
    experiment = module.EXPERIMENT
    configs = experiment.runs("quick")
    store = Store(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        assert execute(configs.values(), store, executor) == []
    runs = {name: store.read(store.path(config)) for name, config in configs.items()}
    analysis = experiment.analyse(runs, experiment.settings("quick"))
    assert analysis.panels[0].draw().axes
    (entry,) = tomllib.loads(claims)["claim"]
    claim = parse_claim("spheres", entry)
    measured = analysis.measurements["C1"]
    verdict = judge(claim, measured, experiment.settings("quick")).verdict
    assert verdict is Verdict.NOT_AT_THIS_SCALE
    assert judge(claim, measured, experiment.settings("paper")).verdict is Verdict.REPRODUCED
