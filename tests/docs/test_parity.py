"""The figures of agreement with the reference that README.md quotes are those of docs/parity.md, and these are one table."""

from pathlib import Path

from third_party.huggingface.parity.cases import PLAIN

ROOT = Path(__file__).parents[2]
BARS = 3 * [1e-9] + 3 * [2e-5]


def tables(page):
    """The tables of a page, in order: rows of cells, without the line below the head."""
    lines = (ROOT / page).read_text().splitlines()
    found = [[]]
    for line in lines:
        if line.startswith("|"):
            found[-1].append([cell.strip(" `") for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[row for row in table if set(row[0]) != {"-"}] for table in found if table]


def by_family(page):
    """The rows below the head "family", by family."""
    (table,) = [table for table in tables(page) if table[0][0] == "family"]
    return {family: cells for family, *cells in table[1:]}


def test_readme_quotes_the_page_for_every_family():
    quoted, measured = by_family("README.md"), by_family("docs/parity.md")
    assert list(measured) == list(PLAIN)
    assert quoted == measured


def test_the_bars_that_readme_names_are_held():
    text = " ".join((ROOT / "README.md").read_text().split())
    assert "of which 1e-9 and 2e-5 are allowed" in text
    for family, cells in by_family("docs/parity.md").items():
        assert all(float(cell) <= bar for cell, bar in zip(cells, BARS, strict=True)), family


def test_a_familys_row_is_the_worst_of_its_sites():
    """Output, any other site, any gradient, of the tables of every site in both precisions."""
    everything = [table for table in tables("docs/parity.md") if table[0][0] == "site"]
    assert len(everything) == 2
    for family, row in by_family("docs/parity.md").items():
        expected = []
        for head, *sites in everything:
            errors = {site: cells[head.index(family) - 1] for site, *cells in sites}
            shown = {site: float(error) for site, error in errors.items() if error}
            gradients = [error for site, error in shown.items() if site.startswith("gradient")]
            others = [error for site, error in shown.items() if site != "output" and not site.startswith("gradient")]
            assert len(gradients) == 2 and len(others) > 15
            expected += [shown["output"], max(others), max(gradients)]
        assert list(map(float, row)) == expected, family
