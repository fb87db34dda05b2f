"""Attacks over the suite: what is counted, what is not believed, and how they are ranked."""

import json
import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trueboundary.attacks import DDN, FMN, PGD, DeepFool, FunctionAttack, NearestError
from trueboundary.audits import (
    MEMBERS,
    OURS,
    Known,
    Leaderboard,
    MemberTruth,
    Standing,
    Trial,
    TrialRun,
    Truth,
    as_attack,
    audit_attack,
    find_attack,
    find_attacks,
    member,
    named_attacks,
    plan_trials,
    stored_leaderboard,
    try_attack,
)
from trueboundary.runs import Store, run_one

CHEAP = [name for name in MEMBERS if name.startswith(("linear", "ellipsoid", "gaussians"))]
FEW = ["linear", "ellipsoid-bulk"]


def toward(model, x, y, factor=1.001):
    """One Newton step toward the boundary of two classes."""
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    gap = (logits[:, 1] - logits[:, 0]).abs()
    (gradient,) = torch.autograd.grad(gap.sum(), leaf)
    return (
        leaf - factor * gap[:, None] * gradient / gradient.square().sum(1, keepdim=True)
    ).detach()


# No attack of ours undercuts a truth, and each is counted.


@pytest.mark.parametrize("name", CHEAP)
def test_no_attack_of_ours_comes_nearer_than_the_truth(name) -> None:
    known = member(name, 4)
    truth = known.find_truth()
    for attack_name, attack in OURS.items():
        if attack_name in ("HopSkipJump", "CarliniWagnerL2-3x100", "NearestError-3-starts"):
            continue  # below, on fewer members
        trial = try_attack(attack, known)
        assert (trial.distance >= truth.lower * (1 - 1e-6)).all(), attack_name
        assert trial.n_false == 0, attack_name


@pytest.mark.parametrize("name", ["linear", "ellipsoid-needle-sphere", "linear-box"])
def test_costly_attacks_of_ours_come_no_nearer_either(name) -> None:
    known = member(name, 3)
    truth = known.find_truth()
    for attack_name in ("HopSkipJump", "CarliniWagnerL2-3x100", "NearestError-3-starts"):
        trial = try_attack(OURS[attack_name], known)
        assert (trial.distance >= truth.lower * (1 - 1e-6)).all(), attack_name
        assert trial.n_false == 0


@pytest.mark.parametrize("name", CHEAP)
def test_nearest_error_meets_its_goal_where_the_distance_is_exact(name) -> None:
    known = member(name, 6)
    ratio = try_attack(NearestError(), known).distance / known.find_truth().lower
    assert np.median(ratio) <= 1.0001
    assert ratio.max() <= 1.001


@pytest.mark.parametrize("name", ["linear-ten", "gaussians-two"])
@pytest.mark.parametrize("attack", [NearestError(), DDN(), DeepFool(), FunctionAttack(toward)])
def test_the_suite_counts_as_attacks_count_themselves(name, attack) -> None:
    known = member(name, 4)
    if name == "linear-ten" and isinstance(attack, FunctionAttack):
        attack = FunctionAttack(lambda model, x, y: (model(x), x + 1)[1])
    own = attack(known.classifier, known.x, known.y, domain=known.domain)
    trial = try_attack(attack, known)
    assert trial.forward == own.n_forward.double().mean().item()
    assert trial.backward == own.n_backward.double().mean().item()
    assert trial.distance == pytest.approx(own.distance.double().numpy(), rel=1e-5)


def test_scaled_logits_change_nothing_of_ours() -> None:
    plain = try_attack(NearestError(), member("ellipsoid-bulk", 5))
    for scale in ("1e-6", "1e+6"):
        scaled = try_attack(NearestError(), member(f"ellipsoid-bulk-{scale}", 5))
        assert scaled.distance == pytest.approx(plain.distance, rel=1e-5)
    split = try_attack(NearestError(), member("ellipsoid-bulk", 5), batch_size=2)
    assert split.distance == pytest.approx(plain.distance, rel=1e-6)


# What is broken is caught, and said.


def doubled_shape(model, x, y):
    return torch.cat([x, x])


def outside(model, x, y):
    return toward(model, x, y) + 3


def itself(model, x, y):
    return x


def liar(model, x, y):
    return x + 1e-6, torch.ones(len(x), dtype=torch.bool)


def not_finite(model, x, y):
    return x * math.nan


def broken_module(model, x, y):
    return None


def leaves(model, x, y):
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("function", "n_false", "words"),
    [
        (doubled_shape, 0, "shape"),
        (itself, 0, "itself"),
        (liar, 6, "asked again"),
        (not_finite, 0, "NaN"),
        (broken_module, 0, "NoneType"),
        (leaves, 0, "raised SystemExit: 3"),
    ],
)
def test_broken_functions_are_caught_and_named(function, n_false, words) -> None:
    trial = try_attack(as_attack(function), member("linear", 6))
    assert np.isinf(trial.distance).all()
    assert trial.n_false == n_false
    assert words in " ".join(trial.reasons)
    assert sum(trial.reasons.values()) == 6


def test_points_outside_of_the_box_do_not_count() -> None:
    trial = try_attack(as_attack(outside), member("linear-box", 3))
    assert np.isinf(trial.distance).all()
    assert trial.n_false == 3
    assert "domain" in next(iter(trial.reasons))


@pytest.mark.parametrize("name", ["linear-box", "linear-sphere", "linear"])
def test_a_function_is_told_the_domain_it_is_judged_in(name) -> None:
    def within(model, x, y, domain):
        for _ in range(10):
            right = (model(x).argmax(1) == y)[:, None]
            x = torch.where(right, domain.project(toward(model, x, y, 1.1)), x)
        return x

    told = try_attack(as_attack(within), member(name, 3))
    untold = try_attack(as_attack(lambda model, x, y: toward(model, x, y, 1.5)), member(name, 3))
    assert np.isfinite(told.distance).all()
    assert told.n_false == 0
    assert untold.n_false == (0 if name == "linear" else 3)
    with pytest.raises(ValueError, match=r"domain=\.\.\. if it likes"):
        as_attack(lambda model, x, y, domain, radius: x)


def test_nobody_undercuts_the_truth_a_hair_outside_of_the_domain() -> None:
    for name in ("linear-box", "linear-sphere"):
        known = member(name, 3)
        good = NearestError()(known.classifier, known.x, known.y, domain=known.domain).x_adv

        def cheats(model, x, y, good=good, sphere=name == "linear-sphere"):
            return good * (1 + 5e-6) if sphere else torch.where(good >= 1, good + 5e-6, good)

        trial = try_attack(as_attack(cheats), known)
        assert (trial.distance >= known.find_truth().lower * (1 - 1e-9)).all()


def test_the_order_of_points_changes_nothing_of_ours() -> None:
    known = member("gaussians-two", 5)
    turned = replace(known, x=known.x.flip(0), y=known.y.flip(0))
    one, two = (try_attack(NearestError(), m).distance for m in (known, turned))
    assert two[::-1] == pytest.approx(one, rel=1e-6)


def test_what_was_found_before_a_crash_is_kept() -> None:
    calls = []

    def crashes(model, x, y):
        calls.append(len(x))
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return toward(model, x, y)

    trial = try_attack(as_attack(crashes), member("linear", 6), batch_size=3)
    assert np.isfinite(trial.distance).tolist() == [True] * 3 + [False] * 3
    assert "out of luck" in " ".join([*trial.reasons, *trial.doubts])
    assert not trial.raised
    assert sum(n for why, n in trial.reasons.items() if "RuntimeError: out of luck" in why) == 3


def test_an_attack_class_that_lies_crashes_or_returns_rubbish_is_not_believed() -> None:
    known = member("linear", 4)

    class Rubbish(DDN):
        def __call__(self, *args, **kwargs):
            return "done"

    class Crash(DDN):
        def search(self, target):
            raise KeyError("no such thing")

    class Liar(DDN):
        def __call__(self, classifier, x, y, **kwargs):
            found = super().__call__(classifier, x, y, **kwargs)
            return type(found)(**{**vars(found), "x_adv": x * (1 + 1e-6)})

    rubbish, crash, liar = (try_attack(attack(), known) for attack in (Rubbish, Crash, Liar))
    assert rubbish.raised
    assert "another form" in next(iter(rubbish.reasons))
    assert crash.raised
    assert "no such thing" in next(iter(crash.reasons))
    assert np.isinf(liar.distance).all()
    assert liar.n_false == 4


def test_an_attack_that_changes_the_classifier_is_judged_by_it_as_it_was() -> None:
    known = member("linear", 3)
    honest = try_attack(NearestError(), known)

    class Vandal(NearestError):
        def __call__(self, classifier, x, y, **kwargs):
            classifier.float()
            with torch.no_grad():
                for tensor in (*classifier.parameters(), *classifier.buffers()):
                    tensor.zero_()
            return super().__call__(classifier, x, y, **kwargs)

    trial = try_attack(Vandal(), known, batch_size=2)
    assert np.isinf(trial.distance).all()
    assert try_attack(NearestError(), known).distance.tolist() == honest.distance.tolist()


def test_what_an_attack_says_is_cut_short_so_that_the_board_can_be_read_again() -> None:
    def talks(model, x, y):
        raise RuntimeError("no " * 2000)

    talking = audit_attack({"talks": talks}, members=["linear"], n_points=2)
    again = Leaderboard.of(json.loads(talking.dumps()))
    details = again.details(again.standings[0])
    assert details.count("RuntimeError: no no") == 1


def test_an_attack_that_takes_no_member_has_found_no_share_of_them() -> None:
    class Picky(DDN):
        def __call__(self, *args, **kwargs):
            raise ValueError("only on Sundays")

    refused = audit_attack({"picky": Picky()}, members=["linear"], n_points=2)
    ((_, values),) = refused.ranked()
    assert values["takes"] == 0
    assert math.isnan(values["success"])
    assert "100%" not in str(refused)
    assert json.loads(refused.dumps())["attacks"][0]["summary"]["success"] is None


def test_members_are_left_as_they_were() -> None:
    known = member("linear", 3)
    before, x = [p.clone() for p in known.classifier.parameters()], known.x.clone()

    def rude(model, x, y):
        model.train()
        for part in model.parameters():
            part.requires_grad_(True)
        x += 1
        return x

    try_attack(as_attack(rude), known)
    assert torch.equal(known.x, x)
    assert not any(part.requires_grad for part in known.classifier.parameters())
    assert not any(m.training for m in known.classifier.modules())
    for old, new in zip(before, known.classifier.parameters(), strict=True):
        assert torch.equal(old, new)


# Names.


def test_attacks_are_found_by_name(tmp_path, monkeypatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from trueboundary.attacks import DDN\n"
        "attack = DDN(n_steps=5)\n"
        "def function(model, x, y):\n    return x + 1\n"
        "def two(model, x):\n    return x\n"
        "number = 3\n"
    )
    assert find_attack("DDN").attack == DDN()
    assert find_attack(f"{file}:attack").attack == DDN(n_steps=5)
    assert find_attack("trueboundary.attacks:DeepFool").attack == DeepFool()
    found = find_attack(f"{file}:function")
    assert isinstance(found.attack, FunctionAttack)
    file.write_text(file.read_text() + "# another\n")
    assert find_attack(f"{file}:function").identity != found.identity
    # What calls it is a part of what its results follow from.
    monkeypatch.setattr(named_attacks, "_code_of", lambda *modules: "other")
    assert find_attack(f"{file}:function").identity.split()[-2:] == [
        "other",
        sha256(file.read_bytes()).hexdigest()[:16],
    ]
    for what, words in [
        ("DDM", "did you mean 'DDN'"),
        (f"{file}:none", "has no 'none'; it defines function and two"),
        (f"{file}:funktion", r"function and two; did you mean 'function'\?"),
        (str(file), "say which function of .*mine.py is meant"),
        (f"{file}:two", "three arguments"),
        (f"{file}:number", "got int"),
        ("trueboundary.attacks:PGD", "needs settings"),
        ("nowhere.at_all:attack", "no module"),
        ("a b:c", "module:name or file.py:name"),
        ("torch.nn:Linear", "got a class"),
    ]:
        with pytest.raises(ValueError, match=words):
            find_attack(what)
    assert [found.name for found in find_attacks(["FMN", "all", "DDN"])][:2] == [
        "FMN",
        "NearestError",
    ]
    assert as_attack(PGD(radius=1.0)).radius == 1.0


def test_attacks_of_a_board_are_given_by_name_too(tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def attack(model, x, y):\n    return x\n")

    def names(attacks):
        made = audit_attack(attacks, members=["linear"], n_points=1)
        return [(standing.name, standing.library) for standing in made.standings]

    ours = [("DDN", "trueboundary"), ("DeepFool", "trueboundary")]
    assert names(["DDN", "DeepFool"]) == ours
    assert names("DeepFool") == ours[1:]
    assert names(["DDN", "DDN"]) == ours[:1]
    assert names({"one": "DeepFool", "mine": f"{file}:attack"}) == [
        ("one", "trueboundary"),
        ("mine", ""),
    ]
    assert names([DeepFool(), itself, "DDN"]) == [ours[1], ("itself", ""), ours[0]]
    for attacks, words in [
        (["DDN", "DDM"], "did you mean 'DDN'"),
        ({"x": "DDM"}, "did you mean 'DDN'"),
        ([DDN(), DDN(n_steps=3)], "'DDN' twice; give them as a dictionary"),
        (["DDN", DDN(n_steps=3)], "'DDN' twice"),
        ([DDN(n_steps=3), "DDN"], "'DDN' twice"),
        ([], "at least one attack"),
        ({}, "at least one attack"),
        ([3], "got int"),
        ("foolbox:DDM-100", "DDN-100"),
    ]:
        with pytest.raises(ValueError, match=words):
            audit_attack(attacks, members=["linear"], n_points=1)


# The leaderboard.


def board(**distances):
    """Return a board of two members, one exact and one bracketed, with made-up attacks."""
    members = {
        "linear": Known(Truth(np.ones(3), np.ones(3), True), "a"),
        "relu-wide": Known(Truth(np.ones(3), np.full(3, 2.0), False), "b"),
    }
    standings = tuple(
        Standing(
            name, "trueboundary", "1",
            {
                m: Trial(np.array(d), 10.0, 5.0, 0.1, 0, {"why": int(np.isinf(d).sum())})
                for m, d in zip(members, pair, strict=True)
            },
        )
        for name, pair in distances.items()
    )  # fmt: skip
    return Leaderboard(0, 3, members, standings)


def test_ratios_are_over_the_truth_or_the_nearest_error_of_anybody() -> None:
    made = board(exact=([1.0, 1.0, 1.5], [1.5, 2.0, 4.0]), lost=([1.0, np.inf, np.inf], [2.0] * 3))
    assert made.nearest("relu-wide").tolist() == [1.5, 2.0, 2.0]
    best, other = (standing for standing, _ in made.ranked())
    assert (best.name, other.name) == ("exact", "lost")
    first = made.score(best, "linear")
    assert (first.median, first.high, first.n_failed) == (1.0, 1.5, 0)
    second = made.score(best, "relu-wide")
    assert (second.median, second.high, second.over_lower) == (1.0, 2.0, 2.0)
    assert made.score(other, "linear").median == math.inf
    values = {s.name: v for s, v in made.ranked()}["lost"]
    assert values["success"] == pytest.approx(4 / 6)
    assert values["near"] == 1
    table = str(made)
    assert max(map(len, table.splitlines())) <= 80
    assert "inf" in made.details(other)
    assert made.figure().axes[0].get_title(loc="left")


def test_a_board_says_below_the_table_why_attacks_found_nothing() -> None:
    attacks = {
        "still": itself,
        "lies": liar,
        "far": lambda model, x, y: x + 1e3,
        "crash": lambda model, x, y: x[99],
        "fine": DeepFool(),
    }
    members = ["linear", "linear-box", "linear-sphere"]
    made = audit_attack(attacks, members=members, n_points=2)
    table, _, below = str(made).partition("\n\n")
    assert len(table.splitlines()) == 6
    lines = below.replace("\n  ", " ").splitlines()
    everywhere = "(linear, linear-box, linear-sphere)"
    assert f"still: 6 x returned the sample itself {everywhere}" in lines
    right, outside = "false: the classifier is right there", "false: outside of the domain"
    said = {line.partition(":")[0]: line for line in lines}
    assert said["lies"] == f"lies: 6 x {right} {everywhere}"
    assert f"x {outside} (linear-box, linear-sphere)" in said["far"]
    assert said["crash"].startswith("crash: 6 x raised IndexError: index 99 is out of bounds")
    assert "fine" not in said
    assert max(map(len, str(made).splitlines())) <= 80
    again = Leaderboard.of(json.loads(made.dumps()))
    assert str(again) == str(made)
    assert "returned the sample itself" in made._repr_html_()


def test_what_a_board_says_below_the_table_is_cut_to_what_fits() -> None:
    class Picky(DDN):
        def __call__(self, *args, **kwargs):
            raise ValueError("only on Sundays, " + 20 * "and never in between, ")

    many = {f"because of {i}" + 20 * " very": 30 - i for i in range(9)}
    made = audit_attack({"picky": Picky()}, members=["linear"], n_points=2)
    trial = Trial(np.full(2, np.inf), 9.0, 0.0, 0.1, 0, many)
    standings = (*made.standings, Standing("busy", "", "", {"linear": trial}))
    lines = str(replace(made, standings=standings)).partition("\n\n")[2].splitlines()
    assert len(lines) <= 2 + 3
    assert lines[0].startswith("busy: 30 x because of 0 very")
    assert lines[1].endswith(" ...")
    assert lines[2].startswith("Not taken by picky: linear (ValueError: only on Sundays")
    assert max(map(len, lines)) <= 80


def test_a_board_is_the_same_after_json() -> None:
    made = board(exact=([1.0, 1.0, 1.5], [1.5, 2.0, np.inf]))
    again = Leaderboard.of(json.loads(made.dumps()))
    assert again.dumps() == made.dumps()
    assert str(again) == str(made)


def test_the_page_shows_the_board_that_lies_beside_it() -> None:
    docs = Path(__file__).parents[2] / "docs"
    kept = Leaderboard.read(docs / "leaderboard.json")
    assert kept.to_markdown() in (docs / "leaderboard.md").read_text(encoding="utf-8")
    assert set(kept.members) <= set(MEMBERS)
    best, values = kept.ranked()[0]
    assert best.library == "trueboundary"
    assert values["near"] == values["takes"]
    assert len(kept.standings) >= 20
    # A line that begins with an attack's name does not repeat whose it is.
    newton = next(line for line in str(kept).splitlines() if line.startswith("foolbox:NewtonFool"))
    assert " x returned NaN or infinity" in newton
    assert len({standing.library for standing in kept.standings}) >= 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(schema="9.0"), "schema"),
        (lambda r: r.update(n_points=10**9), "n_points"),
        (lambda r: r["members"]["relu-wide"].update(known=[0.1] * 3), "nearer than what is proven"),
        (lambda r: r.update(attacks={}), "list"),
        (lambda r: r["members"].update(moon=r["members"]["linear"]), "no member 'moon'"),
        (lambda r: r["members"]["linear"].update(exact=1), "true or false"),
        (lambda r: r["attacks"][0]["members"]["linear"].update(distance=[1.0]), "3 distances"),
        (lambda r: r["attacks"][0]["members"]["linear"].update(distance=[1.0, "a", 1]), "3 dist"),
        (lambda r: r["attacks"][0]["members"]["linear"].update(distance=[0.5] * 3), "proven"),
        (lambda r: r["attacks"][0]["members"]["linear"].update(forward=-1), "forward"),
        (lambda r: r["attacks"][0]["members"]["linear"].update(distance=[10**400] * 3), "3 dist"),
        (lambda r: r["attacks"][0].update(name="x" * 101), "name"),
        (lambda r: r["attacks"][0].update(name="x\n 2 DDN  1/1"), "one line"),
        (lambda r: r["attacks"].append(r["attacks"][0]), "twice"),
        (lambda r: r["attacks"][0]["members"].update(cnn=1), "says nothing"),
    ],
)
def test_what_strangers_send_is_looked_at(change, words) -> None:
    record = json.loads(board(exact=([1.0, 1.0, 1.5], [1.5, 2.0, 4.0])).dumps())
    change(record)
    with pytest.raises(ValueError, match=words):
        Leaderboard.of(record)


def test_files_that_are_no_boards_are_refused(tmp_path) -> None:
    file = tmp_path / "board.json"
    for text in ("[" * 100_000, "NaN", "{", "\xff"):
        file.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match="no JSON of a leaderboard"):
            Leaderboard.read(file)
    with pytest.raises(ValueError, match=r"cannot read .*No such file"):
        Leaderboard.read(tmp_path / "nothing.json")
    file.write_text("[]")
    with pytest.raises(ValueError, match="a leaderboard as a JSON object"):
        Leaderboard.read(file)


def test_boards_join_where_they_saw_the_same_points() -> None:
    one = audit_attack({"a": DeepFool()}, members=FEW, n_points=2)
    two = audit_attack({"b": FMN(n_steps=5)}, members=FEW[:1], n_points=2)
    whole = one.joined(two)
    assert {standing.name for standing in whole.standings} == {"a", "b"}
    with pytest.raises(ValueError, match="one seed"):
        one.joined(audit_attack({"b": DeepFool()}, members=FEW, n_points=2, seed=1))
    other = dict(whole.members, linear=Known(whole.members["linear"].truth, "elsewhere"))
    with pytest.raises(ValueError, match="points of linear"):
        whole.check_members(other)
    whole.check_members(whole.members)


def test_runs_of_a_store_give_the_board_that_memory_gives(tmp_path) -> None:
    store, found = Store(tmp_path), find_attacks(["DeepFool", "DDN"])
    settings = {"members": FEW, "n_points": 2, "seed": 0}
    plan = plan_trials(found, **settings)
    assert [type(config) for config in plan] == [MemberTruth] * 2 + [TrialRun] * 4
    for config in plan[:-1]:
        run_one(str(tmp_path), config)
    part = stored_leaderboard(found, store, **settings)
    assert part.missing == ("DDN on ellipsoid-bulk was not run.",)
    run_one(str(tmp_path), plan[-1])
    whole = stored_leaderboard(found, store, **settings)
    assert not whole.missing
    alone = audit_attack({f.name: f.attack for f in found}, **settings)
    for standing, other in zip(whole.standings, alone.standings, strict=True):
        for name in FEW:
            assert standing.trials[name].distance.tolist() == other.trials[name].distance.tolist()
            assert standing.trials[name].queries == other.trials[name].queries


def test_runs_on_other_points_are_not_mixed(tmp_path) -> None:
    store, found = Store(tmp_path), find_attacks(["DeepFool"])
    settings = {"members": ["linear"], "n_points": 2, "seed": 0}
    for config in plan_trials(found, **settings):
        run_one(str(tmp_path), config)
    run = store.load(plan_trials(found, **settings)[1])
    store.discard(plan_trials(found, **settings)[1])
    changed = replace(run.result, summary=run.summary | {"points": "elsewhere"})
    store.save(plan_trials(found, **settings)[1], changed, {})
    with pytest.raises(ValueError, match="other points"):
        stored_leaderboard(found, store, **settings)


def test_an_nn_module_is_no_attack() -> None:
    with pytest.raises(ValueError, match=r"three arguments|takes"):
        as_attack(nn.Identity().forward, "forward")


@pytest.mark.peers
def test_attacks_of_other_libraries_are_found_counted_and_refused_on_spheres(monkeypatch) -> None:
    names = [found.name for found in find_attacks(["all"])]
    assert len({name.partition(":")[0] for name in names if ":" in name}) == 4
    found = find_attack("foolbox:DDN-100")
    assert found.library == "foolbox"
    assert found.version in found.identity
    monkeypatch.setattr(named_attacks, "_code_of", lambda *modules: "other")
    assert find_attack("foolbox:DDN-100").identity.endswith(f"{found.version} other")
    monkeypatch.undo()
    made = audit_attack(
        {"object": found.attack, "name": found.name}, members=["linear"], n_points=1
    )
    assert [(s.library, s.version) for s in made.standings] == 2 * [("foolbox", found.version)]
    assert made.versions["foolbox"] == found.version
    known = member("ellipsoid-bulk", 3)
    trial = try_attack(found.attack, known)
    ratio = trial.distance / known.find_truth().lower
    assert (ratio >= 1 - 1e-6).all()
    assert (ratio < 1.01).all()
    assert trial.backward == 100  # steps
    sphere = try_attack(found.attack, member("linear-sphere", 3))
    assert sphere.refused
    assert sphere.n_false == 0
    assert "ValueError" in next(iter(sphere.reasons))
    assert not trial.refused
