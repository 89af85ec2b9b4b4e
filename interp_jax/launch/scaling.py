"""The command behind `./launch/scaling`: what populations are worth on this machine, and what the engine costs.

    ./launch/scaling population    member-steps a second by the size of a population, up to what fits or brings more; what fits
                                   (--factor 4: of 1, 4, 16, … up to --most, and of that)
    ./launch/scaling processes     the same runs by a process each, as many at once as cores, and by one worker
    ./launch/scaling devices       one to eight virtual CPU devices, the same members on each; collectives of the program
    ./launch/scaling chunks        the engine's seconds for a chunk, beside its steps and what compiles
    ./launch/scaling checkpoints   seconds and bytes of a checkpoint of 1 to 4,096 members

With --subject superposition (the default), transformer or dictionary; --quick measures less. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from interp_jax.errors import InputError
from interp_jax.experiments.config import build_engine
from interp_jax.experiments.engine import prepare
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.launch import overheads, throughput
from interp_jax.launch.throughput import SUBJECTS, Rate
from interp_jax.results.tables import Table, to_text

DEVICES = (1, 2, 4, 8)
EACH = 4  # members on each device


class Asked(NamedTuple):
    """What is to be measured: of which runs, up to how many of them, whether little will do; and how populations grow."""

    subject: str
    most: int
    quick: bool
    factor: int = 0


def population(asked: Asked) -> list[dict[str, Any]]:
    """See the module."""
    one = throughput.subject(asked.subject)
    fit = throughput.fitting(one)
    rates = throughput.sizes(one, min(fit, 16 if asked.quick else asked.most), asked.factor)
    return [of_rate(rate) | {"fit": fit} for rate in rates]


def of_rate(one: Rate) -> dict[str, Any]:
    """A row."""
    return {
        "members": one.members,
        "at once": one.batch,
        "member-steps/s": one.member_steps,
        "ms a step": 1e3 * one.step,
        "compile s": one.compile,
        "collectives": one.collectives,
    }


def processes(asked: Asked) -> list[dict[str, Any]]:
    """See the module."""
    found = overheads.ways(asked.subject, 50 if asked.quick else 2_000)
    total = found.runs * found.steps
    ways = {"a process each": found.apart, "one population": found.together}
    return [{"way": way, "runs": found.runs, "s": s, "member-steps/s": total / s} for way, s in ways.items()]


def devices(asked: Asked) -> list[dict[str, Any]]:
    """Each number of devices in a process of its own, since they are made when JAX starts."""
    rows = []
    for n in DEVICES[:2] if asked.quick else DEVICES:
        flags = f"--xla_force_host_platform_device_count={n} --xla_cpu_multi_thread_eigen=false"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        command = [sys.executable, "-m", "interp_jax.launch", "scaling", "one", "--subject", asked.subject]
        done = subprocess.run([*command, "--most", str(n * EACH)], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{n} devices: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        rows += [{"devices": n, **row} for row in json.loads(done.stdout.splitlines()[-1])["one"]]
    return rows


def one(asked: Asked) -> list[dict[str, Any]]:
    """A population of `most` members, one at a time on each device."""
    return [of_rate(throughput.rate(throughput.subject(asked.subject), asked.most, batch=1))]


def chunks(asked: Asked) -> list[dict[str, Any]]:
    """See the module."""
    found = overheads.chunks(asked.subject, 3 if asked.quick else 20)
    return [{"chunks": found.chunks, "s a chunk": found.seconds}]


def checkpoints(asked: Asked) -> list[dict[str, Any]]:
    """See the module."""
    sizes = [4**i for i in range(7) if 4**i <= (16 if asked.quick else asked.most)]
    found = [overheads.saved(asked.subject, n) for n in sizes]
    return [{"members": s.members, "write s": s.write, "read s": s.read, "MB": s.bytes / 1e6} for s in found]


MEASURES: dict[str, Callable[[Asked], list[dict[str, Any]]]] = {
    "population": population,
    "processes": processes,
    "devices": devices,
    "chunks": chunks,
    "checkpoints": checkpoints,
    "one": one,
}


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    if not arguments:
        print((__doc__ or "").partition("\n\n")[2])
        return
    parser = argparse.ArgumentParser(
        prog="./launch/scaling", description="What populations are worth on this machine."
    )
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--subject", choices=SUBJECTS, default="superposition")
    parser.add_argument("--most", type=int, default=4_096, help="members of the largest population")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--factor", type=int, default=0, help="of populations: as many times as many each time, up to MOST in any case"
    )
    options = parser.parse_args(arguments)
    if options.most < 1:
        raise InputError(f"--most must be at least 1, got {options.most}")
    if options.factor and options.factor < 2:
        raise InputError(
            f"--factor must be at least 2, or 0 to stop where more members bring no more, got {options.factor}"
        )
    asked = Asked(options.subject, options.most, options.quick, options.factor)
    prepare(build_engine(throughput.config_of(asked.subject))[0])
    rows = MEASURES[options.measure](asked)
    print(to_text(Table(list(rows[0]), [list(row.values()) for row in rows])))
    print(json.dumps({options.measure: rows, "subject": asked.subject}))


if __name__ == "__main__":
    exit_cleanly(main)
