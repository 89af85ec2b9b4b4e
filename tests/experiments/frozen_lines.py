"""Sweeps of lines that are frozen and not run, for tests of the worker and the engines that start it."""

import json
import os
from pathlib import Path

from rich.console import Console

from interp_jax.experiments.job import freeze_job

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).parent / "line_config.py")


def freeze_lines(directory, sweeps=("none",), config=CONFIG, **overrides):
    """Freeze a sweep of lines in a directory; returns its path and its plan."""
    values = {"output.directory": str(directory), **{k: str(v) for k, v in overrides.items()}}
    return freeze_job(config, values, sweeps, False, "./launch/local …", Console(file=open(os.devnull, "w")))


def chunks(directory):
    """{chunk id: manifest} of what is finished."""
    return {p.parent.name: json.loads(p.read_text()) for p in Path(directory).glob("chunks/*/manifest.json")}


def environment(devices=1):
    """Of a process that runs lines."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
