"""The view of a whole sweep: cells are means over seeds, what is unfinished is empty, three things are lines."""

import numpy as np
import pytest

from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.frozen import read_frozen
from interp_jax.experiments.overview import MOST_LINES, overview
from interp_jax.experiments.plan import thaw
from interp_jax.experiments.publish import publish_sweep
from interp_jax.experiments.worker import main as worker
from tests.experiments.frozen_lines import freeze_lines


def configs(**values):
    """{hash: config} of all combinations, in order."""
    names, grids = list(values), np.meshgrid(*values.values(), indexing="ij")
    rows = zip(*(grid.ravel().tolist() for grid in grids), strict=True)
    return {
        f"{i}": {"experiment": "x", "steps": 4, **dict(zip(names, row, strict=True))} for i, row in enumerate(rows)
    }


def group(losses):
    """One group whose last finite losses are these, by hash."""
    last = np.array(list(losses.values()), float)
    metrics = {"other": np.zeros((2, len(last))), "loss": np.stack([last + 1, last])}
    return GroupResult(None, tuple(losses), None, {}, metrics, np.array([2, 4]), (), None)


def drawn(all_configs, losses):
    _, figure = overview(all_configs, [group(losses)])
    return figure.figure.data[0], figure.figure, figure.caption


def test_two_things_make_a_heat_map_of_means_over_seeds():
    made = configs(rate=[0.1, 0.3], seed=[0, 1], width=[2, 3, 4])
    losses = {h: c["rate"] + c["width"] + c["seed"] for h, c in made.items() if (c["rate"], c["width"]) != (0.3, 4)}
    heat, figure, caption = drawn(made, losses)
    np.testing.assert_allclose(heat.z, [[2.6, 3.6, 4.6], [2.8, 3.8, np.nan]])
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("width", "rate")
    assert figure.layout.yaxis.ticktext == ("0.1", "0.3") and figure.layout.xaxis.ticktext == ("2", "3", "4")
    assert "mean over up to 2 runs" in caption and "without a finished run are empty" in caption


def test_a_run_whose_last_line_is_not_finite_counts_by_the_one_before():
    made = configs(rate=[0.1, 0.3], width=[2, 3])
    one = group(dict.fromkeys(made, 1.0))
    one.metrics["loss"][-1, 0] = np.nan
    _, figure = overview(made, [one])
    np.testing.assert_allclose(figure.figure.data[0].z, [[2, 1], [1, 1]])


def test_three_things_are_lines_of_what_is_finished():
    made = configs(rate=[0.1, 0.3], kind=["a", "b"], width=[2, 3])
    _, figure, caption = drawn(made, {h: float(h) for h in made if h != "7"})
    titles = [one.text for one in figure.layout.annotations if one.y > 1]
    assert titles == ["rate", "kind", "width", "loss"]
    lines = np.concatenate([trace.y.reshape(-1, 5) for trace in figure.data[:-1]])
    np.testing.assert_allclose(lines[:, 3], np.arange(7) / 6)  # by loss, from low to high
    np.testing.assert_array_equal(lines[:, 2], [0, 1, 0, 1, 0, 1, 0])
    assert caption.startswith("Finished runs, a line each, coloured by the last loss.")


def test_of_very_many_runs_some_are_drawn():
    made = configs(rate=np.linspace(0.1, 1, 100), width=np.arange(100))
    lines, _, caption = drawn(made, dict.fromkeys(made, 1.0))
    assert np.isnan(lines.y).sum() == MOST_LINES and "2,000 of 10,000 finished runs" in caption


@pytest.mark.parametrize("made", [
    configs(rate=[0.1, 0.3], seed=[0, 1]),
    {h: c | {"again": -c["rate"]} for h, c in configs(rate=[0.1, 0.3], seed=[0, 1]).items()},
    {h: c | {"experiment": h} for h, c in configs(rate=[0.1, 0.3], width=[2, 3]).items()},
], ids=["one thing", "one thing by two names", "several experiments"])  # fmt: skip
def test_there_is_none_where_there_is_nothing_to_lay_out(made):
    assert overview(made, [group(dict.fromkeys(made, 1.0))]) == []


def test_it_is_in_the_report_of_a_sweep_of_which_a_part_is_finished(tmp_path):
    freeze_lines(tmp_path, ["rates", "widths"], **{"engine.chunk": 1, "engine.batch": 1, "steps": 8})
    worker([str(tmp_path), "--shard", "0/2"])
    publish_sweep(thaw(read_frozen(tmp_path).path), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "The sweep in one view" in page and "Last loss of each combination" in page
