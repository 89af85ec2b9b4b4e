"""The worker: runs shard i of n of a frozen sweep. Every launch engine starts this command and only sets i and n.

    python -m interp_jax.experiments.worker runs/superposition/sweep.json --shard 0/1

Shard i of n is every n-th chunk from the i-th on; those of one wave go on in step, over one stream. Chunks that are finished,
or that another living worker holds, are passed over; so a shard may be started twice, at once, or again. A chunk that fails
is recorded, and the others go on; the command then ends with the error of the first. SIGTERM and SIGINT save checkpoints and
end it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from interp_jax.errors import InputError, nearest
from interp_jax.experiments.config import build_engine
from interp_jax.experiments.engine import prepare
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import Chunk, sweep_file
from interp_jax.experiments.plan import Plan, thaw
from interp_jax.experiments.processes import SECONDS, first, join
from interp_jax.experiments.waves import run_chunks


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
