"""Calibration: every instrument on models whose truth is known by construction, and the certificate of its errors.

An instrument's calibration is a set of runs (configs of any experiments) and a judge, a pure function of their results. The
job is the union of all those runs, so it is batched, resumed and skipped like any other. A module adds itself by its name
in `MODULES` and a function `instruments() -> list[Instrument]`.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.experiment import GroupResult
from interp_jax.parts import part

MODULES = (
    "interp_jax.experiments.superposition_calibration",
    "interp_jax.experiments.head_calibration",
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
