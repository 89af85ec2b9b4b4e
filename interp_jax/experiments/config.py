"""Configs: from a file and overrides to a ConfigDict, and from a ConfigDict to parts, strictly.

    configs/x.py:arg  ->  get_config(arg)  ->  ConfigDict  ->  override  ->  build  ->  parts

A config is composed from the dataclass defaults of an experiment's `Config`, so no field is declared twice. Whatever is
misspelt, of the wrong type or impossible raises `InputError` with the nearest valid thing.
"""

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from ml_collections import ConfigDict

from interp_jax.errors import InputError, nearest
from interp_jax.parts import is_part, part

CONFIGS = Path(__file__).parents[2] / "configs"
ON_NAN = ("freeze", "stop")
LARGEST = float(np.finfo(np.float32).max)
MOST_DEVICES = 1024  # virtual ones
T = TypeVar("T")


@part
class Engine:
    """How a job is run; nothing here changes its results beyond the stated tolerance, so none of it is hashed.

    Attributes:
      batch: members that a device computes at once; 0 lets a short probe choose.
      chunk: most members per chunk, the unit on disk.
      cpu_devices: virtual devices to make on a CPU, each computing with one thread; 0 makes one per core; 1 leaves all
        threads to one device.
      precision: of matrix products on accelerators: highest, high or default.
      deterministic: ask accelerators for bit-exact repetition.
      checkpoint_seconds: least time between the checkpoints that serve only to resume.
    """

    batch: int = 0
    chunk: int = 256
    cpu_devices: int = 1
    precision: str = "highest"
    deterministic: bool = False
    checkpoint_seconds: float = 30.0

    def check(self) -> None:
        if self.batch < 0 or self.chunk < 1 or not 0 <= self.cpu_devices <= MOST_DEVICES:
            raise InputError(
                f"engine.batch must be 0 or more, engine.chunk 1 or more, engine.cpu_devices 0 to {MOST_DEVICES}"
            )
        if self.precision not in ("highest", "high", "default"):
            raise InputError(
                f"engine.precision is {self.precision!r}: {nearest(self.precision, ('highest', 'high', 'default'))}"
            )


@part
class Output:
    """Where results go. An empty `directory` means runs/<name of the config>, or $INTERP_JAX_RUNS/<name of the config>."""

    directory: str = ""


ENGINE_SECTIONS: dict[str, Any] = {"engine": Engine(), "output": Output()}


def compose(experiment: str, **overrides: Any) -> ConfigDict:
    """The ConfigDict of an experiment: the defaults of its `Config`, the engine's sections, and overrides.

    Args:
      experiment: importable module with `Config`, `experiment` and `report`.
      **overrides: {"section.key": value}, as in sweeps and on the command line.
    """
    sections = dataclasses.asdict(load_experiment(experiment).Config())
    engine = {name: dataclasses.asdict(default) for name, default in ENGINE_SECTIONS.items()}
    config = ConfigDict({"experiment": experiment, "on_nan": ON_NAN[0], **sections, **engine})
    return override(config, overrides)


def load_experiment(name: str) -> ModuleType:
    """The module of an experiment."""
    if not all(word.isidentifier() for word in name.split(".")):
        raise InputError(f"experiment {name!r} is not the name of a module")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(error.name or "?"):
            raise
        raise InputError(f"experiment {name!r} is not an importable module") from None
    if missing := [n for n in ("Config", "experiment", "report") if not hasattr(module, n)]:
        raise InputError(f"{name} is not an experiment: it has no {', '.join(missing)}")
    return module


def override(config: ConfigDict, values: Mapping[str, Any], where: str = "--config.") -> ConfigDict:
    """A copy of `config` with dotted keys set; keys must exist and types must agree (an int may stand for a float)."""
    config = config.copy_and_resolve_references()
    known = flat(config)
    for key, value in values.items():
        if key not in known:
            raise InputError(f"unknown key {where}{key}: {nearest(key, known)}")
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = _coerce(value, known[key], f"{where}{key}")
    return config


def flat(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{"section.key": value} of every leaf."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, Mapping | ConfigDict)
        leaves.update(flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return leaves


def parse_value(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def _coerce(value: Any, current: Any, name: str) -> Any:
    wanted = type(current)
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if wanted is tuple and isinstance(value, list):
        value = tuple(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is str and not isinstance(value, str):
        value = str(value)
    if type(value) is not wanted:
        raise InputError(f"{name} takes {_article(wanted)} such as {current!r}, got {value!r}")
    if wanted is int and not -(2**31) <= value < 2**31:
        raise InputError(f"{name} must fit into 32 bits, got {value}")
    if wanted is float and not abs(value) <= LARGEST:
        raise InputError(f"{name} must be finite in float32, got {value!r}")
    return value


def _article(kind: type) -> str:
    return {int: "an integer", float: "a number", bool: "True or False", str: "a text", tuple: "a tuple"}[kind]


def build(cls: type[T], values: Mapping[str, Any] | ConfigDict, where: str = "--config") -> T:
    """The part that a (section of a) config describes; keys and fields must be the same."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise InputError(f"unknown key {where}.{key}: {nearest(key, fields)}")
    if missing := sorted(fields.keys() - set(values)):
        raise InputError(f"{where} lacks {', '.join(missing)}")
    built = {}
    for name, field in fields.items():
        value, path = values[name], f"{where}.{name}"
        built[name] = (
            build(type(field.default), value, path) if is_part(field.default) else _coerce(value, field.default, path)
        )
    return cls(**built)


def checked(value: T) -> T:
    """A part after its `check()`, which also checks its sections; raises `InputError` for impossible values."""
    if hasattr(value, "check"):
        value.check()
    return value


def build_experiment(config: ConfigDict) -> Any:
    """The experiment's part, without the engine's sections."""
    engine = {"experiment", "on_nan", *ENGINE_SECTIONS}
    return checked(
        build(load_experiment(config.experiment).Config, {k: v for k, v in config.items() if k not in engine})
    )


def build_engine(config: ConfigDict) -> tuple[Engine, Output]:
    """The engine's sections; also checks `on_nan`."""
    if config.on_nan not in ON_NAN:
        raise InputError(f"--config.on_nan is {config.on_nan!r}: {nearest(config.on_nan, ON_NAN)}")
    return checked(build(Engine, config.engine, "--config.engine")), build(Output, config.output, "--config.output")


# ------------------------------------------------------------------------------------------- files


def load_config(reference: str) -> tuple[ConfigDict, ModuleType, str]:
    """The config that `path[:arg]` names, its module, and a short name for it."""
    path, _, arg = reference.partition(":")
    module = load_file(Path(path))
    if not hasattr(module, "get_config"):
        raise InputError(f"{path} has no get_config(arg)")
    with explain(Path(path)):
        config = module.get_config(arg)
    if not isinstance(config, ConfigDict):
        raise InputError(f"{path}: get_config returns a ConfigDict, as compose() makes one, got {config!r}")
    return config, module, Path(path).stem + (f"-{arg}" if arg else "")


def load_file(path: Path) -> ModuleType:
    """A config file as a module."""
    if not path.is_file():
        known = [f"configs/{p.name}" for p in CONFIGS.glob("*.py")]
        raise InputError(f"no config file {path}: {nearest(str(path), known)}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    with explain(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def explain(path: Path) -> Iterator[None]:
    """Turns what a config file's own code raises into one line that names the file, the line and the error."""
    try:
        yield
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).absolute() == path.absolute()
        ]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise InputError(f"{path}{line}: {type(error).__name__}: {error}") from error


def variant(arg: str, known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The overrides that a config's arg stands for; `known` maps each arg, "" included, to its overrides."""
    if arg not in known:
        raise InputError(f"unknown arg ':{arg}': {nearest(arg, [name for name in known if name])}")
    return known[arg]
