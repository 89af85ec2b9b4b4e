"""Plots of models show the numbers and tokens that they were given, in cells in which they can be read."""

import numpy as np
import pytest

from interp_jax.results import model_plots, token_plots
from interp_jax.results.model_plots import Rest
from interp_jax.results.plot_style import LEAST, WIDEST, Axes

AXES = Axes("position", "layer")
HOSTILE = '<i>&"'
SHOWN = '&lt;i&gt;&amp;"'
RNG = np.random.default_rng(0)


def grid(n_rows, n_columns, **kwargs):
    tokens = [[f"t{r}.{c}" for c in range(n_columns)] for r in range(n_rows)]
    values = RNG.uniform(size=(n_rows, n_columns))
    x, y = [f"in{c}" for c in range(n_columns)], [f"layer {r}" for r in range(n_rows)]
    return values, tokens, token_plots.token_grid(tokens, values, x, y, AXES, "probability", **kwargs)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (2, 18), (12, 40), (24, 97)])
def test_a_token_grid_wraps_and_loses_nothing(n_rows, n_columns):
    values, tokens, figure = grid(n_rows, n_columns)
    np.testing.assert_array_equal(np.concatenate([band.z for band in figure.data], axis=1), values)
    assert np.concatenate([np.array(band.text) for band in figure.data], axis=1).tolist() == tokens
    labels = [text for axis in figure.select_xaxes() for text in axis.ticktext]
    assert labels == [f"in{c}" for c in range(n_columns)]
    assert figure.layout.width <= WIDEST
    assert figure.layout.height - figure.layout.margin.t >= LEAST  # room for the colour bar
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)


def test_columns_of_all_bands_are_equally_wide():
    _, _, figure = grid(3, 37)
    spans = {round(axis.range[1] - axis.range[0], 9) for axis in figure.select_xaxes()}
    assert len(figure.data) > 1 and len(spans) == 1


def test_all_text_of_a_token_grid_is_escaped_and_long_tokens_are_cut():
    hover = [["<b>\nsecond", "plain"]]
    tokens = [[HOSTILE, "a very long token"]]
    figure = token_plots.token_grid(tokens, np.array([[0.5, 0.1]]), [HOSTILE, " a\n"], [HOSTILE], AXES, HOSTILE, hover)
    band = figure.data[0]
    assert band.text[0] == [SHOWN, "a very …"] or list(band.text[0]) == [SHOWN, "a very …"]
    assert list(band.customdata[0]) == ["&lt;b&gt;<br>second", "plain"]
    assert figure.layout.xaxis.ticktext == (SHOWN, "·a↵") and figure.layout.yaxis.ticktext == (SHOWN,)
    assert figure.layout.coloraxis.colorbar.title.text == SHOWN


def test_contributions_are_largest_first_and_add_up():
    values = np.array([0.1, -5.0, 2.0, -0.2, 0.3])
    figure = model_plots.contributions(list("abcde"), values, "logits", most=2, rest=Rest(10, 1.5))
    bars = figure.data[0]
    np.testing.assert_allclose(bars.x, [-5.0, 2.0, 0.2 + 1.5, values.sum() + 1.5])
    assert figure.layout.yaxis.ticktext == ("b", "c", "13 others together", "sum")
    assert bars.marker.color[0] == model_plots.TAKE and bars.marker.color[1] == model_plots.ADD
    low, high = figure.layout.xaxis.range
    assert low < -5 and high > 2
    assert figure.layout.yaxis.range == (3.5, -0.5)  # the first is on top


def test_contributions_without_others_have_no_bar_for_them():
    figure = model_plots.contributions(["a", HOSTILE], np.array([0.0, 1e-9]), HOSTILE)
    assert figure.layout.yaxis.ticktext == (SHOWN, "a", "sum")
    assert figure.data[0].text == ("0", "0", "0") and figure.layout.xaxis.title.text == SHOWN


@pytest.mark.parametrize("n", [2, 18, 40, 64])
@pytest.mark.parametrize("heads", [1, 4, 12])
def test_patterns_are_square_readable_and_on_the_page(n, heads):
    patterns = RNG.uniform(size=(heads, n, n))
    figure = model_plots.pattern_grid(patterns, [f"head {i}" for i in range(heads)], [f"token{i}" for i in range(n)])
    layout = figure.layout
    width, height = layout.width - layout.margin.l - layout.margin.r, layout.height - layout.margin.t - layout.margin.b
    drawn = [
        (x.domain, y.domain) for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True) if x.visible
    ]
    assert len(drawn) == heads == len(figure.data) and layout.width <= WIDEST
    for i, ((left, right), (bottom, top)) in enumerate(drawn):
        assert width * (right - left) == pytest.approx(height * (top - bottom))
        assert width * (right - left) / n >= 9 - 0.5
        np.testing.assert_array_equal(figure.data[i].z, patterns[i])
    named = [axis.ticktext for axis in figure.select_yaxes() if axis.visible and axis.showticklabels]
    assert all(labels == tuple(f"token{i}" for i in range(n)) for labels in named)
    assert (layout.coloraxis.cmin, layout.coloraxis.cmax) == (0, 1)


def test_heads_that_are_left_out_are_counted():
    patterns = np.ones((6, 2, 2)) / 2
    titles = [f"head {i}" for i in range(6)]
    notes = lambda **kwargs: (
        {note.text for note in model_plots.pattern_grid(patterns, titles, ["a", "b"], **kwargs).layout.annotations}
        - set(titles)
    )
    assert notes() == set()
    assert notes(most=4) == {"4 of 6 heads; 2 are not shown"}
    assert notes(of=1440) == {"6 of 1,440 heads; 1,434 are not shown"}


def test_matrices_share_a_scale_and_labels_stand_at_the_edges():
    matrices = [np.array([[1.0, -3.0, 0.0]]), np.array([[2.0, 0.5, 0.0]])]
    figure = model_plots.matrix_grid(matrices, [HOSTILE, "b"], ["x", HOSTILE, "z"], ["y"], Axes(HOSTILE, "r"), HOSTILE)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-3, 3)
    assert [axis.showticklabels for axis in figure.select_yaxes()] == [True, False]
    assert figure.layout.xaxis.ticktext == ("x", SHOWN, "z") and figure.layout.xaxis.title.text == SHOWN
    assert figure.layout.annotations[0].text == SHOWN


def test_dense_labels_are_thinned_out():
    n = 400
    figure = model_plots.matrix_grid([np.eye(n)], ["a"], [str(i) for i in range(n)], ["0"] * n, AXES, "v")
    assert len(figure.layout.xaxis.ticktext) <= 80
    assert figure.layout.xaxis.ticktext[-1] == str(figure.layout.xaxis.tickvals[-1])


def test_the_ends_of_the_scale_choose_its_colours():
    positive = [np.array([[0.2, 0.7]])]
    draw = lambda limits: (
        model_plots.matrix_grid(positive, ["a"], ["x", "y"], ["z"], AXES, "v", limits).layout.coloraxis
    )
    one, two = draw((0.0, 1.0)), draw((-1.0, 1.0))
    assert (one.cmin, one.cmax, two.cmin, two.cmax) == (0, 1, -1, 1)
    middle = lambda scale: scale.colorscale[len(scale.colorscale) // 2][1]
    assert middle(two) == "rgb(247,247,247)" != middle(one)  # 0 is in the middle, and nearly white


def test_spectra_have_a_curve_for_each_matrix_in_each_panel():
    values = [np.array([[3.0, 1.0, 0.5], [2.0, 1.5, 0.0]]), np.array([[9.0, 4.0], [8.0, 1.0]])]
    figure = model_plots.spectra(values, ["OV", HOSTILE], ["0.1", HOSTILE], "logits")
    assert [trace.name for trace in figure.data] == ["0.1", SHOWN] * 2
    for trace, curve in zip(figure.data, [*values[0], *values[1]], strict=True):
        np.testing.assert_array_equal(trace.y, curve)
        np.testing.assert_array_equal(trace.x, np.arange(1, len(curve) + 1))
    assert figure.data[0].line.color == figure.data[2].line.color != figure.data[1].line.color
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False] and figure.layout.showlegend
    assert figure.layout.yaxis.range[1] > 3 and figure.layout.yaxis2.range[1] > 9
    assert [note.text for note in figure.layout.annotations] == ["OV", SHOWN] and figure.layout.width <= WIDEST
    assert model_plots.spectra([np.zeros((1, 2))], ["a"], ["b"], "c").layout.yaxis.range == (0, 1)
