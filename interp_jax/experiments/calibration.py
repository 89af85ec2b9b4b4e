"""Calibration: every instrument on models whose truth is known by construction, and the certificate of its errors.

An instrument's calibration is a set of runs (configs of any experiments) and a judge, a pure function of their results. The
job is the union of all those runs, so it is batched, resumed and skipped like any other. A module adds itself by its name
in `MODULES` and a function `instruments() -> list[Instrument]`.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.experiment import GroupResult, select
from interp_jax.experiments.sweep import content_hash
from interp_jax.parts import part
from interp_jax.results.blocks import Code, Page, Section, TableBlock, Text
from interp_jax.results.tables import Interval, Table

MODULES = (
    "interp_jax.experiments.superposition.calibration",
    "interp_jax.experiments.heads.calibration",
    "interp_jax.experiments.known_nodes.calibration",
    "interp_jax.experiments.alignment.calibration",
    "interp_jax.experiments.known_features.calibration",
    "interp_jax.experiments.measures.calibration",
    "interp_jax.experiments.known_signals.calibration",
    "interp_jax.experiments.known_answers.calibration",
)


class Verdict(NamedTuple):
    """What a calibration found.

    Attributes:
      error: what the number is, with its unit.
      value: its mean over seeds.
      low, high: 95% interval of the mean.
      seeds: independent runs behind the interval.
      bar: what it must satisfy, in words.
      passed: whether it does.
    """

    error: str
    value: float
    low: float
    high: float
    seeds: int
    bar: str
    passed: bool


class Instrument(NamedTuple):
    """An instrument and how it is calibrated.

    Attributes:
      name: of the instrument, as the certificate lists it.
      truth: what is known by construction.
      configs: of the runs; the argument asks for a quick version, which shows that all works and certifies nothing.
      judge: the verdict from the groups of those runs.
    """

    name: str
    truth: str
    configs: Callable[[bool], list[ConfigDict]]
    judge: Callable[[list[GroupResult]], Verdict]


@part
class Config:
    """What to calibrate: `only` is the beginning of the instruments' names, or empty for all."""

    only: str = ""
    quick: bool = False


def instruments(config: Config | ConfigDict) -> list[Instrument]:
    """The chosen instruments."""
    known = [one for name in MODULES for one in importlib.import_module(name).instruments()]
    chosen = [one for one in known if one.name.startswith(config.only)]
    if not chosen:
        raise InputError(
            f"--config.only: no instrument begins with {config.only!r}: {nearest(config.only, [i.name for i in known])}"
        )
    return chosen


def members(config: ConfigDict) -> list[ConfigDict]:
    """The runs of all chosen instruments."""
    return [made for one in instruments(config) for made in one.configs(config.quick)]


def experiment(config: Config) -> None:
    """Calibration has no run of its own: see `members`."""
    raise InputError("a calibration is made of other experiments' runs")


def report(groups: list[GroupResult]) -> Page:
    """The certificate: a row per instrument of which all runs are there, and calibration.json with the same rows."""
    rows = [certify(one, quick, groups) for one, quick in measured(groups)]
    columns = ("instrument", "known truth", "error", "measured", "bar", "holds", "seeds", "seconds")
    table = Table(columns, [table_row(row) for row in rows], "Intervals are 95%, over seeds.")
    n_failed = sum(not row["passed"] for row in rows)
    summary = f"{len(rows)} instruments on models whose truth is known by construction; " + (
        f"{n_failed} of them miss their bar." if n_failed else "all of them hold their bar."
    )
    quick = any(row["quick"] for row in rows)
    warning = [Text("A quick calibration shows that everything runs. It certifies nothing.")] if quick else []
    blocks = [
        *warning,
        Section("Certificate", CERTIFICATE),
        TableBlock(table),
        Section("As data"),
        Code("calibration.json"),
    ]
    return Page("Calibration certificate", summary, blocks, {"calibration.json": rows})


CERTIFICATE = """An instrument that claims to find something is run where what it should find is known. The error is what it
got wrong there; the bar is what the project promises. Figures come from the runs that this report was made of."""


def measured(groups: list[GroupResult]) -> list[tuple[Instrument, bool]]:
    """The instruments whose runs are all among the groups, and whether only the quick ones are."""
    present = {h for group in groups for h in group.hashes}
    found = []
    for one in instruments(Config()):
        quick = next((quick for quick in (False, True) if hashes(one, quick) <= present), None)
        found += [] if quick is None else [(one, quick)]
    return found


def hashes(one: Instrument, quick: bool) -> set[str]:
    """Content hashes of an instrument's runs."""
    return {content_hash(config) for config in one.configs(quick)}


def certify(one: Instrument, quick: bool, groups: list[GroupResult]) -> dict[str, Any]:
    """An instrument's row of the certificate."""
    wanted = hashes(one, quick)
    own = [select(group, wanted) for group in groups if wanted & set(group.hashes)]
    seconds = float(sum(group.seconds.sum() for group in own))
    return {"instrument": one.name, "truth": one.truth, "quick": quick, **one.judge(own)._asdict(), "seconds": seconds}


def table_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row for a reader."""
    measured = Interval(row["value"], row["low"], row["high"])
    holds = "yes" if row["passed"] else "no"
    return row["instrument"], row["truth"], row["error"], measured, row["bar"], holds, row["seeds"], row["seconds"]
