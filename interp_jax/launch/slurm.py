"""The command behind `./launch/slurm`: a frozen sweep on a Slurm cluster.

    ./launch/plan --config configs/superposition.py        freezes the sweep and says where
    ./launch/slurm submit runs/superposition --at-once 8   a job array, a task per chunk, and the collector after it
    ./launch/slurm status runs/superposition               from the sweep's directory and the queue
    ./launch/slurm collect runs/superposition              the report now, of what is finished
    ./launch/slurm cancel runs/superposition

Submitting again runs what is missing: neither what is finished nor what is still queued. Nothing is pickled, and there is no
scheduler here: a task is the worker's command line, and what is done is what lies in the sweep's directory.
"""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from interp_jax.errors import InputError
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import FrozenSweep, read_frozen
from interp_jax.launch import status
from interp_jax.launch.slurm_commands import (
    Submitted,
    check_partition,
    largest_array,
    queued,
    remember,
    slurm,
    submissions,
    submit_script,
)
from interp_jax.launch.slurm_script import Resources, array_script, collector_script, ranges


def submit(sweep: FrozenSweep, resources: Resources, dry_run: bool) -> None:
    """Submit the shards that are neither finished nor queued, and the collector after them; or print the scripts."""
    if not dry_run:
        check_partition(resources.partition)
    python = os.environ.get("INTERP_JAX_PYTHON", "")
    earlier = [] if dry_run else [job for job in submissions(sweep) if job.digest == sweep.digest]
    waiting = queued(earlier)
    n_tasks = earlier[-1].n_tasks if waiting else min(len(sweep.chunks), largest_array())
    open_shards = sorted({index % n_tasks for index, _ in sweep.open_chunks()})
    tasks = sorted(set(open_shards) - {task.index for task in waiting})
    if not open_shards:
        print(f"all is finished; the report: ./launch/collect {shlex.quote(str(sweep.path))}")
        return
    if not tasks:
        print(f"all that is missing is queued already: ./launch/slurm status {shlex.quote(str(sweep.path))}")
        return
    array, collector = (
        array_script(sweep, n_tasks, tasks, resources, python),
        collector_script(sweep, resources, python),
    )
    if dry_run:
        print(f"{array}\n# after it, however it ends:\n{collector}", end="")
        return
    number = submit_script(sweep, "array", array)
    report = submit_script(sweep, "report", collector, f"--dependency=afterany:{number}")
    remember(sweep, Submitted(number, report, sweep.digest, n_tasks, tuple(tasks)))
    print(f"job {number}: {len(tasks)} of {n_tasks} tasks ({ranges(tasks)}); job {report} makes the report after it")


def show(sweep: FrozenSweep) -> None:
    """The sweep's progress, and what Slurm has queued of it."""
    console = Console()
    console.print(status.view(sweep))
    for task in queued(submissions(sweep)):
        why = f" ({task.reason})" if task.reason not in ("None", "") else ""
        console.print(f"job {task.array}, task {task.index}: {task.state.lower()}{why}", highlight=False)


def cancel(sweep: FrozenSweep) -> None:
    """End the sweep's jobs; workers save a checkpoint first."""
    jobs = submissions(sweep)
    active = {task.array for task in queued(jobs)}
    numbers = [number for job in jobs if job.array in active for number in (job.array, job.collector)]
    if numbers:
        slurm("scancel", *numbers)
    print(f"cancelled: {', '.join(numbers) or 'nothing was queued'}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./launch/slurm", description="A frozen sweep on a Slurm cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("submit", help="queue what is missing of a sweep")
    for verb, about in (("status", "how far it is"), ("collect", "its report now"), ("cancel", "end its jobs")):
        verbs.add_parser(verb, help=about).add_argument("sweep", type=Path)
    one.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    one.add_argument("--dry-run", action="store_true", help="print the scripts and submit nothing")
    one.add_argument("--at-once", type=int, default=0, help="most tasks that run at the same time")
    one.add_argument("--partition", default="")
    one.add_argument("--account", default="")
    one.add_argument("--memory", default="", help="of a node, such as 16G")
    one.add_argument("--minutes", type=int, default=0, help="time limit of a task, after which it is queued again")
    one.add_argument("--warning", type=int, default=120, help="seconds before the limit at which a task is to save")
    one.add_argument("--cpus", type=int, default=1, help="cores of a process")
    one.add_argument("--gpus", type=int, default=0, help="GPUs of a process")
    one.add_argument("--nodes", type=int, default=1, help="nodes over which each chunk is spread")
    one.add_argument("--option", action="append", default=[], metavar="--NAME=VALUE", help="any other of sbatch")
    return parser.parse_args(arguments)


def resources_of(options: argparse.Namespace) -> Resources:
    """What the command line asks for.

    Raises:
      InputError: an impossible number.
    """
    for name, least in (("at_once", 0), ("minutes", 0), ("warning", 1), ("cpus", 1), ("gpus", 0), ("nodes", 1)):
        if getattr(options, name) < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}")
    given = {name: getattr(options, name) for name in Resources._fields if hasattr(options, name)}
    return Resources(**given, options=tuple(options.option))


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    if not arguments:
        print((__doc__ or "").partition("\n\n")[2])
        return
    options = parse(arguments)
    sweep = read_frozen(options.sweep)
    if options.verb == "submit":
        submit(sweep, resources_of(options), options.dry_run)
    elif options.verb == "status":
        show(sweep)
    elif options.verb == "cancel":
        cancel(sweep)
    else:
        from interp_jax.experiments.collector import main as collect

        collect([str(sweep.path)])


if __name__ == "__main__":
    exit_cleanly(main)
