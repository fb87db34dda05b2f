"""The theory commands answer with the library's numbers, and refuse nonsense in one sentence."""

import json

import pytest

from trueboundary.cli import main
from trueboundary.theory import caps, truncated
from trueboundary.theory.quadratic_forms import ellipsoid_log_error


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    assert main(["theory", words[0], "--json", *words[1:]]) == 0
    return json.loads(capsys.readouterr().out)


def test_cap_by_measure_and_by_distance(capsys: pytest.CaptureFixture[str]) -> None:
    by_measure = answer(capsys, "cap", "--dim", "500", "--measure", "1e-7")
    assert by_measure["mean_chord"] == pytest.approx(caps.mean_distance(500, 1e-7), rel=1e-12)
    by_distance = answer(
        capsys, "cap", "--dim", "500", "--distance", repr(by_measure["mean_chord"])
    )
    assert by_distance["log10_measure"] == pytest.approx(-7, abs=1e-9)


def test_ellipsoid_counts_and_error_rates(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "ellipsoid", "0.36x250", "1.232x250")
    exact = ellipsoid_log_error([0.36] * 250 + [1.232] * 250, sphere="inner")
    assert found["n_wrong"] == 500
    assert found["log10_error_inner_exact"] == pytest.approx(exact / 2.302585092994046)
    assert found["log10_error_inner_chernoff"] > found["log10_error_inner_exact"]


def test_error_rate_of_zero_has_no_logarithm(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "ellipsoid", "0.8x10")["log10_error_inner_exact"] is None


def test_a_cap_of_measure_zero_is_a_point(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "cap", "--dim", "3", "--measure", "0")
    assert (found["angle"], found["threshold"], found["log10_measure"]) == (0.0, 1.0, None)
    assert found["mean_chord"] == pytest.approx(4 / 3, rel=1e-12)
    farthest = repr(found["mean_chord"])
    assert answer(capsys, "cap", "--dim", "3", "--distance", farthest)["angle"] < 1e-6


@pytest.mark.parametrize("alphas", [["1e300", "1e-300"], ["1e160", "1e-160", "-1e200"]])
def test_alphas_of_any_size_have_error_rates(
    capsys: pytest.CaptureFixture[str], alphas: list[str]
) -> None:
    found = answer(capsys, "ellipsoid", "--", *alphas)
    assert all(v is None or v <= 0 for k, v in found.items() if k.startswith("log10"))


def test_alphas_that_are_all_1_misjudge_the_outer_sphere_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = answer(capsys, "ellipsoid", "1x5")  # a margin of 0 is class 0, the inner one
    assert found["n_wrong"] == 0
    assert found["log10_error_inner_exact"] is None
    found = answer(capsys, "ellipsoid", "0.25x5", "--radius", "2")
    assert found["log10_error_outer_exact"] == 0


def test_fraction(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "fraction", "--dim", "3000", "--error", "1e-14")
    assert found["k"] == truncated.required_dimensions(3000, 1e-14) == 1091


def test_where_no_fraction_suffices_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fraction", "--dim", "100", "--error", "1e-14", "--radius", "1.01", "--json"]
    assert main(["theory", *words]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["k"] is None
    assert "no number of coordinates up to 97 gives an error rate of 1e-14" in printed.err


def test_table_shows_the_same_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["theory", "fraction", "--dim", "10", "--error", "1e-2"]) == 0
    assert "k          None" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["cap", "--dim", "500"],
        ["cap", "--dim", "1", "--measure", "0.1"],
        ["cap", "--dim", "500", "--measure", "2"],
        ["cap", "--dim", "500", "--measure", "0.1", "--distance", "0.1"],
        ["cap", "--dim", "500", "--measure", "-1e-9"],
        ["cap", "--dim", "500", "--distance", "3"],  # longer than the diameter
        ["cap", "--dim", "500", "--distance", "1.5"],  # a point is nearer, on average
        ["cap", "--dim", "500", "--distance", "4", "--radius", "1.3"],
        ["cap", "--dim", "9" * 30, "--measure", "0.1"],
        ["ellipsoid", "0.36x0"],
        ["ellipsoid", "0.36x"],
        ["ellipsoid", "x250"],
        ["ellipsoid", "0.36x2.5"],
        ["ellipsoid", "0.36x99999999999999"],
        ["ellipsoid", "0.5", "--radius", "0"],
        ["ellipsoid", "0.5", "--radius", "inf"],
        ["ellipsoid", "nan"],
        ["ellipsoid", "abc"],
        ["ellipsoid", "0.5", "--radius", "1"],
        ["fraction", "--dim", "1", "--error", "1e-2"],
        ["fraction", "--dim", "100", "--error", "0"],
        ["fraction", "--dim", "100", "--error", "1e-2", "--threshold", "best"],
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["theory", *words]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert 0 < len(error.strip().splitlines()) <= 3
