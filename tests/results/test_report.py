"""The report: all text escaped, nothing from a network, and drawn without an error by a real browser."""

import html.parser
import json
import re

import numpy as np
import plotly.graph_objects as go
import plotly.offline
import pytest

from interp_jax.errors import InputError
from interp_jax.results import grid_plots, plots, report
from interp_jax.results.blocks import Code, Details, Figure, Section, TableBlock, Text, Tokens
from interp_jax.results.report import render, write_report
from interp_jax.results.tables import Table
from tests.results import example_report
from tests.results.hostile_text import HOSTILE


def hostile_blocks():
    """The hostile text in every field."""
    axes = plots.Axes(HOSTILE, HOSTILE)
    square = np.eye(2)
    return [
        Section(HOSTILE, HOSTILE),
        Section("second, for a table of contents"),
        Text(f"{HOSTILE}\n\n`{HOSTILE}`"),
        Figure(plots.lines([plots.Line(HOSTILE, [1, 2], [1, 2])] * 2, axes, [plots.Reference(1, HOSTILE)]), HOSTILE),
        Figure(plots.heatmap(square, axes, HOSTILE, [HOSTILE] * 2, [HOSTILE] * 2), HOSTILE),
        Figure(grid_plots.heatmap_grid([square], [HOSTILE], axes, HOSTILE), HOSTILE),
        Figure(
            go.Figure(go.Scatter(x=[1], y=[1], name=HOSTILE, text=HOSTILE), {"title": {"text": HOSTILE}}),
            "not by `plots`",
        ),
        TableBlock(Table([HOSTILE], [[HOSTILE]], HOSTILE)),
        Code(HOSTILE),
        Tokens([HOSTILE, " ", "\n"], [0.5, -1, np.nan], HOSTILE),
        Details(HOSTILE, HOSTILE),
    ]


def hostile_page():
    return render(HOSTILE, HOSTILE, hostile_blocks(), HOSTILE, {"config": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE})


class Reader(html.parser.HTMLParser):
    """Collects elements, text outside scripts, and the JSON of the figures."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.data, self.addresses = [], [], [], []
        self.inside = None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.inside = "json" if ("type", "application/json") in attrs else tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "json":
            self.data.append(json.loads(data))
        elif self.inside not in ("script", "style"):
            self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_hostile_text_adds_no_element_and_is_read_as_it_was_written():
    reader = read(hostile_page())
    assert reader.tags.count("script") == 2 + 4 and "img" not in reader.tags
    assert "".join(reader.text).count(HOSTILE) >= 12
    assert len(reader.data) == 4
    assert reader.data[0]["layout"]["xaxis"]["title"]["text"] == plots.plain(HOSTILE)


def test_nothing_comes_from_a_network():
    reader = read(render("t", "s", example_report.blocks(), "c", {}))
    addresses = [address for address in reader.addresses if not address.startswith("#")]
    assert addresses == ["data:,", "plotly.min.js"]
    assert "url(" not in (page := hostile_page()) and "@import" not in page


def test_contents_link_to_the_sections():
    page = render("t", "s", [Section("one"), Text("x"), Section("two")])
    links = re.findall(r'<li><a href="#(.+?)">(.+?)</a>', page)
    headings = re.findall(r'<h2 id="(.+?)">(.+?)</h2>', page)
    assert links == headings and [name for _, name in links] == ["one", "two"]
    assert "<nav" not in render("t", "s", [Section("only one")])


def test_figures_tables_and_texts_are_numbered_by_kind():
    found = re.findall(r"<b>(\w+ \d+)\.</b>", render("t", "s", example_report.blocks()))
    assert found[:4] == ["Figure 1", "Table 1", "Figure 2", "Figure 3"] and found[-2:] == ["Text 1", "Text 2"]


def test_command_config_and_manifest_are_folded_at_the_end():
    page = render("t", "s", [], "./launch/local --config x", {"config": {"a": np.float32(1)}, "git": None})
    assert "<pre>./launch/local --config x</pre>" in page
    assert re.findall(r"<details><summary>(\w+)</summary>", page) == ["Config", "Manifest"]
    assert "<footer" not in render("t", "s", [])


def test_tokens_show_blanks_and_white_means_zero():
    page = render("t", "s", [Tokens(["a b", "\n", "\t"], [0.0, 2.0, -2.0], "c")])
    assert "a<i>·</i>b" in page and "<i>↵</i><br>" in page and "<i>→</i>" in page
    colours = re.findall(r'<span style="background:(rgb\(.+?\))" title="(.+?)"', page)
    assert colours[0] == ("rgb(255,255,255)", "0") and colours[1][0] != colours[2][0]


def test_tokens_without_values_for_each_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        render("t", "s", [Tokens(["a", "b"], [1.0], "c")])


def test_the_script_lies_once_beside_the_reports(tmp_path):
    path = write_report(tmp_path / "out", "t", "s", example_report.blocks())
    script = tmp_path / "out" / report.SCRIPT
    assert path == tmp_path / "out" / "report.html" and script.read_text() == plotly.offline.get_plotlyjs()
    assert path.stat().st_size < 400_000
    written = script.stat().st_mtime_ns
    write_report(tmp_path / "out", "t", "s", [])
    assert script.stat().st_mtime_ns == written
    script.write_text("torn")
    write_report(tmp_path / "out", "t", "s", [])
    assert script.stat().st_size > 1_000_000


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a directory"):
        write_report(tmp_path / "file", "t", "s", [])


def drawn(dom):
    return len(re.findall(r'class="graph js-plotly-plot"', dom))


@pytest.mark.slow
def test_the_browser_would_tell_of_an_error_and_of_a_request(browse, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<img src="http://example.invalid/x.png"><script>undefined_function()</script>')
    _, console, addresses = browse(page)
    assert "undefined_function is not defined" in "".join(console) and addresses == {"http://example.invalid/x.png"}


@pytest.mark.slow
def test_a_browser_draws_every_figure_without_an_error_or_a_network(browse, tmp_path):
    dom, console, addresses = browse(example_report.write(tmp_path))
    figures = [block for block in example_report.blocks() if isinstance(block, Figure)]
    assert console == [] and addresses == set()
    assert drawn(dom) == len(figures) and dom.count('class="main-svg"') >= len(figures)
    assert report.FALLBACK not in dom


@pytest.mark.slow
def test_a_browser_runs_nothing_of_hostile_text(browse, tmp_path):
    path = write_report(tmp_path, HOSTILE, HOSTILE, hostile_blocks(), HOSTILE, {"config": {HOSTILE: HOSTILE}})
    dom, console, addresses = browse(path)
    assert console == [] and addresses == set()
    assert drawn(dom) == 4 and "<title>broken out" not in dom and "<img" not in dom
    (title,) = re.findall(r'<text class="xtitle"[^>]*>(.*?)</text>', dom)[:1]
    assert title.startswith("&lt;/script&gt;")  # the label shows the text itself


@pytest.mark.slow
def test_without_the_script_a_line_says_what_is_missing(browse, tmp_path):
    path = example_report.write(tmp_path)
    (tmp_path / report.SCRIPT).unlink()
    dom, _, _ = browse(path)
    assert drawn(dom) == 0 and dom.count(report.FALLBACK) == dom.count('class="graph"')
