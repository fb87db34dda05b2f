"""Audits of training: the table against what is worked out by hand, and what can go wrong."""

import json
import math
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression

from trueboundary.audits import METHODS, TrainingSettings, audit, audit_training, load_problem
from trueboundary.audits.stored_cards import card_from_plain, card_to_plain
from trueboundary.audits.training_methods import find_method, make_network, typical_distance
from trueboundary.classifiers import ReLUNetwork
from trueboundary.cli import main
from trueboundary.problems import (
    ConcentricSpheres,
    FiniteSample,
    OnlineStream,
    fit_image_problem,
    planar_problem,
    table_problem,
)
from trueboundary.runs import RunConfig, strict_json
from trueboundary.training import TrainingConfig, train

PROBLEM = planar_problem("a")
FEW = TrainingSettings(n_steps=16, batch_size=20, learning_rate=1e-2)


def plane():
    """Return a network whose boundary is smooth, which attacks are soon done with."""
    return torch.nn.Linear(2, 2)


SMALL = {"settings": FEW, "n_points": 8, "n_error_points": 200, "network": plane}


def straight(problem, generator):
    """Return the classifier that calls right what lies right."""
    return lambda x: x[:, 0]


def tilted(problem, generator):
    return lambda x: x[:, 0] + 3 * x[:, 1]


def half(problem, generator):
    return lambda x: x[:, 0]


def third(problem, generator):
    return lambda x: x[:, 0] - 0.5


def crashing(problem, generator):
    raise RuntimeError("out of\nluck")


def returning_nothing(problem, generator):
    return None


def returning_ten_logits(problem, generator):
    return torch.nn.Linear(2, 10)


def images():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = 0.2 + 0.25 * y[:, None] + 0.05 * rng.normal(size=(120, 64))
    return fit_image_problem(x, y, image_shape=(1, 8, 8), n_components=1, n_factors=2)


@pytest.fixture(scope="module")
def table():
    return audit_training(PROBLEM, seeds=2, **SMALL)


class TestTheTable:
    def test_it_has_a_row_for_each_method(self, table):
        assert [row.method for row in table.rows()] == list(METHODS)
        assert [row.n_seeds for row in table.rows()] == [2] * 5
        assert len(str(table).splitlines()[2]) <= 80

    def test_a_network_is_the_one_that_the_loop_trains_and_the_audit_judges(self):
        options = {**SMALL, "network": None, "n_points": 2}
        (found,) = audit_training(PROBLEM, ["standard"], seeds=[1], **options).networks
        model = ReLUNetwork(2, 200, 1, generator=torch.Generator().manual_seed(1))
        config = TrainingConfig(n_steps=16, learning_rate=1e-2, schedule="linear")
        train(model, OnlineStream(PROBLEM, 20, 1), config)
        card = audit(model, PROBLEM, n_points=2, n_error_points=200)
        assert found.seed == 1
        for name in ("lower", "upper", "best_lower"):
            assert (card.joined(name) == found.card.joined(name)).all()
        assert card.error_rate == found.card.error_rate

    def test_shares_and_intervals_are_those_of_the_points_and_of_the_seeds(self, table):
        row = table.rows()[2]
        cards = [network.card for network in table.of(row.method)]
        right = cards[0].joined("best_upper") > 0
        ratios = np.array([(c.joined("upper") / c.joined("best_lower"))[right] for c in cards])
        shares = np.median(ratios, axis=1)
        assert row.share == pytest.approx(shares.mean())
        half = stats.t.ppf(0.975, 1) * shares.std(ddof=1) / math.sqrt(2)
        assert row.share_over_seeds == pytest.approx((shares.mean() - half, shares.mean() + half))
        # Order statistics that enclose the median of so many points with 95 %.
        middle = np.sort(ratios.mean(axis=0))
        n = len(middle)
        k = int(stats.binom.ppf(0.025, n, 0.5))
        assert row.share_over_points == pytest.approx((middle[k - 1], middle[n - k]))
        assert row.error_rate == pytest.approx(np.mean([c.error_rate for c in cards]))
        assert row.upper == pytest.approx(np.median([c.joined("upper") for c in cards]))
        assert row.lower <= row.upper

    def test_differences_are_paired_by_point_and_seed(self, table):
        for row in table.rows()[1:]:
            pairs = [
                np.median(other.card.joined("upper") - first.card.joined("upper"))
                for first, other in zip(table.of("standard"), table.of(row.method), strict=True)
            ]
            assert row.farther == pytest.approx(np.mean(pairs))
        assert math.isnan(table.rows()[0].farther)

    def test_an_interval_of_few_points_is_open_at_both_ends(self):
        found = audit_training(PROBLEM, [straight, tilted], seeds=1, **SMALL | {"n_points": 2})
        assert found.rows()[0].share_over_points == (-math.inf, math.inf)
        assert "0-more" in str(found)

    def test_costs_are_told(self, table):
        gradients = {row.method: row.gradients for row in table.rows()}
        assert gradients["standard"] == gradients["weight-decay"] == 1
        assert gradients["large-margin"] == 2
        assert gradients["trades"] == 12  # ten steps, and the two points of the loss
        assert 2 < gradients["adversarial"] < 100
        assert all(row.seconds > 0 for row in table.rows())

    @pytest.mark.parametrize("method", ["large-margin", "trades", "adversarial"])
    def test_gradients_are_those_that_autograd_was_asked_for(self, method, monkeypatch):
        n_gradients, outputs = [0], ReLUNetwork.outputs

        def counted(self, x):
            found = outputs(self, x)
            if found.requires_grad:  # each backward pass through it is seen by this hook
                found.register_hook(
                    lambda grad: n_gradients.__setitem__(0, n_gradients[0] + len(x))
                )
            return found

        monkeypatch.setattr(ReLUNetwork, "outputs", counted)
        # Of the standard step, whose gradient is written by hand, nothing is seen here.
        found = find_method(method, PROBLEM, 1.0)
        # Two steps to warm up, and then those that count: one run more tells the two apart.
        seen = []
        for n_steps in (3, 5):
            n_gradients[0] = 0
            settings = TrainingSettings(n_steps=n_steps, batch_size=5)
            fit = found.fit(PROBLEM, 0, settings, None)
            seen.append((n_gradients[0], fit.gradients * 5 * n_steps))
        by_hand = 10 if method == "adversarial" else 0
        assert seen[1][1] - seen[0][1] == pytest.approx(seen[1][0] - seen[0][0] + by_hand)

    def test_all_methods_of_a_seed_begin_with_the_same_weights(self):
        one, other = (make_network(PROBLEM, None, 3) for _ in range(2))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_plain_values_hold_a_version_and_no_number_that_json_has_not(self, table):
        text = json.dumps(table.to_dict(), allow_nan=False)
        values = json.loads(text)
        assert values["schema"] == "1.0"
        assert [m["method"] for m in values["methods"]] == list(METHODS)
        assert values["networks"][0]["card"]["schema"]
        assert values["settings"]["seeds"] == [0, 1]

    def test_parameters_are_shown_with_a_few_digits(self, table):
        assert "LargeMargin(margin=" in str(table)
        assert not re.search(r"margin=\d+\.\d{5}", str(table))

    def test_pages(self, table, tmp_path):
        page = table.save(tmp_path / "table.html").read_text()
        assert "large-margin" in page
        assert "data:image/png" in page
        assert json.loads(table.save(tmp_path / "table.json").read_text())["methods"]
        with pytest.raises(ValueError, match=r"expected a file \.html or \.json"):
            table.save(tmp_path / "table.txt")
        assert table._repr_html_() in page


class TestProblems:
    def test_of_several_classes_and_images(self):
        methods = ["standard", "trades", "adversarial"]
        options = {"seeds": 1, "settings": TrainingSettings(n_steps=3, batch_size=10)}
        options |= {"n_points": 2, "n_error_points": 20}
        found = audit_training(images(), methods, network=lambda: torch.nn.Linear(64, 3), **options)
        assert [row.n_seeds for row in found.rows()] == [1] * 3
        assert math.isnan(found.rows()[0].share_over_seeds.low)
        assert "  -" in str(found)

        def network():
            return torch.nn.Sequential(
                torch.nn.Conv2d(1, 2, 4, stride=4), torch.nn.Flatten(), torch.nn.Linear(8, 3)
            )

        (row,) = audit_training(images(), ["large-margin"], network=network, **options).rows()
        assert row.n_seeds == 1  # it got images, which it takes, and no vectors
        usual = audit_training(images(), ["large-margin"], **options)
        assert usual.networks[0].card.joined("lower").max() > 0  # it has lower bounds

    def test_on_spheres_shares_are_of_what_the_error_rate_allows(self):
        problem = ConcentricSpheres(dim=5)
        settings = TrainingSettings(n_steps=10, batch_size=50, learning_rate=1e-2)
        found = audit_training(
            problem, [half, third], seeds=2, settings=settings, n_points=4,
            n_error_points=500,
        )  # fmt: skip
        for row in found.rows():
            cards = [network.card for network in found.of(row.method)]
            ratios = [np.mean(card.optimality) for card in cards]
            assert row.share == pytest.approx(np.mean(ratios))
        # A half space is a cap of every sphere: no classifier of its error rate has its errors
        # farther away, but its own points are few and scatter.
        assert 0.3 < found.rows()[0].share < 1.7
        assert "no error at any distance" in " ".join(str(found).split())

    def test_a_finite_training_set(self, monkeypatch):
        seen = []
        batch = FiniteSample.batch
        monkeypatch.setattr(
            FiniteSample, "batch", lambda self, step: (seen.append(self), batch(self, step))[1]
        )
        options = {**SMALL, "settings": TrainingSettings(n_steps=5, batch_size=4, n_train=10)}
        audit_training(PROBLEM, ["standard"], seeds=1, **options)
        assert {stream.n_samples for stream in seen} == {10}

    def test_the_size_is_the_optimal_classifiers_typical_distance(self):
        # Of two round Gaussians it is the distance to the line halfway: the first coordinate.
        x = torch.cat([
            PROBLEM.block(
                0, seed=0, block_size=20, label=label, dtype=torch.float64, purpose="size"
            )[0]
            for label in (0, 1)
        ])  # fmt: skip
        assert typical_distance(PROBLEM) == pytest.approx(float(x[:, 0].abs().median()), rel=0.1)

    def test_tables_are_refused(self):
        with pytest.raises(TypeError, match="integer points"):
            audit_training(table_problem("c"))


class TestOwnMethods:
    def test_functions_are_methods(self):
        found = audit_training(PROBLEM, [straight, tilted], seeds=2, **SMALL)
        first, second = found.rows()
        assert (first.method, second.method) == ("straight", "tilted")
        # The line is tilted: its distance is |x + 3 y| / sqrt(10).
        assert second.farther < 0
        assert second.n_nearer == 2
        assert first.gradients is None
        assert first.share == pytest.approx(1.0, abs=1e-3)  # it is the optimal classifier

    def test_a_machine_of_scikit_learn_is_a_classifier(self):
        def fitted(problem, generator):
            return LogisticRegression().fit(*problem.to_numpy(100, seed=generator.initial_seed()))

        found = audit_training(PROBLEM, [straight, fitted], seeds=1, **SMALL)
        assert found.rows()[1].n_seeds == 1
        assert found.rows()[1].share > 0.8
        with pytest.raises(ValueError, match="fitted to points of 3 numbers"):
            audit_training(
                PROBLEM,
                [lambda problem, generator: LogisticRegression().fit(np.eye(3), [0, 1, 1])],
                seeds=1,
                **SMALL,
            )

    def test_of_a_file_with_what_it_needs(self, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text(
            textwrap.dedent("""
            import torch

            def trained(problem, generator):
                network = torch.nn.Linear(2, 2)
                optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
                for x, y in problem.fresh_batches(20, n_batches=30, seed=generator.initial_seed()):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(network(x), y).backward()
                    optimizer.step()
                return network
            """)
        )
        one, two = (
            audit_training(PROBLEM, [f"{file}:trained"], seeds=1, **SMALL) for _ in range(2)
        )
        assert one.rows()[0].upper == two.rows()[0].upper
        assert one.rows()[0].share > 0.5

    def test_a_method_that_crashes_stands_in_the_table_with_its_reason(self):
        found = audit_training(PROBLEM, ["standard", crashing, straight], seeds=1, **SMALL)
        rows = {row.method: row for row in found.rows()}
        assert rows["standard"].n_seeds == rows["straight"].n_seeds == 1
        assert rows["crashing"].n_seeds == 0
        assert rows["crashing"].reasons == ("RuntimeError: out of luck",)
        assert "failed, since RuntimeError: out of luck" in " ".join(str(found).split())
        assert "no network" in str(found)
        assert json.dumps(found.to_dict(), allow_nan=False)
        assert "out of luck" in found._repr_html_()

    @pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
    def test_a_network_that_stops_half_way_is_one_that_failed(self, kind, tmp_path):
        def stopping(problem, generator):
            calls = []

            def network(x):
                calls.append(len(x))
                if len(calls) > 25:
                    raise kind("tired")
                return x[:, 0]

            return network

        found = audit_training(PROBLEM, [stopping, "standard"], seeds=1, out=tmp_path, **SMALL)
        rows = {row.method: row for row in found.rows()}
        assert rows["standard"].n_seeds == 1
        (why,) = rows["stopping"].reasons
        assert f"the network that it made stopped with {kind.__name__}: tired" in why

    def test_what_a_method_does_to_the_default_dtype_is_undone(self):
        def doubling(problem, generator):
            torch.set_default_dtype(torch.float64)
            return lambda x: x[:, 0]

        audit_training(PROBLEM, [doubling], seeds=1, **SMALL)
        assert torch.get_default_dtype() is torch.float32

    def test_a_training_that_blows_up_is_one_that_failed(self):
        settings = TrainingSettings(n_steps=30, batch_size=20, learning_rate=1e30)
        options = {**SMALL, "settings": settings, "network": None}
        found = audit_training(PROBLEM, ["standard", straight], seeds=1, **options)
        assert found.rows()[1].n_seeds == 1
        assert "FloatingPointError" in found.rows()[0].reasons[0]

    @pytest.mark.parametrize(
        ("method", "words"),
        [
            (returning_nothing, "returned nothing; expected a trained classifier"),
            (returning_ten_logits, "the classifier has 10 classes and the problem has 2"),
            (lambda problem: None, "cannot be called with two arguments"),
        ],
    )
    def test_what_is_no_classifier_is_said_before_anything_else_is_trained(
        self, method, words, monkeypatch
    ):
        def never(*arguments, **options):
            raise AssertionError("a method was trained before the mistake was told")

        monkeypatch.setattr("trueboundary.audits.training_methods.train", never)
        with pytest.raises(ValueError, match=words):
            audit_training(PROBLEM, ["standard", method], seeds=2, **SMALL)

    def test_a_network_of_ones_own(self):
        def network():
            return torch.nn.Sequential(
                torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
            )

        found = audit_training(PROBLEM, ["large-margin"], seeds=2, **{**SMALL, "network": network})
        assert found.rows()[0].n_seeds == 2
        assert found.settings["network"] == "network"
        uppers = [n.card.joined("upper") for n in found.networks]
        assert not np.array_equal(*uppers)  # seeds begin with weights of their own

    @pytest.mark.parametrize(
        ("network", "words"),
        [
            (lambda: 3, "returned an int; expected a torch module"),
            (lambda: torch.nn.Linear(3, 2), "does not classify points of shape"),
            (lambda: torch.nn.Linear(2, 5), "5 classes and the problem has 2"),
            (torch.nn.Identity, "no parameters"),
        ],
    )
    def test_a_network_that_does_not_fit_is_said_before_the_work(self, network, words):
        with pytest.raises(ValueError, match=words):
            audit_training(PROBLEM, ["standard"], seeds=1, **{**SMALL, "network": network})


class TestTheStore:
    def test_what_is_there_is_not_trained_again(self, tmp_path, monkeypatch):
        methods = ["standard", straight]
        first = audit_training(PROBLEM, methods, seeds=2, out=tmp_path / "out", **SMALL)

        def never(*arguments, **options):
            raise AssertionError("trained again")

        monkeypatch.setattr("trueboundary.audits.training_methods.train", never)
        again = audit_training(PROBLEM, methods, seeds=2, out=tmp_path / "out", **SMALL)
        assert str(again) == str(first)
        without = audit_training(PROBLEM, [straight], seeds=2, **SMALL)
        assert without.rows()[0].share == again.rows()[1].share

    def test_an_interrupted_one_goes_on_to_the_same_numbers(self, tmp_path):
        whole = audit_training(PROBLEM, ["large-margin"], seeds=1, **SMALL)

        def stop(what, fraction):
            if fraction > 0.5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            audit_training(PROBLEM, ["large-margin"], seeds=1, out=tmp_path, progress=stop, **SMALL)
        assert list(tmp_path.glob("unfinished/AuditedTraining-*/training*"))
        again = audit_training(PROBLEM, ["large-margin"], seeds=1, out=tmp_path, **SMALL)
        for name in ("lower", "upper"):
            a, b = (audited.networks[0].card.joined(name) for audited in (whole, again))
            assert (a == b).all()
        assert again.networks[0].seconds > 0

    def test_another_text_is_another_run(self, tmp_path):
        file, calls = tmp_path / "mine.py", tmp_path / "calls"
        text = (
            "from pathlib import Path\n"
            "def trained(problem, generator):\n"
            f"    with Path({str(calls)!r}).open('a') as f: f.write('x')\n"
            "    return lambda x: x[:, 0]\n"
        )
        for content, n in ((text, 1), (text, 1), (text + "# changed\n", 2)):
            file.write_text(content)
            audit_training(PROBLEM, [f"{file}:trained"], seeds=1, out=tmp_path / "out", **SMALL)
            assert calls.read_text() == "x" * n

    def test_a_card_comes_back_as_it_was(self):
        card = audit(straight(None, None), PROBLEM, n_points=5, n_error_points=100)
        stored = strict_json.loads(strict_json.dumps(card_to_plain(card)))
        again = card_from_plain(stored)
        assert str(again) == str(card)
        assert again.to_dict() == card.to_dict()

    def test_a_budget_ends_the_work_and_is_told(self, tmp_path):
        found = audit_training(PROBLEM, [straight, tilted], seeds=2, budget=1e-9, **SMALL)
        assert [row.n_seeds for row in found.rows()] == [1, 0]
        assert "the budget of 1e-09 seconds had ended" in str(found)

    def test_keys_stay(self):
        from trueboundary.audits.audit_trainings import AuditedTraining

        run = AuditedTraining("{}", "standard", "usual", TrainingSettings(), 0, 20, 1000, 0)
        assert isinstance(run, RunConfig)
        assert (run.kind, run.version) == ("AuditedTraining", 1)
        assert run.describe()["settings"]["n_steps"] == 200


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"methods": ["standrd"]}, "did you mean 'standard'"),
            ({"methods": ["trades=x"]}, "a number above 0"),
            ({"methods": ["adversarial=-1"]}, "a number above 0"),
            ({"methods": ["standard=3"]}, "no parameter"),
            ({"methods": []}, "expected a list of methods"),
            ({"methods": "standard"}, "expected a list of methods"),
            ({"methods": ["standard", "standard"]}, "differ by name"),
            ({"methods": ["nowhere.py:trained"]}, "there is no file"),
            ({"seeds": 0}, "seeds must be"),
            ({"seeds": [1, 1]}, "that differ"),
            ({"n_points": 1}, "n_points must be"),
            ({"budget": 0.0}, "a budget of seconds above 0, got 0"),
            ({"size": -1.0}, "a size above 0"),
        ],
    )
    def test_a_mistake_is_a_sentence_before_the_work(self, options, words, monkeypatch):
        monkeypatch.setattr(
            "trueboundary.audits.training_methods.train",
            lambda *a, **k: pytest.fail("trained before the mistake was told"),
        )
        options = {"methods": ["standard"], "seeds": 1, **SMALL, **options}
        with pytest.raises((ValueError, TypeError), match=words) as caught:
            audit_training(PROBLEM, options.pop("methods"), **options)
        assert "\n" not in str(caught.value)

    def test_two_of_a_kind_are_told_apart_by_their_parameters(self):
        found = audit_training(PROBLEM, ["trades=1", "trades=9"], seeds=1, **SMALL)
        assert [row.method for row in found.rows()] == ["trades=1", "trades=9"]

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"n_steps": 0}, "n_steps"),
            ({"batch_size": 0}, "batch_size"),
            ({"learning_rate": 0.0}, "learning_rate"),
            ({"n_train": 0}, "n_train"),
        ],
    )
    def test_settings(self, settings, words):
        with pytest.raises(ValueError, match=words):
            TrainingSettings(**settings)


class TestTheCommand:
    COMMON = ("--problem", "spheres-d5", "--seeds", "1", "--n-steps", "10", "--n-points", "3")

    def run(self, *arguments):
        return main(["audit", "training", *arguments, *self.COMMON, "--n-error-points", "100"])

    def test_a_table_a_page_and_a_store(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(
            "import torch\n\ndef plane():\n    return torch.nn.Linear(5, 2)\n"
        )
        mine = ("--network", "mine.py:plane")
        assert self.run("standard", "weight-decay", *mine, "--out", "out", "--html", "t.html") == 0
        captured = capsys.readouterr()
        assert "Training compared on concentric spheres in 5 dimensions" in captured.out
        assert "standard, seed 0" in captured.err
        assert Path("t.html").is_file()
        assert len(list(Path("out/runs").iterdir())) == 2

    def test_json(self, capsys):
        assert self.run("standard", "--json") == 0
        assert json.loads(capsys.readouterr().out)["schema"] == "1.0"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["standrd"], "did you mean 'standard'"),
            (["standard", "--network", "mine.py"], "--network takes file.py:name"),
            (["standard", "--html", "nowhere/t.html"], "there is no folder"),
            (["mine.py:trained"], "there is no file mine.py"),
            (["mine.py:trained", "--budget", "-1"], "a number of seconds above 0"),
        ],
    )
    def test_a_mistake_is_a_sentence(self, arguments, words, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert self.run(*arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error

    def test_a_stop_says_what_is_kept(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text("def f(problem, generator): raise KeyboardInterrupt")
        words = ["audit", "training", "mine.py:f", "--problem", "spheres-d2"]
        assert main([*words, "--out", "kept"]) == 130
        assert "stopped; what is finished is in kept" in capsys.readouterr().err
        assert main(words) == 130
        assert "stopped; nothing was kept" in capsys.readouterr().err

    def test_where_nothing_was_trained_it_fails(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text("def trained(problem, generator):\n    raise OSError('gone')\n")
        assert self.run("mine.py:trained") == 1
        assert "OSError: gone" in " ".join(capsys.readouterr().out.split())


def test_the_zoo_has_the_problem_of_the_page():
    assert load_problem("mnist-0-6-symmetric").n_classes == 2
