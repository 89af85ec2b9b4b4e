"""One chunk run by several processes, on as many machines: what one of them decides for all, and what all of them see.

Members are spread over the devices of all processes. Each process runs the same program and holds on its host what is fetched;
the first one alone locks the chunk and writes. With one process, as usual, every function here does nothing.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from interp_jax.errors import InputError

SECONDS = 120  # to find the others
PAUSE = 0.5  # between two tries
ADDRESS = "JAX_COORDINATOR_ADDRESS"
FIRST_PORT, PORTS = 20_480, 4_096  # of which each job has one
NUMBER, GO = 4, b"g"  # bytes that a process says its number in, and what it is told when all are there


def join(coordinator: str = "", process: str = "", seconds: int = SECONDS) -> None:
    """Find the other processes of this job; before anything else is asked of JAX.

    Args:
      coordinator: "host:port" where the first process is reached; empty lets JAX find it as Slurm, Kubernetes, TPU or MPI say.
      process: "i/n"; empty likewise.
      seconds: after which the others are given up.

    Raises:
      InputError: nothing says who the others are, or they cannot be reached.
    """
    given: dict[str, Any] = {}
    if coordinator:
        given["coordinator_address"] = coordinator
    if process:
        i, _, n = process.partition("/")
        if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
            raise InputError(f"--process takes i/n with 0 <= i < n, such as 0/2; got {process!r}")
        given |= {"process_id": int(i), "num_processes": int(n)}
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # collectives of two programs must not meet each other
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the worker
    who = (
        Who(coordinator or os.environ.get(ADDRESS, ""), given["process_id"], given["num_processes"])
        if process
        else slurm()
    )
    if who and who.address and who.n > 1:
        gather(who.address, who.i, who.n, seconds)
    try:
        jax.distributed.initialize(**given, initialization_timeout=seconds)
    except (RuntimeError, ValueError) as error:
        where = coordinator or "where the cluster says"
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the processes of this job did not find each other: coordinator {where}, {reason}") from None


class Who(NamedTuple):
    """Where the first process is reached, "host:port"; which one this is; and how many there are."""

    address: str
    i: int
    n: int


def slurm() -> Who | None:
    """As Slurm says in a step of several tasks; None elsewhere. The port is not the one that JAX will take."""
    told = [os.environ.get(f"SLURM_{name}", "") for name in ("PROCID", "STEP_NUM_TASKS", "JOB_ID")]
    if not all(map(str.isdecimal, told)):
        return None
    i, n, job = map(int, told)
    if address := os.environ.get(ADDRESS, ""):
        return Who(address, i, n)
    listing = ["scontrol", "show", "hostnames", os.environ.get("SLURM_STEP_NODELIST", "")]
    try:
        hosts = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return None
    return Who(f"{hosts[0]}:{FIRST_PORT + job % PORTS}", i, n) if hosts else None


def gather(address: str, i: int, n: int, seconds: float) -> None:
    """Wait until all n processes are there, at "host:port" of the first. JAX, which waits too, aborts where one is missing.

    Raises:
      InputError: some did not come, or the first does not answer, within some seconds.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise InputError(f"--coordinator takes host:port, got {address!r}")
    reason = receive(int(port), n, seconds) if i == 0 else report_to(host, int(port), i, seconds)
    if reason:
        raise InputError(f"the processes of this job did not find each other: coordinator {address} {reason}")


def receive(port: int, n: int, seconds: float) -> str:
    """Wait for the other n - 1 processes and let them go; returns what is wrong, or nothing."""
    end, found = time.monotonic() + seconds, {}
    try:
        with socket.create_server(("", port), backlog=n) as server:
            while len(found) < n - 1 and (left := end - time.monotonic()) > 0:
                server.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    caller, _ = server.accept()
                    caller.settimeout(PAUSE)
                    if len(said := caller.recv(NUMBER)) == NUMBER:
                        found[int.from_bytes(said, "big")] = caller
    except OSError as error:
        return f"cannot be listened on ({error.strerror or error})"
    if len(found) < n - 1:
        missing = sorted(set(range(1, n)) - found.keys())
        return f"was not reached by {shown(missing)} of {n} within {seconds:g} s; are they up?"
    for caller in found.values():
        with caller:
            caller.sendall(GO)
    return ""


def shown(numbers: Sequence[int], most: int = 5) -> str:
    """Some processes by their numbers."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"process {', '.join(map(str, numbers[:most]))}{more}"


def report_to(host: str, port: int, i: int, seconds: float) -> str:
    """Tell the first process that this one is there, and wait until all are; returns what is wrong, or nothing."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(end - time.monotonic(), 0.1)) as first:
                first.sendall(i.to_bytes(NUMBER, "big"))
                first.settimeout(max(end - time.monotonic(), 0.1))
                if first.recv(1) == GO:
                    return ""
                reason = "it gave up"
        except OSError as error:
            reason = error.strerror or str(error)
        if time.monotonic() + PAUSE > end:
            return f"did not answer in {seconds:g} s ({reason}); is the first process up?"
        time.sleep(PAUSE)


def several() -> bool:
    """Whether there is more than this process."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def devices_for(n_members: int) -> list[jax.Device]:
    """Where members lie: no more devices than members, unless every process has to take part."""
    return jax.devices() if several() else jax.local_devices()[:n_members]


def fetch(tree: Any) -> Any:
    """Device arrays as arrays on the host of every process."""
    if not several():
        return jax.tree.map(np.asarray, tree)
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def decided(number: int) -> int:
    """The first process's number, in all of them."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number))) if several() else number


def meet(where: str) -> None:
    """Wait until all processes are at one place."""
    if several():
        multihost_utils.sync_global_devices(where)


def put(tree: Any, sharding: Any) -> Any:
    """Host arrays that all processes have, on the devices of all, without asking the others: in a thread, too."""
    if not several():
        return jax.device_put(tree, sharding)
    part = lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
    return jax.tree.map(lambda x: part(np.asarray(x)), tree)


class Wish(NamedTuple):
    """What processes agree on after a span: whether any was asked to stop, and whether the first wants a checkpoint."""

    stop: bool
    save: bool


def agreed(wish: Wish) -> Wish:
    """The wish of all processes together, the same in each."""
    if not several():
        return wish
    stop, save = np.asarray(multihost_utils.process_allgather(np.array(wish, np.int32))).reshape(-1, 2).T
    return Wish(bool(stop.any()), bool(save[0]))
