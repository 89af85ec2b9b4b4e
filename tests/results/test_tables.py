"""Tables: intervals against closed forms, what a reader sees, what a program reads."""

import csv
import io
import math

import numpy as np
import pytest

from interp_jax.results.tables import Interval, Table, cell_text, interval, to_csv, to_html, to_text


def test_interval_of_two_values_is_the_cauchy_quantile():
    """With n = 2 Student's t is Cauchy: t(.975, 1) = tan(.475 π), and s / √2 = |a − b| / 2."""
    mean, low, high = interval([1.0, 3.0])
    half = math.tan(0.475 * math.pi)
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - half, 2.0 + half), rel=1e-12)


def test_interval_covers_the_mean_in_95_percent_of_samples():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    covered = sum(low <= 3.0 <= high for _, low, high in map(interval, draws))
    assert abs(covered - 3800) < 3.3 * math.sqrt(4000 * 0.95 * 0.05)  # p < .001


def test_one_value_has_no_interval():
    mean, low, high = interval(np.array([0.25]))
    assert mean == 0.25 and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Interval(0.50123, 0.48898, 0.51348), "0.501 ± 0.012"),
        (Interval(1234.5, 1111.1, 1357.9), "1234 ± 123"),
        (Interval(0.5, math.nan, math.nan), "0.5"),
        (Interval(1.0, 1.0, 1.0), "1.0000 ± 0.0000"),
        (Interval(math.nan, math.nan, math.nan), "–"),
        (12_345, "12,345"),
        (np.int32(7), "7"),
        (0.0123456, "0.01235"),
        (1.5e-7, "1.5e-07"),
        (math.inf, "–"),
        (True, "True"),
        ("a [b] <c>", "a [b] <c>"),
    ],
)
def test_cells(cell, text):
    assert cell_text(cell) == text


TABLE = Table(
    ["model <a>", "loss", "members"],
    [["x & [bold]y", Interval(0.5, 0.4, 0.6), 40], ["z", Interval(0.1, 0.05, 0.15), 2]],
    "cap",
)


def test_html_is_escaped_and_numbers_are_aligned():
    text = to_html(TABLE)
    assert "<th>model &lt;a&gt;</th>" in text and "<td>x &amp; [bold]y</td>" in text
    assert '<td class="number">0.50 ± 0.10</td>' in text and '<th class="number">members</th>' in text


def test_text_shows_every_cell_as_it_is():
    text = to_text(TABLE, width=60)
    for word in ("model <a>", "x & [bold]y", "0.50 ± 0.10", "40", "cap"):
        assert word in text
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 60


def test_csv_keeps_all_digits():
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == ["model <a>", "loss", "loss low", "loss high", "members"]
    assert rows[1] == ["x & [bold]y", "0.5", "0.4", "0.6", "40"] and len(rows) == 3


def test_csv_column_of_intervals_and_numbers_has_one_width():
    rows = list(csv.reader(io.StringIO(to_csv(Table(["a"], [[Interval(1.0, 0.5, 1.5)], [2.0]])))))
    assert rows == [["a", "a low", "a high"], ["1.0", "0.5", "1.5"], ["2.0", "", ""]]
