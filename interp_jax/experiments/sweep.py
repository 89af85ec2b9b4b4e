"""Sweeps: from a config and the named sweeps of its file to members, each with a content hash.

A sweep is a plain generator `sweep_<name>()` in the config file that yields overrides, {"model.n_hidden": 5, ...}; one with a
parameter is given the config as a person has set it. Several named sweeps multiply. Without a choice, `configs/x.py:arg` runs
`sweep_<arg>`, else `sweep_default`, where the file has one.
"""

import inspect
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.config import ENGINE_SECTIONS, build_experiment, explain, load_experiment, override
from interp_jax.experiments.frozen import digest

RESULTS_SCHEMA = 1  # raise it when the meaning of stored results changes: nothing older is then taken for done
PREFIX = "sweep_"


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      hash: of the config less what cannot change results.
      config: the member's whole ConfigDict.
      part: the experiment's part built from it; its tree structure is the member's group.
    """

    hash: str
    config: ConfigDict
    part: Any


def expand(
    config: ConfigDict,
    module: ModuleType | None = None,
    names: Sequence[str] | None = None,
    arg: str = "",
    told: Collection[str] = (),
) -> list[Member]:
    """The members of the product of the named sweeps over `config`, without repetitions, in order.

    Args:
      config: the base of every member.
      module: the config file, which holds the sweeps.
      names: of sweeps; None takes `sweep_<arg>`, else `sweep_default`, where there is one; empty sweeps nothing.
      arg: the config's variant.
      told: keys that a person has set; no sweep may set them again that was not given the config.

    Raises:
      InputError: an unknown sweep, a key that the config does not have, or one that a person and a sweep both set.
    """
    known = {n.removeprefix(PREFIX): f for n, f in vars(module).items() if n.startswith(PREFIX)} if module else {}
    if names is None:
        names = [name for name in (arg, "default") if name in known][:1]
    for name in names:
        if name not in known:
            raise InputError(f"no sweep_{name}() in the config file: {nearest(name, known)}")
    members: dict[str, Member] = {}
    told = () if any(map(takes_config, (known[name] for name in names))) else told
    for combination in itertools.product(*(yields(known[name], Path(module.__file__), config) for name in names)):
        merged = {key: value for overrides in combination for key, value in overrides.items()}
        if twice := sorted(merged.keys() & set(told)):
            raise InputError(
                f"--config.{twice[0]}: sweep {'*'.join(names)} sets it too; leave it out, or take another sweep"
                " (--sweep none: one run)"
            )
        for made in made_of(override(config, merged, where=f"sweep {'*'.join(names)}: ")):
            one = member(made)
            members.setdefault(one.hash, one)
    if not members:
        raise InputError(f"sweep {'*'.join(names)} yields no member")
    return list(members.values())


def takes_config(sweep: Callable[..., Iterable[Any]]) -> bool:
    """Whether a sweep has a parameter."""
    return bool(inspect.signature(sweep).parameters)


def yields(sweep: Callable[..., Iterable[Any]], path: Path, config: ConfigDict) -> list[dict[str, Any]]:
    """All that a sweep of the config file at `path` yields.

    Raises:
      InputError: its code fails, or yields something else than overrides.
    """
    with explain(path):
        found = list(sweep(config) if takes_config(sweep) else sweep())
    for overrides in found:
        if not isinstance(overrides, dict) or not all(isinstance(key, str) for key in overrides):
            raise InputError(
                f"{path}, {sweep.__name__}: a sweep yields overrides such as {{'seed': 3}}, got {overrides!r}"
            )
    return found


def made_of(config: ConfigDict) -> list[ConfigDict]:
    """The config itself, or those of other experiments that its experiment is made of, run by its engine."""
    members = getattr(load_experiment(config.experiment), "members", None)
    if members is None:
        return [config]
    build_experiment(config)
    return [ConfigDict({**made.to_dict(), **{k: config[k] for k in ENGINE_SECTIONS}}) for made in members(config)]


def member(config: ConfigDict) -> Member:
    """A config with its hash and its part."""
    return Member(content_hash(config), config, build_experiment(config))


def content_hash(config: ConfigDict) -> str:
    """SHA-256, 16 hex digits, of the config less engine and output, and the schema of results."""
    content = {k: v for k, v in config.to_dict().items() if k not in {"on_nan", *ENGINE_SECTIONS}}
    return digest({"schema": RESULTS_SCHEMA, **content})
