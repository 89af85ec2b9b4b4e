"""The command behind `./launch/plan`: freezes a sweep and says what running it will take, before anything runs.

    ./launch/plan --config configs/superposition.py:tiny --sweep plane

Arguments are those of ./launch/local. Chunks hold as many members as `engine.chunk` says, or as memory allows if that is less.
Any engine takes the frozen sweep up: ./launch/local with the same words, ./launch/worker, ./launch/slurm. With --no-probe
nothing is compiled: chunks are then as `engine.chunk` says.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console

from interp_jax.experiments.built import built
from interp_jax.experiments.config import build_engine, flat
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import Chunk
from interp_jax.experiments.job import freeze_job
from interp_jax.experiments.main import parse
from interp_jax.experiments.plan import Plan, groups
from interp_jax.experiments.sweep import Member
from interp_jax.launch.estimates import (
    Memory,
    Speed,
    measure_memory,
    measure_speed,
    most_at_once,
    n_compilations,
    padded,
    spread_over,
)
from interp_jax.results.tables import Table, to_text

NO_PROBE = "--no-probe"


class Estimate(NamedTuple):
    """What a group of a plan takes.

    Attributes:
      name: see `names_of`.
      chunks: members of each of its chunks.
      steps: of a run.
      compilations: programs that one worker compiles for it.
      memory, speed: None without a probe; `speed` is that of its largest chunk.
    """

    name: str
    chunks: tuple[int, ...]
    steps: int
    compilations: int
    memory: Memory | None = None
    speed: Speed | None = None

    @property
    def seconds(self) -> float:
        """Time of all its chunks, one after the other: steps in proportion to members, and compiling once."""
        if self.speed is None:
            return float("nan")
        share = sum(self.chunks) / max(self.chunks)
        return self.speed.compile_seconds + share * self.steps * self.speed.step_seconds


def estimates(plan: Plan, probing: bool) -> list[Estimate]:
    """What the groups of a plan's chunks take, in the sweep's order."""
    members = [plan.members[h] for chunk in plan.chunks for h in chunk.members]
    chunks_of: dict[object, list[list[Member]]] = {}
    for chunk in plan.chunks:
        ours = [plan.members[h] for h in chunk.members]
        chunks_of.setdefault(jax.tree.structure(ours[0].part), []).append(ours)
    found = groups(members)
    return [
        estimate(name, group, chunks_of[jax.tree.structure(group[0].part)], probing)
        for name, group in zip(names_of(found), found, strict=True)
    ]


def names_of(found: Sequence[Sequence[Member]]) -> list[str]:
    """What tells groups apart: the experiment, and what is one value in all of a group and another in another group."""
    constant = []
    for group in found:
        leaves = [flat(member.config) for member in group]
        constant.append({k: v for k, v in leaves[0].items() if all(one.get(k) == v for one in leaves)})
    keys = [k for k in constant[0] if len({repr(one.get(k)) for one in constant}) > 1] if constant else []
    names = [group[0].config.experiment.rpartition(".")[2] for group in found]
    return [
        " ".join([name, *(f"{k}={one[k]}" for k in keys if k in one and k != "experiment")])
        for name, one in zip(names, constant, strict=True)
    ]


def estimate(name: str, group: Sequence[Member], chunks: Sequence[Sequence[Member]], probing: bool) -> Estimate:
    """What one group takes."""
    engine, _ = build_engine(group[0].config)
    experiment = built(group[0].config.experiment, group[0].part)
    by_size = {padded(len(chunk), spread_over(experiment)): chunk for chunk in chunks}
    compilations = sum(n_compilations(experiment, chunk, engine) for chunk in by_size.values())
    memory = measure_memory(group) if probing else None
    speed = measure_speed(max(chunks, key=len), engine) if probing else None
    return Estimate(name, tuple(map(len, chunks)), group[0].part.steps, compilations, memory, speed)


def fits(group: Sequence[Member]) -> int:
    """Members of a group that this machine's devices hold together."""
    return measure_memory(group).fits(most_at_once(build_engine(group[0].config)[0]))


def to_table(found: Sequence[Estimate]) -> Table:
    """A row for each group."""
    columns = (
        "group",
        "runs",
        "chunks",
        "runs a chunk",
        "steps",
        "programs",
        "MB a run",
        "MB a device",
        "at once",
        "s",
    )
    return Table(columns, [row(one) for one in found])


def row(one: Estimate) -> tuple[str | int | float, ...]:
    """A group's cells; a device's memory is that of its largest chunk."""
    head = (one.name, sum(one.chunks), len(one.chunks), max(one.chunks), one.steps, one.compilations)
    if one.memory is None or one.speed is None:
        return (*head, "–", "–", "–", "–")
    largest = max(one.chunks)
    held = padded(largest, one.memory.devices) // min(largest, one.memory.devices)
    mega = 1e-6
    of_run = mega * (one.memory.state + one.memory.work)
    return (*head, of_run, mega * one.memory.bytes(held, one.speed.batch), one.speed.batch, one.seconds)


def say(plan: Plan, directory: Path, found: Sequence[Estimate], words: str) -> None:
    """Print the plan."""
    device = jax.local_devices()[0]
    n = sum(sum(one.chunks) for one in found)
    done = len(plan.members) - n
    before = f" ({done} more are finished)" if done else ""
    print(
        f"{n} runs in {len(found)} groups and {len(plan.chunks)} chunks{said_of_waves(plan.chunks)}{before} → {directory}"
    )
    print(f"devices: {len(jax.local_devices())} × {device.device_kind} ({device.platform})")
    if not found:
        return
    print(to_text(to_table(found)).rstrip())
    total = sum(one.seconds for one in found)
    about = f", about {spoken(total)} on this machine" if total == total else ""
    print(f"compilations: {sum(one.compilations for one in found)}{about}, without observations and checkpoints")
    print(f"run it:  ./launch/local {words}\n     or  ./launch/slurm submit {shlex.quote(str(directory))}")


def said_of_waves(chunks: Sequence[Chunk]) -> str:
    """What is to be said of chunks that read one stream."""
    waves = len({chunk.wave for chunk in chunks})
    return f" in {waves} wave{'s' if waves > 1 else ''}, each over one stream" if waves < len(chunks) else ""


def spoken(seconds: float) -> str:
    """A time as a person says it."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    probing = NO_PROBE not in arguments
    words = [word for word in arguments if word != NO_PROBE]
    options, overrides = parse(words)
    command, console = "./launch/local " + shlex.join(words), Console(stderr=True)
    cut = fits if probing else None
    plan, directory = freeze_job(
        options.config, overrides, options.sweep, options.rerun, command, console, cut_to_fit=cut
    )
    say(plan, directory, estimates(plan, probing), shlex.join(words))


if __name__ == "__main__":
    exit_cleanly(main)
