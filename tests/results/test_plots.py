"""Plots show the numbers that they were given, on scales that mean what they say."""

import numpy as np
import plotly.graph_objects as go
import pytest

from interp_jax.results import grid_plots, plots
from interp_jax.results.plot_style import axis, colour_limits, extent, label
from interp_jax.results.plots import Axes, Line, Points, Reference

AXES = Axes("step", "loss")
HOSTILE = '<b>"a" & b</b>'
SHOWN = '&lt;b&gt;"a" &amp; b&lt;/b&gt;'
SQUARE = np.arange(9.0).reshape(3, 3)
ENDS = np.array([[1.0, 0.0], [0.0, -2.0], [0.5, 0.5]])

FIGURES = {
    "lines": lambda: plots.lines([Line(HOSTILE, [1, 2], [3, 4])], Axes(HOSTILE, HOSTILE), [Reference(3, HOSTILE)]),
    "scatter": lambda: plots.scatter([Points(HOSTILE, [1, 2], [3, 4])], Axes(HOSTILE, HOSTILE)),
    "heatmap": lambda: plots.heatmap(SQUARE, Axes(HOSTILE, HOSTILE), HOSTILE, [HOSTILE] * 3, [HOSTILE] * 3),
    "heatmap_grid": lambda: grid_plots.heatmap_grid([SQUARE] * 7, [HOSTILE] * 7, Axes(HOSTILE, HOSTILE), HOSTILE),
    "arrows_grid": lambda: grid_plots.arrows_grid([ENDS] * 7, [HOSTILE] * 7, Axes(HOSTILE, HOSTILE), np.arange(3), HOSTILE),
    "phase_diagram": lambda: grid_plots.phase_diagram(
        [(HOSTILE, np.eye(3, dtype=int))] * 2, [HOSTILE] * 2, [1, 2, 3], [1, 2, 3], Axes(HOSTILE, HOSTILE),
        [Line(HOSTILE, [1, 2], [1, 2])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FIGURES)
def test_every_text_is_escaped_and_every_visible_axis_of_the_edge_has_a_title(kind):
    figure = FIGURES[kind]()
    assert HOSTILE not in strings(figure.to_plotly_json()) and SHOWN in strings(figure.to_plotly_json())
    assert figure.layout.xaxis.title.text == SHOWN or kind.endswith("grid")  # there only the lowest row has titles
    assert figure.layout.yaxis.title.text == SHOWN
    assert figure.layout.template.layout.paper_bgcolor == "white"


def strings(value):
    if isinstance(value, dict):
        return set().union(*(strings(v) for k, v in value.items() if k != "template"), set())
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        return set().union(*map(strings, value), set())
    return {value} if isinstance(value, str) else set()


def test_lines_hold_the_numbers_and_bands_go_there_and_back():
    x, y = np.arange(3.0), np.array([5.0, 4.0, 3.0])
    figure = plots.lines([Line("a", x, y, y - 1, y + 1), Line("b", x, 2 * y)], AXES)
    band, first, second = figure.data
    np.testing.assert_array_equal(band.x, [0, 1, 2, 2, 1, 0])
    np.testing.assert_array_equal(band.y, [6, 5, 4, 2, 3, 4])
    np.testing.assert_array_equal(first.y, y)
    np.testing.assert_array_equal(second.y, 2 * y)
    assert band.hoverinfo == "skip" and first.line.color != second.line.color
    low, high = figure.layout.yaxis.range
    assert low < 2 and high > 10


def test_points_have_names_of_their_own():
    named, plain = plots.scatter([Points("a", [1, 2], [3, 4], ["<b>", "k = 4"]), Points("b", [1], [2])], AXES).data
    assert named.hovertext == ("&lt;b&gt;", "k = 4") and named.hoverinfo == "text+x+y"
    assert plain.hovertext is None


def test_sixteen_lines_can_be_told_apart():
    drawn = plots.lines([Line(str(i), [1, 2], [i, i]) for i in range(16)], AXES).data
    assert len({(line.line.color, line.line.dash) for line in drawn}) == 16


@pytest.mark.parametrize(("scale", "values"), [("linear", (0.4, 0.375, 1.4)), ("log", (0.4, 0.375, 10.0))])
def test_labels_of_close_references_do_not_overlap(scale, values):
    references = [Reference(v, f"label {v}") for v in values]
    figure = plots.lines([Line("a", [0, 1], [0.3, 3 * max(values)])], Axes("x", "y", y_scale=scale), references)
    low, high = figure.layout.yaxis.range
    notes = figure.layout.annotations
    heights = sorted((plots.HEIGHT - 90) * (note.y - low) / (high - low) + note.yshift for note in notes)
    assert np.diff(heights).min() >= 14.9 and {note.text for note in notes} == {r.label for r in references}
    top = max(notes, key=lambda note: note.y)
    assert top.yshift == 0 and top.y == pytest.approx(np.log10(10) if scale == "log" else 1.4)
    assert sorted(shape.y0 for shape in figure.layout.shapes) == sorted(values)


def test_scales_with_both_signs_are_symmetric_and_shared():
    assert colour_limits(np.array([-1.0, np.nan, 3.0]))[1:] == (-3.0, 3.0)
    assert colour_limits(np.array([0.5, 3.0]))[1:] == (0.5, 3.0)
    figure = grid_plots.heatmap_grid([SQUARE, -2 * SQUARE], ["a", "b"], AXES, "value")
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-16, 16)
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}


@pytest.mark.parametrize("panels", [1, 3, 5, 7, 12])
def test_panels_are_square_equal_and_inside(panels):
    for figure in (
        grid_plots.heatmap_grid([SQUARE] * panels, ["t"] * panels, AXES, "v"),
        grid_plots.arrows_grid([ENDS] * panels, ["t"] * panels, AXES, np.arange(3), "v"),
    ):
        layout = figure.layout
        width = layout.width - layout.margin.l - layout.margin.r
        height = layout.height - layout.margin.t - layout.margin.b
        x = [a.domain for a in figure.select_xaxes() if a.visible is not False]
        y = [a.domain for a in figure.select_yaxes() if a.visible is not False]
        assert len(x) == panels and layout.width <= 940
        sides = [width * (b - a) for a, b in x] + [height * (b - a) for a, b in y]
        assert max(sides) - min(sides) < 1e-6 and min(sides) > 90


def test_arrows_start_at_the_origin_and_stay_in_view():
    figure = grid_plots.arrows_grid([ENDS], ["a"], AXES, np.arange(3), "importance")
    _, arms, tips = figure.data
    np.testing.assert_array_equal(np.stack([arms.x, arms.y], 1)[1::3], ENDS)
    np.testing.assert_array_equal(np.stack([arms.x, arms.y], 1)[0::3], np.zeros((3, 2)))
    np.testing.assert_array_equal(np.stack([tips.x, tips.y], 1), ENDS)
    assert figure.layout.xaxis.range[1] > 2 and figure.layout.yaxis.range[0] < -2


def test_cells_of_a_phase_diagram_meet_halfway_on_the_axis_scale():
    cells = np.array([[0, 1], [2, -1]])
    figure = grid_plots.phase_diagram(
        [("m", cells)], ["a", "b", "c"], [0.1, 1.0], [1.0, 3.0], Axes("x", "y", x_scale="log")
    )
    (area,) = (trace for trace in figure.data if isinstance(trace, go.Heatmap))
    np.testing.assert_allclose(area.x, 10 ** np.array([-1.5, -0.5, 0.5]))
    np.testing.assert_allclose(area.y, [0, 2, 4])
    np.testing.assert_array_equal(area.z, [[0, 1], [2, np.nan]])
    assert (area.zmin, area.zmax) == (-0.5, 2.5)
    np.testing.assert_allclose(figure.layout.xaxis.range, [-1.5, 0.5])
    named = {trace.name: trace.marker.color for trace in figure.data if trace.name in ("a", "b", "c")}
    for i, name in enumerate("abc"):  # the legend's colour is the one in the middle of the phase's step
        middle = (i - area.zmin) / (area.zmax - area.zmin)
        assert {c for at, c in area.colorscale if abs(at - middle) <= 1 / 6 + 1e-9} >= {named[name]}


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.9, 31, [1, 2, 5, 10, 20]), (1e-4, 10, [1e-4, 1e-3, 0.01, 0.1, 1, 10]), (0.02, 0.2, [0.02, 0.05, 0.1, 0.2])],
)
def test_ticks_of_a_log_axis(low, high, ticks):
    settings = axis("x", "log", low, high)
    np.testing.assert_allclose(settings["tickvals"], ticks)
    np.testing.assert_allclose([float(t) for t in settings["ticktext"]], ticks)
    np.testing.assert_allclose(settings["range"], np.log10([low, high]))


def test_extent_leaves_out_what_an_axis_cannot_show():
    low, high = extent([[1.0, np.nan, np.inf], [100.0, -5.0, 0.0]], "log", None)
    assert 0.5 < low < 1 and 100 < high < 200
    assert extent([[np.nan]], "linear", None) == (0.0, 1.0) and extent([], "log", None) == (0.1, 1.0)
    low, high = extent([[3.0, 3.0]], "linear", None)
    assert low < 3 < high


def test_blanks_in_labels_are_visible():
    assert label(" a\n") == "·a↵" and label(0.123456) == "0.1235"
    assert plots.heatmap(SQUARE, AXES, "v", ["a", "a", " "], None).layout.xaxis.ticktext == ("a", "a", "·")
