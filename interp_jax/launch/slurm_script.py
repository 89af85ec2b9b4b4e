"""The scripts that Slurm is given: a job array with one task per chunk, and the collector that follows it.

    task i of the array  ->  srun ./launch/worker SWEEP --shard i/n

A task is queued again when its node fails, when it is preempted, and when its time is over: Slurm sends SIGUSR1 some time
before the limit, the worker saves a checkpoint and ends with status 75. It then goes on from there with the same bytes.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from interp_jax.experiments.frozen import FrozenSweep

FOLDER = "slurm"  # of scripts and logs, in the sweep's directory
WAIT = 600  # seconds for a chunk that a worker holds whose machine may be dead: a file system's locks outlive it by a while
ROOT = Path(__file__).parents[2]


class Resources(NamedTuple):
    """What a task asks for.

    Attributes:
      partition, account, memory: as Slurm takes them; empty for the cluster's default.
      minutes: time limit of a task; 0 for the partition's.
      warning: seconds before the limit at which a task is told to save and end.
      cpus: cores of a process.
      gpus: of a process; what JAX finds there must be as many.
      nodes: over which one chunk is spread, with one process each; 1 for a sweep.
      at_once: most tasks that run at the same time; 0 for no limit.
      restarts: most times that a task is queued again after its time was over.
      options: further options of sbatch, such as --qos=high.
    """

    partition: str = ""
    account: str = ""
    memory: str = ""
    minutes: int = 0
    warning: int = 120
    cpus: int = 1
    gpus: int = 0
    nodes: int = 1
    at_once: int = 0
    restarts: int = 100
    options: tuple[str, ...] = ()


def array_script(sweep: FrozenSweep, n_tasks: int, tasks: Sequence[int], resources: Resources, python: str) -> str:
    """The script of a job array that runs shards `tasks` of `n_tasks` with the Python at `python` (empty: the launchers')."""
    limit = f"%{resources.at_once}" if resources.at_once else ""
    headers = [
        f"--job-name={sweep.directory.name}",
        f"--array={ranges(tasks)}{limit}",
        f"--output={sweep.directory / FOLDER}/%A_%a.log",
        "--open-mode=append",
        "--requeue",
        f"--signal=USR1@{resources.warning}",
        f"--nodes={resources.nodes}",
        f"--ntasks={resources.nodes}",
        f"--cpus-per-task={resources.cpus}",
        *([f"--gpus-per-task={resources.gpus}"] if resources.gpus else []),
        *common(resources),
    ]
    return "\n".join([*_head(headers, python), _start(sweep, n_tasks, resources), *_ending(resources), ""])


def collector_script(sweep: FrozenSweep, resources: Resources, python: str) -> str:
    """The script of the job that makes the report, to be started after the array however that ends."""
    headers = [
        f"--job-name={sweep.directory.name}-report",
        f"--output={sweep.directory / FOLDER}/%j-report.log",
        "--ntasks=1",
        *common(resources),
    ]
    command = shlex.join([f"{ROOT}/launch/collect", str(sweep.path)])
    return "\n".join([*_head(headers, python), f"JAX_PLATFORMS=cpu exec {command}", ""])


def common(resources: Resources) -> list[str]:
    """What every job of a sweep asks for."""
    named = {"partition": resources.partition, "account": resources.account, "mem": resources.memory}
    time = [f"--time={resources.minutes}"] if resources.minutes else []
    return [*(f"--{name}={value}" for name, value in named.items() if value), *time, *resources.options]


def ranges(indices: Sequence[int]) -> str:
    """Increasing indices as Slurm writes them: 0-3,7."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _head(headers: Sequence[str], python: str) -> list[str]:
    given = [f"export INTERP_JAX_PYTHON={shlex.quote(python)}"] if python else []
    return ["#!/bin/bash", *(f"#SBATCH {header}" for header in headers), *given]


def _start(sweep: FrozenSweep, n_tasks: int, resources: Resources) -> str:
    shard = f'--shard "$SLURM_ARRAY_TASK_ID/{n_tasks}"'
    devices = f"--devices {max(resources.gpus, 1)}" + (" --platform gpu" if resources.gpus else "")
    spread = " --distributed" if resources.nodes > 1 else ""
    worker = shlex.join([f"{ROOT}/launch/worker", str(sweep.path)])
    return f"srun --kill-on-bad-exit=1 {worker} {shard} --digest {sweep.digest} {devices}{spread} --wait {WAIT}"


def _ending(resources: Resources) -> list[str]:
    """138 is the status of a process that the signal met before it could be asked to save.

    A task is named by its array and index: the last one's own number is the array's, which would queue all of it again.
    """
    return [
        "status=$?",
        "task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        "case $status in 75 | 138)",
        f'  [ "${{SLURM_RESTART_COUNT:-0}}" -ge {resources.restarts} ] || scontrol requeue "$task" ;;',
        "esac",
        'exit "$status"',
    ]
