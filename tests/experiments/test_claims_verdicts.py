"""Claims: what a claims file may say, and which verdict a measurement leads to."""

import math

import pytest

from trueboundary.experiments import base
from trueboundary.experiments.base import Experiment, Measurement, Setting, read_settings
from trueboundary.experiments.claims import (
    Verdict,
    expand_entry,
    judge,
    parse_claim,
    read_claims,
)
from trueboundary.experiments.overrides import parse_overrides, parse_value
from trueboundary.experiments.registry import experiments, get_experiment

PAPERS = ("spheres", "bayes", "truth")
PAPER = {"dim": 500, "rates": (0.1, 0.2)}
ENTRY = {
    "id": "T1",
    "section": "1",
    "statement": "a number",
    "experiment": "fake",
    "quantity": "q",
    "test": "interval",
    "value": 0.18,
    "rounding": 0.005,
    "printed": "0.18",
    "why": "because",
    "depends_on": ["dim"],
}


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    real = base._scales()
    fake = {
        "dim": {"paper": 500, "quick": 500, "smoke": 20},
        "rates": {"paper": [0.1, 0.2], "quick": [0.1], "smoke": [0.1], "why": "time"},
        "schedule": {"paper": "constant", "quick": "linear", "smoke": "linear", "why": "time"},
        "exact": {"paper": True, "quick": True, "smoke": False},
        "mixed": {"paper": 1.5, "quick": 1, "smoke": 1, "why": "time"},
    }
    monkeypatch.setattr(base, "_scales", lambda: {**real, "fake": fake})


def verdict(measurement, used=PAPER, **changes):
    return judge(parse_claim("spheres", ENTRY | changes), measurement, used).verdict


@pytest.mark.parametrize(
    ("test", "value", "low", "high", "reproduced"),
    [
        ("interval", 0.18, 0.17, 0.19, True),
        ("interval", 0.20, 0.185, 0.21, True),  # touches the rounded value
        ("interval", 0.20, 0.186, 0.21, False),
        ("interval", 0.16, 0.15, 0.175, True),
        ("interval", 0.16, 0.15, 0.174, False),
        ("interval", 0.1849, None, None, True),
        ("interval", 0.1851, None, None, False),
        ("interval", math.inf, None, None, False),
        ("interval", math.inf, 0.1, math.inf, True),
        ("interval", math.nan, None, None, False),
        ("at most", 0.18, 0.17, 0.185, True),
        ("at most", 0.18, 0.17, 0.186, False),
        ("at most", 0.0, None, None, True),
        ("at most", math.inf, None, None, False),
        ("at most", math.nan, None, None, False),
        ("at least", 0.18, 0.175, 0.3, True),
        ("at least", 0.18, 0.174, 0.3, False),
        ("at least", math.inf, None, None, True),
        ("at least", math.nan, math.nan, math.nan, False),
    ],
)
def test_numbers(test, value, low, high, reproduced):
    expected = Verdict.REPRODUCED if reproduced else Verdict.DIFFERS
    assert verdict(Measurement(value, low, high), test=test) is expected


@pytest.mark.parametrize("claimed", [math.inf, -math.inf])
def test_an_infinite_claim_meets_only_itself(claimed):
    assert verdict(Measurement(claimed), value=claimed) is Verdict.REPRODUCED
    assert verdict(Measurement(1.0), value=claimed) is Verdict.DIFFERS


def test_statements():
    statement = {"test": "statement", "value": None}
    assert verdict(Measurement(True), **statement) is Verdict.REPRODUCED
    assert verdict(Measurement(False), **statement) is Verdict.DIFFERS


@pytest.mark.parametrize(
    ("measurement", "changes"),
    [
        (Measurement(1.0), {"test": "statement", "value": None}),
        (Measurement(True), {}),
        (Measurement(0.2, 0.3, 0.4), {}),
        (Measurement(0.2, 0.1, math.nan), {}),
        (Measurement(0.2, math.nan, 0.3), {}),
    ],
)
def test_a_measurement_of_the_wrong_form_is_refused(measurement, changes):
    with pytest.raises(ValueError, match="T1"):
        verdict(measurement, **changes)


def test_reduced_settings_are_not_judged_but_shown():
    judgement = judge(parse_claim("spheres", ENTRY), Measurement(9.0), PAPER | {"dim": 2_000})
    assert judgement.verdict is Verdict.NOT_AT_THIS_SCALE
    assert judgement.reason == "9 against 0.18"
    assert judgement.reductions == ("dim is 2,000 here, 500 in the paper",)
    assert judgement.measurement == Measurement(9.0)


def test_only_settings_that_matter_count():
    assert verdict(Measurement(0.18), PAPER | {"rates": (0.1,)}) is Verdict.REPRODUCED
    changes = {"depends_on": ["dim", "rates"]}
    assert verdict(Measurement(0.18), PAPER, **changes) is Verdict.REPRODUCED
    used = PAPER | {"rates": (0.1,)}
    assert verdict(Measurement(0.18), used, **changes) is Verdict.NOT_AT_THIS_SCALE


def test_settings_as_good_as_the_papers_are_judged_at_any_scale():
    fake = Experiment("fake", "spheres", "1", "t", "q", lambda *_: {}, lambda *_: None)  # type: ignore[arg-type,return-value]
    assert verdict(Measurement(0.18), fake.settings("quick")) is Verdict.REPRODUCED
    assert verdict(Measurement(0.18), fake.settings("smoke")) is Verdict.NOT_AT_THIS_SCALE
    given = fake.settings("smoke", {"dim": 500})
    assert verdict(Measurement(0.18), given) is Verdict.REPRODUCED
    with pytest.raises(ValueError, match="fake has no setting 'dims'"):
        fake.settings("smoke", {"dims": 500})


@pytest.mark.parametrize("used", [PAPER, PAPER | {"dim": 20}])
def test_what_the_runs_do_not_show_is_not_testable(used):
    assert verdict(None, used) is Verdict.NOT_AT_THIS_SCALE


@pytest.mark.parametrize("used", [PAPER, PAPER | {"dim": 20}])
def test_missing_data_are_called_so_whatever_the_scale(used):
    claim = parse_claim("spheres", ENTRY)
    assert judge(claim, None, used, lacks_data=True).verdict is Verdict.NO_DATA
    assert judge(claim, Measurement(0.18), PAPER, lacks_data=True).verdict is Verdict.REPRODUCED


def test_what_is_less_than_in_the_paper_besides_settings_counts_where_settings_do():
    few = {"reductions": ["10 photographs here, 100 in the paper"]}
    judgement = judge(parse_claim("spheres", ENTRY), Measurement(0.18), PAPER, **few)
    assert judgement.verdict is Verdict.NOT_AT_THIS_SCALE
    assert judgement.reductions == tuple(few["reductions"])
    always = parse_claim("spheres", ENTRY | {"depends_on": []})
    assert judge(always, Measurement(0.18), PAPER, **few).verdict is Verdict.REPRODUCED


def test_one_entry_may_stand_for_the_rows_of_a_table():
    each = [
        {"row": "a", "value": 0.18},
        {"row": "b", "value": 0.3, "printed": "{row}: 0.3", "rounding": 0.0},
    ]
    table = ENTRY | {"id": "T1-{row}", "statement": "the number of {row}", "each": each}
    first, second = (parse_claim("spheres", entry) for entry in expand_entry(table))
    assert (first.id, first.value, first.printed, first.rounding) == ("T1-a", 0.18, "0.18", 0.005)
    assert (second.statement, second.printed) == ("the number of b", "b: 0.3")
    assert expand_entry(ENTRY) == [ENTRY]


def test_a_surprise_is_a_verdict_against_the_known_errata():
    claim = parse_claim("spheres", ENTRY | {"expected": "differs"})
    assert "differs" in judge(claim, Measurement(0.18), PAPER).surprise
    assert judge(claim, Measurement(0.3), PAPER).surprise == ""
    assert judge(claim, Measurement(0.18), PAPER | {"dim": 20}).surprise == ""


def test_a_dependence_on_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="depends on width"):
        verdict(Measurement(0.18), depends_on=["width"])
    with pytest.raises(ValueError, match="depends on dim"):
        verdict(Measurement(0.18), {})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"why": " "}, "why is empty"),
        ({"statement": ""}, "statement is empty"),
        ({"test": "near"}, "test must be one of"),
        ({"value": None}, "needs a value"),
        ({"test": "statement"}, "needs a value"),
        ({"rounding": -1.0}, "rounding"),
        ({"rounding": math.nan}, "rounding"),
        ({"expected": "maybe"}, "expected"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_wrong_entry_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        parse_claim("spheres", ENTRY | changes)


def test_an_entry_that_lacks_something_is_refused():
    entry = {key: value for key, value in ENTRY.items() if key != "why"}
    with pytest.raises(ValueError, match=r"T1.*why"):
        parse_claim("spheres", entry)


@pytest.mark.parametrize("paper", PAPERS)
def test_the_claims_file_is_sound(paper):
    claims = read_claims(paper)
    assert len({claim.id for claim in claims}) == len(claims)
    assert any(claim.headline for claim in claims)
    for claim in claims:
        settings = {setting.name for setting in read_settings(claim.experiment)}
        assert set(claim.depends_on) <= settings, claim.id


def test_an_unknown_experiment_is_answered_with_the_nearest():
    if experiments():
        known = next(iter(experiments()))
        with pytest.raises(ValueError, match=f"did you mean '{known}'"):
            get_experiment(known + "x")
    with pytest.raises(ValueError, match="no experiment"):
        get_experiment("")


def _setting(*values):
    return Setting("s", dict(zip(base.SCALES, values, strict=True)), "")


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (_setting(1, 2, 3), "7", 7),
        (_setting(1, 2, 3), "1e6", 1_000_000),
        (_setting(1, 2, 3), "9007199254740993", 9007199254740993),
        (_setting(1, 2, 3), "-2", -2),
        (_setting(1, 2.5, 3), "7", 7.0),
        (_setting(True, True, False), "False", False),
        (_setting("a", "b", "b"), "c", "c"),
        (_setting((1,), (1, 2), (3,)), "4, 5", (4, 5)),
        (_setting((), (1.5,), (3,)), "4", (4.0,)),
        (_setting((), (1.5,), (3,)), "", ()),  # a scale does without values, too
    ],
)
def test_values_get_the_type_of_their_setting(setting, text, value):
    parsed = parse_value(setting, text)
    assert parsed == value
    assert repr(parsed) == repr(value)


@pytest.mark.parametrize(
    ("setting", "text", "says"),
    [
        (_setting(1, 2, 3), "7.5", "a whole number"),
        (_setting(1, 2, 3), "many", "a whole number"),
        (_setting(1, 2, 3), "inf", "a whole number"),
        (_setting(1.0, 2, 3), "many", "a number"),
        (_setting(True, True, False), "1", "true or false"),
        (_setting((1,), (1, 2), (3,)), "4;5", "a whole number"),
        (_setting({}, {}, {}), "x", "cannot be set"),
    ],
)
def test_wrong_values_are_refused(setting, text, says):
    with pytest.raises(ValueError, match=says):
        parse_value(setting, text)


def test_overrides_go_to_the_experiments_that_have_the_setting():
    fake = Experiment("fake", "spheres", "1", "t", "q", lambda *_: {}, lambda *_: None)  # type: ignore[arg-type,return-value]
    assert parse_overrides([fake], ["dim=7", "rates=1,2"]) == {
        "fake": {"dim": 7, "rates": (1.0, 2.0)}
    }
    with pytest.raises(ValueError, match="did you mean 'schedule'"):
        parse_overrides([fake], ["shedule=x"])
    for text in ("dim", "=3"):
        with pytest.raises(ValueError, match="name=value"):
            parse_overrides([fake], [text])
