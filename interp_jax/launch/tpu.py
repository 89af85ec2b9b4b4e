"""The command behind `./launch/tpu`: a frozen sweep on a TPU slice, by Google's own gcloud.

    ./launch/tpu create NAME --zone ZONE --type v5p-256 --runtime v2-alpha-tpuv5    asks for a queued resource
    ./launch/tpu state  NAME --zone ZONE                                            whether it has been granted
    ./launch/tpu copy   NAME --zone ZONE                                            this checkout's HEAD onto every host
    ./launch/tpu run    NAME --zone ZONE --sweep /mnt/runs/x                        every chunk, over all hosts of the slice
    ./launch/tpu delete NAME --zone ZONE

Each prints its commands, and with --dry-run does nothing else. The sweep lies where all hosts see it under one path (Filestore,
or another file system with locks). A host starts as one process of one job, which finds the others by itself; members of a
chunk lie over all chips. `run` again after a host was lost, or the slice was taken away and granted again: it goes on.
"""

import argparse
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from interp_jax.errors import InputError
from interp_jax.experiments.exit import exit_cleanly

ROOT = Path(__file__).parents[2]
ARCHIVE = "/tmp/interp_jax.tar.gz"
VERBS = ("create", "state", "copy", "run", "delete")
NEEDED = {"create": ("type", "runtime"), "run": ("sweep",)}


def commands(options: argparse.Namespace) -> list[list[str]]:
    """The commands that a verb stands for, in order."""
    where = [f"--zone={options.zone}", *([f"--project={options.project}"] if options.project else [])]
    queued = ["gcloud", "compute", "tpus", "queued-resources"]
    machine = ["gcloud", "compute", "tpus", "tpu-vm"]
    everywhere = [*where, "--worker=all"]
    if options.verb == "create":
        kind = [
            f"--node-id={options.name}",
            f"--accelerator-type={options.type}",
            f"--runtime-version={options.runtime}",
        ]
        return [[*queued, "create", options.name, *kind, *where, *(["--spot"] if options.spot else [])]]
    if options.verb == "state":
        return [[*queued, "describe", options.name, *where, "--format=value(state.state)"]]
    if options.verb == "delete":
        return [[*queued, "delete", options.name, *where, "--force", "--quiet"]]
    if options.verb == "copy":
        unpack = f"mkdir -p interp_jax && tar -xzf {ARCHIVE} -C interp_jax"
        return [
            ["git", "-C", str(ROOT), "archive", "--format=tar.gz", f"--output={ARCHIVE}", "HEAD"],
            [*machine, "scp", ARCHIVE, f"{options.name}:{ARCHIVE}", *everywhere],
            [*machine, "ssh", options.name, *everywhere, f"--command={unpack}"],
        ]
    worker = shlex.join(["./interp_jax/launch/worker", options.sweep, "--distributed", "--platform", "tpu"])
    return [[*machine, "ssh", options.name, *everywhere, f"--command=INTERP_JAX_ACCELERATOR=tpu {worker}"]]


def run(words: Sequence[str]) -> None:
    """Run a command.

    Raises:
      InputError: it is not there, or fails; it has then said why.
    """
    if shutil.which(words[0]) is None:
        raise InputError(f"{words[0]} is not on PATH: install Google's SDK, or see the commands with --dry-run")
    if status := subprocess.run(words).returncode:
        raise InputError(f"{' '.join(words[:5])} … ended with status {status}")


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    if not arguments:
        print((__doc__ or "").partition("\n\n")[2])
        return
    parser = argparse.ArgumentParser(prog="./launch/tpu", description="A frozen sweep on a TPU slice.")
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("name", help="of the slice and its queued resource")
    parser.add_argument("--zone", required=True)
    parser.add_argument("--project", default="")
    parser.add_argument("--type", help="accelerator type, such as v5p-256")
    parser.add_argument("--runtime", help="runtime version that belongs to the type")
    parser.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    parser.add_argument("--sweep", help="the frozen sweep's path on the hosts")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and do nothing")
    options = parser.parse_args(arguments)
    if lacking := [f"--{name}" for name in NEEDED.get(options.verb, ()) if not getattr(options, name)]:
        raise InputError(f"./launch/tpu {options.verb} needs {' and '.join(lacking)}")
    for words in commands(options):
        print(shlex.join(words), flush=True)
        if not options.dry_run:
            run(words)


if __name__ == "__main__":
    exit_cleanly(main)
