"""Commands that answer a question with a number: caps, ellipsoids, fractions of the input."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import typer

from trueboundary.cli.errors import UserError, user_errors
from trueboundary.cli.json_output import Json, say_json
from trueboundary.cli.typed_commands import Command, Group

app = typer.Typer(
    name="theory",
    cls=Group,
    help="Exact numbers for the concentric spheres.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_REFUSALS = (ValueError, TypeError, ArithmeticError)
_MOST_ALPHAS = 10_000_000  # their list takes some hundred megabytes

#: Layout of what ``--json`` prints.
THEORY_SCHEMA = "1.0"

Radius = Annotated[float, typer.Option(help="Radius R of the outer sphere; the inner one has 1.")]
Dim = Annotated[int, typer.Option(help="Dimension of the sphere, at least 2.")]


@app.command(
    "cap",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary theory cap --dim 500 --measure 1e-7\n\n"
    "  trueboundary theory cap --dim 500 --distance 0.18 --json",
)
def cap(
    dim: Dim,
    measure: Annotated[
        float | None, typer.Option(help="Share of the sphere that the cap covers (error rate).")
    ] = None,
    distance: Annotated[
        float | None, typer.Option(help="Mean distance (L2) to the cap, instead of its measure.")
    ] = None,
    radius: Annotated[float, typer.Option(help="Radius of the sphere itself.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Show the cap of a given measure: no error set of that size is farther away on average."""
    from trueboundary.theory import caps

    if (measure is None) == (distance is None):
        raise UserError("give either --measure or --distance")
    with user_errors(_REFUSALS):
        if distance is not None:
            log_measure = caps.log_measure_for_mean_distance(dim, distance, radius=radius)
            farthest = caps.mean_distance(dim, 0.0, radius=radius)
            if log_measure == -math.inf and distance > farthest * (1 + 1e-12):
                raise UserError(
                    f"no set has a mean distance of {distance:g}: that to a single point of this "
                    f"sphere is {farthest:.6g}, and to more than a point it is less"
                )
        else:
            assert measure is not None
            caps.angle(dim, measure)  # says what is wrong with the numbers, if anything
            log_measure = math.log(measure) if measure > 0 else -math.inf
        _show(
            "cap",
            {
                "dim": dim,
                "radius": radius,
                "measure": math.exp(log_measure),
                "log10_measure": log_measure / math.log(10),
                "angle": caps.angle(dim, log_measure=log_measure),
                "threshold": caps.threshold(dim, log_measure=log_measure),
                "mean_chord": caps.mean_distance(dim, log_measure=log_measure, radius=radius),
                "mean_geodesic": caps.mean_distance(
                    dim, log_measure=log_measure, radius=radius, metric="geodesic"
                ),
            },
            as_json,
        )


@app.command(
    "ellipsoid",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary theory ellipsoid 0.36x250 1.232x250",
)
def ellipsoid(
    alphas: Annotated[
        list[str],
        typer.Argument(metavar="ALPHA...", help="Coefficients; 0.36x250 stands for 250 of 0.36."),
    ],
    radius: Radius = 1.3,
    as_json: Json = False,
) -> None:
    """Show the error rates of the classifier sum(alpha z^2) > 1, exact and approximate."""
    from trueboundary.theory.quadratic_forms import ellipsoid_log_error, ellipsoid_weights

    values = _coefficients(alphas)
    answer: dict[str, Any] = {"dim": len(values), "radius": radius, "n_wrong": 0}
    with user_errors(_REFUSALS):
        for sphere in ("inner", "outer"):
            weights = ellipsoid_weights(values, sphere=sphere, radius=radius)
            answer["n_wrong"] += int((weights > 0).sum())
            for method in ("exact", "clt", "sphere-clt", "lugannani-rice", "chernoff"):
                log_error = ellipsoid_log_error(
                    values,
                    sphere=sphere,
                    radius=radius,
                    method=method,
                )
                answer[f"log10_error_{sphere}_{method}"] = log_error / math.log(10)
    _show("ellipsoid", answer, as_json)


@app.command(
    "fraction",
    cls=Command,
    epilog="[bold]Example[/]\n\n  trueboundary theory fraction --dim 3000 --error 1e-14",
)
def fraction(
    dim: Dim,
    error: Annotated[float, typer.Option(help="Error rate, averaged over the two spheres.")],
    radius: Radius = 1.3,
    threshold: Annotated[
        Literal["optimal", "midpoint"], typer.Option(help="Of the classifier.")
    ] = "optimal",
    method: Annotated[
        Literal["exact", "clt"], typer.Option(help="Exact, or the paper's approximation.")
    ] = "exact",
    as_json: Json = False,
) -> None:
    """Show how many coordinates suffice for an error rate."""
    from trueboundary.theory.truncated import required_dimensions

    with user_errors(_REFUSALS):
        k = required_dimensions(
            dim,
            error,
            radius=radius,
            threshold=threshold,
            method=method,
        )
    _show(
        "fraction",
        {
            "dim": dim,
            "error": error,
            "radius": radius,
            "threshold": threshold,
            "method": method,
            "k": k,
            "fraction": None if k is None else k / dim,
        },
        as_json,
    )
    if k is None:
        typer.echo(
            f"trueboundary: no number of coordinates up to {dim - 3:,} gives an error rate of "
            f"{error:g}",
            err=True,
        )


def _coefficients(words: list[str]) -> list[float]:
    values: list[float] = []
    for word in words:
        value, cross, count = word.partition("x")
        try:
            number, times = float(value), int(count if cross else 1)
        except ValueError:
            raise UserError(f"expected an alpha such as 0.36 or 0.36x250, got {word!r}") from None
        if times < 1 or not math.isfinite(number):
            raise UserError(f"expected a finite alpha and a count of at least 1, got {word!r}")
        if len(values) + times > _MOST_ALPHAS:
            raise UserError(f"expected at most {_MOST_ALPHAS:,} alphas in all, got {word!r}")
        values += [number] * times
    return values


def _show(question: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        from trueboundary.presentable import storable

        # JSON has no infinity: an error rate of exactly 0 has no logarithm.
        say_json(f"theory {question}", THEORY_SCHEMA, **storable(answer))
        return
    width = max(len(name) for name in answer)
    for name, value in answer.items():
        shown = f"{value:.10g}" if isinstance(value, float) else str(value)
        typer.echo(f"{name:<{width}}  {shown}")
