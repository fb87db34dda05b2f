"""What all figures share, held against what matplotlib then has to draw."""

import numpy as np
import pytest

from trueboundary.figures import interval_bars, mark_paper, new_figure, plot_rows, shared_legend


def ends(axes):
    """Return the ends of all bars in a picture, as points."""
    (container,) = axes.containers
    (bars,) = container.lines[2]
    return [segment.tolist() for segment in bars.get_segments()]


@pytest.mark.parametrize("across", [False, True])
def test_bars_reach_the_ends_of_their_intervals(across: bool) -> None:
    _, (axes,) = new_figure()
    places, values = [1.0, 2.0], [5.0, 6.0]
    points = (values, places) if across else (places, values)
    interval_bars(axes, *points, [4.0, 5.5], [7.0, 6.25], across=across)
    expected = [[[1.0, 4.0], [1.0, 7.0]], [[2.0, 5.5], [2.0, 6.25]]]
    found = [[point[::-1] if across else point for point in bar] for bar in ends(axes)]
    assert found == expected


def test_an_end_that_is_none_has_no_bar_and_one_that_is_0_has() -> None:
    _, (axes,) = new_figure()
    interval_bars(axes, [1.0, 2.0], [5.0, 6.0], [None, 0.0], [7.0, None])
    assert ends(axes) == [[[1.0, 5.0], [1.0, 7.0]], [[2.0, 0.0], [2.0, 6.0]]]


def test_a_single_value_and_an_end_beyond_it_by_rounding() -> None:
    _, (axes,) = new_figure()
    interval_bars(axes, 1.0, 0.3, np.nextafter(0.3, 1), 0.5)
    assert ends(axes) == [[[1.0, 0.3], [1.0, 0.5]]]


def test_columns_of_rows_are_plotted_against_each_other() -> None:
    _, (axes,) = new_figure()
    plot_rows(axes, [{"dim": 2, "rate": 0.5}, {"dim": 3, "rate": 0.1}], "dim", "rate", "s:", ms=4)
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[2.0, 0.5], [3.0, 0.1]]
    assert (line.get_marker(), line.get_linestyle(), line.get_markersize()) == ("s", ":", 4.0)


def test_a_legend_below_has_the_labels_of_all_axes_or_of_one() -> None:
    figure, (left, right) = new_figure(2)
    mark_paper(left, 1.0, 2.0, "paper")
    plot_rows(right, [{"x": 1, "y": 2}], "x", "y", label="measured")
    shared_legend(figure, n_columns=2)
    shared_legend(figure, n_columns=1, of=right)
    texts = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert texts == [["paper", "measured"], ["measured"]]


def test_a_legend_beside_takes_its_room_from_the_axes() -> None:
    ends = []
    for beside in (False, True):
        figure, (axes,) = new_figure()
        plot_rows(axes, [{"x": 1, "y": 2}], "x", "y", label="a long name of what was measured")
        shared_legend(figure, beside=beside)
        figure.draw_without_rendering()
        ends.append(axes.get_position().x1)
    assert ends[1] < 0.8 < ends[0]
