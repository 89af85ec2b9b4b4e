"""The worker: runs shard i of n of a frozen sweep. Every launch engine starts this command and only sets i and n.

    python -m interp_jax.experiments.worker runs/superposition/sweep.json --shard 0/1

Shard i of n is every n-th chunk from the i-th on; those of one wave go on in step, over one stream. Chunks that are finished,
or that another living worker holds, are passed over; so a shard may be started twice, at once, or again. A chunk that fails
is recorded, and the others go on; the command then ends with the error of the first. SIGTERM and SIGINT save checkpoints and
end it.
"""

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import rich.progress
from rich.console import Console

from interp_jax import parts
from interp_jax.atomic_io import write_json
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.built import built
from interp_jax.experiments.compilation_cache import counted, described
from interp_jax.experiments.config import build_engine
from interp_jax.experiments.engine import Reader, prepare, readers
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.failures import one_line, record_failure
from interp_jax.experiments.frozen import Chunk, is_done, sweep_file
from interp_jax.experiments.in_step import Steps, alone, during, in_step
from interp_jax.experiments.loop import Job, run_chunk
from interp_jax.experiments.plan import Plan, thaw, total_steps
from interp_jax.experiments.processes import SECONDS, decided, first, join
from interp_jax.results.manifest import manifest
from interp_jax.results.run_directory import ChunkDirectory, chunk_directory
from interp_jax.train.run import ALIVE

SAME_ERRORS = 3  # in a row, after which the next chunk would end like that too
PAUSE = 1.0  # seconds between two looks at what others hold
HELD, DONE = "another worker has it", "was finished"


def run_chunks(plan: Plan, chunks: Sequence[Chunk], directory: Path, console: Console, wait: float = 0.0) -> None:
    """Run chunks of a plan, wave after wave; those that others hold are waited for in the end, for `wait` seconds.

    Raises:
      Exception: what the first chunk that failed raised, when all that could run has.
    """
    if not chunks:
        return
    prepare(build_engine(plan.members[chunks[0].members[0]].config)[0])
    errors: list[Exception] = []
    held: list[Chunk] = []
    with progress_bar(console) as bar, contextlib.suppress(Hopeless):
        steps = [total_steps(plan, chunk) for chunk in chunks]
        bars = [bar.add_task(label(i, chunks), total=n, visible=i == 0) for i, n in enumerate(steps)]

        def begun(i: int, reader: Reader) -> Steps:
            bar.update(bars[i], visible=True)
            bar.start_task(bars[i])
            progress = lambda step: bar.update(bars[i], completed=step)
            return (yield from run_unless_held(plan, chunks[i], directory, progress, reader))

        for wave in waves(chunks):

            def ended(j: int, state: str, wave: Sequence[int] = wave) -> None:
                i = wave[j]
                held.extend([chunks[i]] if state == HELD else [])
                words = f"{bar.tasks[bars[i]].description} · {state}" if state else None
                bar.update(bars[i], completed=steps[i], description=words)

            def failed(_: int, error: Exception) -> None:
                errors.append(error)
                if [one_line(e) for e in errors[-SAME_ERRORS:]] == [one_line(error)] * SAME_ERRORS:
                    raise Hopeless

            with readers() as reader:
                in_step([begun(i, reader) for i in wave], ended, failed)
    if errors:
        say_failed(errors, len(chunks))
        raise errors[0]
    wait_for_held(plan, held, directory, wait)


class Hopeless(Exception):
    """The next chunk would end like those before it."""


def waves(chunks: Sequence[Chunk]) -> list[list[int]]:
    """Indices of chunks that go on in step, in order of the first of them."""
    found: dict[int, list[int]] = {}
    for i, chunk in enumerate(chunks):
        found.setdefault(chunk.wave, []).append(i)
    return list(found.values())


def run_unless_held(
    plan: Plan, chunk: Chunk, directory: Path, progress: Callable[[int], None], reader: Reader
) -> Steps:
    """Run a chunk and return "", or what is the matter with it (`HELD`, `DONE`). Where it fails, that is kept beside it."""
    place = chunk_directory(directory, chunk.id)
    with place.lock() if first() else contextlib.nullcontext(True) as held:
        state = (HELD, DONE, "")[decided(0 if not held else 1 if is_done(plan.redo, place) else 2)]
        if state:
            return state
        try:
            yield from run_one(plan, chunk, place, progress, reader)
        except Exception as error:
            if first():
                record_failure(place, chunk.members, error)
            raise
    return ""


def wait_for_held(plan: Plan, chunks: Sequence[Chunk], directory: Path, seconds: float) -> None:
    """Run the chunks that others hold if they let go of them unfinished within some time: a machine may have died."""

    def still_held(chunk: Chunk) -> bool:
        with readers() as reader:
            return alone(run_unless_held(plan, chunk, directory, lambda step: None, reader)) == HELD

    end = time.monotonic() + seconds
    left = list(chunks)
    while left and decided(time.monotonic() < end):
        time.sleep(PAUSE)
        left = [chunk for chunk in left if still_held(chunk)]
    for chunk in left:
        print(f"chunk {chunk.id}: another worker has it, and goes on with it", file=sys.stderr)


def say_failed(errors: Sequence[Exception], n_chunks: int) -> None:
    """What failed, where it was more than what is raised."""
    if len(errors) > 1:
        print(f"{len(errors)} of {n_chunks} chunks failed:", file=sys.stderr)
        for text, n in Counter(map(one_line, errors)).items():
            print(f"  {n} × {text}", file=sys.stderr)


def run_one(
    plan: Plan, chunk: Chunk, directory: ChunkDirectory, progress: Callable[[int], None], reader: Reader
) -> Generator[int, None, None]:
    """Run a chunk and write its manifest, which makes it finished."""
    members = [plan.members[h] for h in chunk.members]
    config = members[0].config
    engine, _ = build_engine(config)
    experiment = built(config.experiment, members[0].part)
    if first():
        if directory.manifest.exists():
            directory.set_aside()
        directory.failure.unlink(missing_ok=True)
    hypers = parts.stack([m.part for m in members])
    job = Job(chunk.id, chunk.members, experiment, hypers, directory, engine, config.on_nan, progress, reader)
    effort = Effort(Counter(), Counter())
    outcome = yield from during(effort.spent, run_chunk(job))
    if not first():
        return
    seconds = {"total": effort.seconds["total"], "compile": outcome.compile_seconds}
    content = manifest(config.to_dict(), chunk.id, seconds)
    content |= {
        "members": chunk.members,
        "batch": outcome.batch,
        "processes": jax.process_count(),
        "diverged_at": outcome.diverged_at.tolist(),
    }
    write_json(directory.manifest, {**content, "compilation_cache": described(effort.cache), "redo": plan.redo})
    directory.forget_old()
    if n_bad := int((outcome.diverged_at != ALIVE).sum()):
        earliest = int(outcome.diverged_at[outcome.diverged_at != ALIVE].min())
        print(
            f"{n_bad} of {len(members)} runs became non-finite, the first at step {earliest}: kept as they were before",
            file=sys.stderr,
        )


class Effort(NamedTuple):
    """What a chunk takes while it is its turn: hits and misses of the compilation cache, and seconds ("total")."""

    cache: Counter[str]
    seconds: Counter[str]

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Counts what the block takes."""
        started = time.monotonic()
        with counted(self.cache):
            yield
        self.seconds["total"] += time.monotonic() - started


def label(index: int, chunks: Sequence[Chunk]) -> str:
    """What the progress bar says of a chunk."""
    n = len(chunks[index].members)
    return f"chunk {index + 1} of {len(chunks)} · {n} run{'s' if n > 1 else ''}"


def progress_bar(console: Console) -> rich.progress.Progress:
    """One line per chunk: steps done, rate and the time that is left."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("steps ·"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("· left"),
        rich.progress.TimeRemainingColumn(),
    )
    return rich.progress.Progress(*columns, console=console)


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise InputError(f"--shard takes i/n with 0 <= i < n, such as 0/4; got {text!r}")
    return int(i), int(n)


def only(plan: Plan, ids: Sequence[str]) -> list[Chunk]:
    """The chunks of a plan with these ids."""
    known = {chunk.id: chunk for chunk in plan.chunks}
    for name in ids:
        if name not in known:
            raise InputError(f"--only {name}: no such chunk in the sweep; {nearest(name, known)}")
    return [known[name] for name in ids]


def check_devices(n: int, platform: str) -> None:
    """Refuse to compute with less than was asked for: a job that falls back to a CPU would go on unnoticed.

    Args:
      n: least number of devices of this process; 0 asks for none.
      platform: cpu, gpu or tpu; empty takes any.
    """
    found = jax.local_devices()
    if platform and found[0].platform != platform:
        raise InputError(
            f"--platform {platform}: JAX found {found[0].platform} devices here (jax[{platform}], drivers?)"
        )
    if len(found) < n:
        raise InputError(f"--devices {n}: fewer are here, {len(found)} of kind {found[0].device_kind}")


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="worker", description="Run one shard of a frozen sweep.")
    parser.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    parser.add_argument("--shard", default="0/1", help="i/n: which of how many shards")
    parser.add_argument("--only", nargs="+", metavar="CHUNK", help="these chunks and no others")
    parser.add_argument("--digest", help="of the frozen sweep: another one in its place is refused")
    parser.add_argument("--devices", type=int, default=0, help="least number of devices that this process must have")
    parser.add_argument("--platform", default="", help="what they must be: cpu, gpu or tpu")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for chunks that other workers hold")
    parser.add_argument(
        "--distributed", action="store_true", help="this is one of several processes that run each chunk"
    )
    parser.add_argument("--coordinator", default="", help="host:port of the first of them, where nothing else says so")
    parser.add_argument("--process", default="", help="i/n: which of how many, likewise")
    parser.add_argument("--patience", type=int, default=SECONDS, help="seconds in which they must find each other")
    options = parser.parse_args(arguments)
    shard, n_shards = parse_shard(options.shard)
    path = sweep_file(options.sweep)
    plan = thaw(path)
    if options.digest and options.digest != plan.digest:
        raise InputError(f"{path} was frozen again since this job was submitted: submit it again")
    chunks = plan.chunks[shard::n_shards] if options.only is None else only(plan, options.only)
    if not chunks:
        print(f"shard {options.shard}: nothing to do, the sweep has {len(plan.chunks)} chunks", file=sys.stderr)
        return
    prepare(build_engine(plan.members[chunks[0].members[0]].config)[0])
    if options.distributed or options.coordinator or options.process:
        join(options.coordinator, options.process, options.patience)
    check_devices(options.devices, options.platform)
    run_chunks(plan, chunks, path.parent, Console(stderr=True, quiet=not first()), options.wait)


if __name__ == "__main__":
    exit_cleanly(main)
