"""Puts the tiny experiment in the place of the real ones."""

import sys

import fake_experiment

from trueboundary.experiments import base, claims, registry
from trueboundary.report import collect


def register(monkeypatch):
    """Make ``sums`` the only experiment until the test ends."""
    experiments = {"sums": fake_experiment.EXPERIMENT}
    parsed = [claims.parse_claim("spheres", entry) for entry in fake_experiment.CLAIMS]
    monkeypatch.setitem(sys.modules, "trueboundary.experiments.sums", fake_experiment)
    monkeypatch.setattr(registry, "experiments", lambda: experiments)
    monkeypatch.setattr("trueboundary.experiments.experiments", lambda: experiments)
    monkeypatch.setattr(collect, "experiments", lambda: experiments)
    monkeypatch.setattr(collect, "read_claims", lambda paper: parsed)
    monkeypatch.setattr(base, "_scales", lambda: fake_experiment.SCALES)
