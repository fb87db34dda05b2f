"""Claims: what a claims file may say, and which verdict a measurement leads to."""

import math

import numpy as np
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
from trueboundary.experiments.own_findings import parse_finding, read_findings
from trueboundary.experiments.papers import PAPERS
from trueboundary.experiments.registry import experiments, get_experiment
from trueboundary.experiments.summaries import over_networks, share_measurement
from trueboundary.theory.intervals import prediction_factor, t_interval

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


def _scales():
    stated, assumed = {"stated": "section 1"}, {"assumed": "not stated"}
    time = {"why": "time"}
    digits, faces = ["mnist/0-6"], ["celeba/Male", "celeba/Smiling"]
    return {
        "dim": {"paper": 500, "quick": 500, "smoke": 20} | stated,
        "rates": {"paper": [0.1, 0.2], "quick": [0.1], "smoke": [0.1]} | time | stated,
        "schedule": {"paper": "constant", "quick": "linear", "smoke": "linear"} | time | stated,
        "exact": {"paper": True, "quick": True, "smoke": False} | stated,
        "mixed": {"paper": 1.5, "quick": 1, "smoke": 1} | time | assumed,
        "bias": {"paper": -1.0, "quick": -10.0, "smoke": -10.0} | time | assumed,
        "n_points": {"paper": 1000, "quick": 100, "smoke": 5, "amount": True} | time | stated,
        "sizes": {"paper": [4, 8], "quick": [4], "smoke": [4], "amount": True} | time | stated,
        "dataset": {"paper": faces, "quick": digits, "smoke": ["synthetic"]} | time | stated,
    }


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    real = base._scales()
    monkeypatch.setattr(base, "_scales", lambda: {**real, "fake": _scales()})


def verdict(measurement, used=PAPER, **changes):
    return judge(parse_claim("spheres", ENTRY | changes), measurement, used).verdict


YES, NO, OPEN = Verdict.REPRODUCED, Verdict.DIFFERS, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("test", "value", "low", "high", "expected"),
    [
        ("interval", 0.18, 0.17, 0.19, YES),
        ("interval", 0.20, 0.185, 0.21, YES),  # touches the rounded value
        ("interval", 0.20, 0.186, 0.21, NO),
        ("interval", 0.16, 0.15, 0.175, YES),
        ("interval", 0.16, 0.15, 0.174, NO),
        ("interval", 0.18, 0.15, 0.21, OPEN),
        ("interval", 0.18, 0.163, 0.197, YES),  # as wide as may be: a tenth either way
        ("interval", 0.1849, None, None, YES),
        ("interval", 0.1851, None, None, NO),
        ("interval", math.inf, None, None, NO),
        ("interval", math.inf, 0.1, math.inf, OPEN),
        ("interval", math.nan, None, None, OPEN),
        ("at most", 0.18, 0.17, 0.185, YES),
        ("at most", 0.18, 0.17, 0.186, OPEN),
        ("at most", 0.2, 0.185, 0.3, OPEN),
        ("at most", 0.2, 0.186, 0.3, NO),
        ("at most", 0.0, None, None, YES),
        ("at most", math.inf, None, None, NO),
        ("at most", math.nan, None, None, OPEN),
        ("at least", 0.18, 0.175, 0.3, YES),
        ("at least", 0.18, 0.174, 0.3, OPEN),
        ("at least", 0.16, 0.1, 0.175, OPEN),
        ("at least", 0.16, 0.1, 0.174, NO),
        ("at least", math.inf, None, None, YES),
        ("at least", math.nan, math.nan, math.nan, OPEN),
    ],
)
def test_numbers(test, value, low, high, expected):
    assert verdict(Measurement(value, low, high), test=test) is expected


# --- what noise must not decide ------------------------------------------------------------------

ALPHAS = {"value": 394.0, "rounding": 0.5, "printed": "394 of 500"}


def test_three_networks_far_apart_reproduce_nothing():
    claim = parse_claim("spheres", ENTRY | ALPHAS)
    judgement = judge(claim, over_networks(np.array([250.0, 330.0, 440.0])), PAPER)
    assert judgement.verdict is OPEN
    assert "wider than the ±39.4 that decide; no number of networks" in judgement.reason
    assert judgement.n_needed is None
    near = judge(claim, over_networks(np.array([385.0, 394.0, 405.0])), PAPER)
    assert near.verdict is OPEN
    assert near.reason.endswith(f"n = {near.n_needed} would decide it")
    # So many networks with the same spread would do, and one fewer would not.
    for n, outcome in ((near.n_needed, YES), (near.n_needed - 1, OPEN)):
        half = prediction_factor(n) * np.std([385.0, 394.0, 405.0], ddof=1)
        found = Measurement(394.0, 394.0 - half, 394.0 + half, n=n, interval_of="networks")
        assert judge(claim, found, PAPER).verdict is outcome


def test_networks_of_one_mean_may_hide_that_the_papers_is_none_of_them():
    # The interval of the mean, [377, 383], would exclude 394; the paper's network is one of many.
    networks = np.random.default_rng(0).normal(380.0, 12.0, 60)
    assert max(t_interval(networks)) < 393
    assert verdict(over_networks(networks), **ALPHAS) is YES


def test_one_network_alone_reproduces_nothing_and_refutes_nothing():
    for value in (394.0, 200.0):
        found = over_networks(np.array([value]))
        judgement = judge(parse_claim("spheres", ENTRY | ALPHAS), found, PAPER)
        assert judgement.verdict is OPEN
        assert "two or more are needed" in judgement.reason


@pytest.mark.parametrize(
    ("test", "value", "low", "high", "n_needed"),
    [
        ("at most", 0.17, 0.14, 0.20, 400),  # half as wide: four times as many
        ("at most", 0.20, 0.17, 0.23, 400),
        ("at least", 0.19, 0.16, 0.22, 400),
        ("at most", 0.185, 0.1, 0.3, None),
    ],
)
def test_an_interval_on_both_sides_of_a_bound_decides_nothing(test, value, low, high, n_needed):
    claim = parse_claim("spheres", ENTRY | {"test": test})
    judgement = judge(claim, Measurement(value, low, high, n=100), PAPER)
    assert judgement.verdict is OPEN
    assert "on both sides" in judgement.reason
    assert judgement.n_needed == pytest.approx(n_needed, abs=1) if n_needed else True
    assert (judgement.n_needed is None) == (n_needed is None)


def test_a_count_of_zero_is_as_good_as_its_limit():
    rate = {"test": "at most", "value": 0.001, "rounding": 0.0, "printed": "0.1 %"}
    few = judge(parse_claim("spheres", ENTRY | rate), share_measurement(0, 200), PAPER)
    assert few.verdict is OPEN
    # Its limit falls like 1/n.
    assert few.n_needed is not None
    assert verdict(share_measurement(0, few.n_needed), **rate) is YES
    assert verdict(share_measurement(0, few.n_needed // 2), **rate) is OPEN


def test_nothing_left_by_an_attack_is_not_what_the_paper_had_left():
    (claim,) = [claim for claim in read_claims("bayes") if claim.id == "B2.5"]
    settings = get_experiment("bayes-symmetric").settings("paper")
    assert judge(claim, share_measurement(0, 200), settings).verdict is NO
    assert judge(claim, share_measurement(16, 200), settings).verdict is YES
    assert judge(claim, share_measurement(2, 20), settings).verdict is OPEN


@pytest.mark.parametrize("attribute", ["Male", "Smiling"])
def test_few_photographs_do_not_excuse_asymmetric_faces(attribute: str) -> None:
    """They follow from a formula without them; faces of another size are another formula."""
    (claim,) = [c for c in read_claims("bayes") if c.id == f"B1.7-{attribute}-asymmetric"]
    faces = get_experiment("bayes-faces")
    found = Measurement(2.02, 2.01, 2.03, n=50)
    few = ["mixtures were fitted to 7,987 faces, of the 162,770 for training"]
    judgement = judge(claim, found, faces.settings("quick", {"face_size": 64}), conditions=few)
    assert (judgement.verdict, judgement.surprise) == (NO, "")
    assert list(judgement.conditions) == few
    smaller = judge(claim, found, faces.settings("quick"), conditions=few)
    assert smaller.verdict is Verdict.NOT_AT_THIS_SCALE


def test_a_bracket_is_not_narrowed_by_more_points():
    found = Measurement(0.18, 0.1, 0.3, n=100, interval_of="bracket")
    judgement = judge(parse_claim("spheres", ENTRY), found, PAPER)
    assert (judgement.verdict, judgement.n_needed) == (OPEN, None)
    assert "finer grid" in judgement.reason


def test_an_entry_may_say_what_precision_decides():
    wide = Measurement(0.18, 0.13, 0.23)
    assert verdict(wide, precision=0.05, precision_why="because") is YES
    assert verdict(wide, precision=0.04, precision_why="because") is OPEN


def test_a_statement_may_be_left_open():
    statement = {"test": "statement", "value": None}
    assert verdict(Measurement(None), **statement) is OPEN


@pytest.mark.parametrize("claimed", [math.inf, -math.inf])
def test_an_infinite_claim_meets_only_itself(claimed):
    assert verdict(Measurement(claimed), value=claimed) is Verdict.REPRODUCED
    assert verdict(Measurement(1.0), value=claimed) is Verdict.DIFFERS


def test_statements():
    statement = {"test": "statement", "value": None}
    assert verdict(Measurement(True), **statement) is YES
    assert verdict(Measurement(False), **statement) is NO


@pytest.mark.parametrize(
    ("measurement", "changes"),
    [
        (Measurement(1.0), {"test": "statement", "value": None}),
        (Measurement(True), {}),
        (Measurement(None), {}),
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
    assert judgement.reductions == ("dim is 2,000 here, 500 in the paper (section 1)",)
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


# --- what settings must not decide ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "used", "expected"),
    [
        ("n_points", 999, Verdict.NOT_AT_THIS_SCALE),
        ("n_points", 1000, YES),
        ("n_points", 20_000, YES),
        ("sizes", (4,), Verdict.NOT_AT_THIS_SCALE),
        ("sizes", (8, 4, 16), YES),
        ("rates", (0.1, 0.2, 0.3), Verdict.NOT_AT_THIS_SCALE),  # not declared an amount
        ("dim", 2000, Verdict.NOT_AT_THIS_SCALE),
        ("bias", -10.0, YES),
        ("mixed", 0.001, YES),
    ],
)
def test_only_less_than_stated_makes_a_claim_untestable(name, used, expected):
    assert verdict(Measurement(0.18), {name: used}, depends_on=[name]) is expected


@pytest.mark.parametrize("bias", [-1.0, -10.0])
def test_what_the_paper_does_not_state_is_said_with_the_verdict(bias):
    claim = parse_claim("spheres", ENTRY | {"depends_on": ["dim", "bias"]})
    judgement = judge(claim, Measurement(0.18), PAPER | {"bias": bias})
    assert judgement.verdict is YES
    assert judgement.assumptions == (f"bias is {bias:g} (not stated)",)
    assert judgement.reductions == ()


def test_other_images_are_named_and_decide_nothing():
    claim = parse_claim("spheres", ENTRY | {"depends_on": ["dataset"]})
    judgement = judge(claim, Measurement(0.18), {"dataset": ("mnist/0-6",)})
    assert judgement.verdict is YES
    (told,) = judgement.conditions
    assert told == ("measured on mnist/0-6; celeba/Male, celeba/Smiling in the paper (section 1)")
    own = judge(claim, Measurement(0.18), {"dataset": ("celeba/Male", "celeba/Smiling")})
    assert own.conditions == ()
    drawn = judge(claim, Measurement(0.18), {"dataset": ("synthetic",)})
    assert drawn.verdict is Verdict.NOT_AT_THIS_SCALE


def test_what_else_was_not_as_in_the_paper_is_said_and_decides_nothing():
    few = {"conditions": ["10 photographs here, 100 in the paper"]}
    judgement = judge(parse_claim("spheres", ENTRY), Measurement(0.18), PAPER, **few)
    assert judgement.verdict is YES
    assert judgement.conditions == tuple(few["conditions"])
    always = parse_claim("spheres", ENTRY | {"depends_on": []})
    assert judge(always, Measurement(0.18), PAPER, **few).conditions == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stated": ""}, "either where the paper states"),
        ({"assumed": "for no reason"}, "either where the paper states"),
        ({"paper": "many", "quick": "many", "amount": True}, "is no amount"),
        ({"amounts": True}, "'amounts', which means nothing"),
        ({"quick": 3}, "says not why"),
    ],
)
def test_a_setting_that_does_not_explain_itself_is_refused(changes, says, monkeypatch):
    entry = {"paper": 1, "quick": 1, "smoke": 1, "stated": "section 1"} | changes
    monkeypatch.setattr(base, "_scales", lambda: {"fake": {"n": entry}})
    with pytest.raises(ValueError, match=rf"scales.toml: fake.n .*{says}"):
        read_settings("fake")


@pytest.mark.parametrize("name", list(experiments()))
def test_every_setting_says_where_it_is_from(name):
    for setting in read_settings(name):
        assert bool(setting.stated) != bool(setting.assumed)


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
        ({"precision": 0.01}, "precision_why"),
        ({"precision": 0.001, "precision_why": "because"}, "must decide"),
        ({"precision": math.nan, "precision_why": "because"}, "must decide"),
        ({"test": "at most", "precision": 1.0, "precision_why": "because"}, "to an interval"),
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


# --- findings: measured, and judged by nobody ----------------------------------------------------

FINDING = {
    "id": "T9",
    "about": "somewhere",
    "question": "How many?",
    "experiment": "fake",
    "quantity": "a number",
    "beside": "nothing",
}


def test_a_finding_has_no_test_and_no_verdict():
    assert parse_finding("truth", FINDING).question == "How many?"
    for extra in ("test", "value", "expected"):
        with pytest.raises(ValueError, match=rf"truth/findings.toml: entry T9: .*{extra}"):
            parse_finding("truth", FINDING | {extra: 1.0})
    with pytest.raises(ValueError, match="T9: beside is empty"):
        parse_finding("truth", FINDING | {"beside": ""})


def test_the_ids_of_findings_stay_and_are_none_of_a_claims():
    ids = [finding.id for paper in PAPERS for finding in read_findings(paper)]
    truth = ["T1", "T2", "T3", "T4", "T6", "T7", "T8"]
    beyond = ["T12", "T13", "T14", "T15", "T16", "T17"]
    assert ids == ["T9", "T10", "T11", *truth, *beyond]
    assert not read_claims("truth") + read_claims("beyond")
    assert not set(ids) & {claim.id for paper in PAPERS for claim in read_claims(paper)}


@pytest.mark.parametrize("paper", ["spheres", "bayes"])
def test_a_claim_about_a_training_depends_on_all_that_the_paper_states_of_it(paper):
    """Else another learning rate or training set would be judged as if it were the paper's."""
    of_training = {"dim", "width", "n_train", "train_sizes", "learning_rate", "schedule"}
    for claim in read_claims(paper):
        stated = {setting.name for setting in read_settings(claim.experiment) if setting.stated}
        trained = {"n_steps", "n_samples"} & set(claim.depends_on)
        assert not trained or stated & of_training <= set(claim.depends_on), claim.id
