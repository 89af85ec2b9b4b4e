"""Slurm's own commands, and what they say turned into one line where they refuse. Nothing here needs accounting."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from interp_jax.atomic_io import write_json, write_text
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.frozen import FrozenSweep
from interp_jax.launch.slurm_script import FOLDER

SECONDS = 60  # for an answer
ARRAY_SIZE = 1001  # Slurm's default MaxArraySize
ENDED = "Invalid job id specified"


class Submitted(NamedTuple):
    """An array that was submitted: Slurm's number for it and its collector, and which shards of how many it runs."""

    array: str
    collector: str
    digest: str
    n_tasks: int
    tasks: tuple[int, ...]


class Task(NamedTuple):
    """A task of an array that is queued or runs, and why it waits."""

    array: str
    index: int
    state: str
    reason: str


def slurm(*words: str, standard_input: str | None = None) -> str:
    """What a command of Slurm prints.

    Raises:
      InputError: it is not there, does not answer, or refuses.
    """
    if shutil.which(words[0]) is None:
        raise InputError(
            f"no Slurm here: {words[0]} is not on PATH (is this a login node, is its module loaded?); "
            "./launch/local runs the sweep on this machine"
        )
    try:
        done = subprocess.run(words, input=standard_input, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(f"Slurm's controller did not answer {words[0]} within {SECONDS} s") from None
    if done.returncode:
        raise InputError(f"{words[0]} refused: {' '.join(done.stderr.split()) or f'status {done.returncode}'}")
    return done.stdout


def check_partition(name: str) -> None:
    """Raise `InputError` for a partition that the cluster does not have."""
    known = {line.strip() for line in slurm("sinfo", "-h", "-o", "%R").splitlines()}
    if name and name not in known:
        raise InputError(f"no partition {name!r} in this cluster: {nearest(name, known)}")


def largest_array() -> int:
    """The cluster's MaxArraySize, or Slurm's default where there is no cluster."""
    if shutil.which("scontrol") is None:
        return ARRAY_SIZE
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", slurm("scontrol", "show", "config"))
    return int(found.group(1)) if found else ARRAY_SIZE


def submit_script(sweep: FrozenSweep, name: str, text: str, *options: str) -> str:
    """Keep a script in the sweep's directory, submit it, and return the job's number."""
    path = sweep.directory / FOLDER / f"{name}.sh"
    write_text(path, text)
    return slurm("sbatch", "--parsable", *options, str(path)).strip().partition(";")[0]


def submissions(sweep: FrozenSweep) -> list[Submitted]:
    """The arrays that were submitted for a sweep, oldest first."""
    path = jobs_file(sweep)
    if not path.exists():
        return []
    try:
        return [Submitted(**{**job, "tasks": tuple(job["tasks"])}) for job in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): cancel the sweep's jobs with scancel, and remove it") from None


def remember(sweep: FrozenSweep, job: Submitted) -> None:
    """Add an array to those that were submitted."""
    write_json(jobs_file(sweep), [one._asdict() for one in [*submissions(sweep), job]])


def jobs_file(sweep: FrozenSweep) -> Path:
    """Where a sweep's submissions are kept."""
    return sweep.directory / FOLDER / "jobs.json"


def queued(jobs: Sequence[Submitted]) -> list[Task]:
    """The tasks of these arrays that are queued or run."""
    tasks: list[Task] = []
    for job in jobs:
        try:
            lines = slurm("squeue", "-h", "-r", "-j", job.array, "-o", "%K|%T|%r").splitlines()
        except InputError as error:
            if ENDED in str(error):  # so long ago that Slurm has forgotten it
                continue
            raise
        for line in lines:
            index, state, reason = line.strip().split("|")
            tasks.append(Task(job.array, int(index), state, reason))
    return tasks
