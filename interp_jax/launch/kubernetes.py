"""The command behind `./launch/kubernetes`: manifests for a frozen sweep, to be handed to kubectl. It starts nothing itself.

    ./launch/kubernetes sweep SWEEP --image IMAGE --claim CLAIM                  an indexed Job with a pod for each chunk
    ./launch/kubernetes spread SWEEP --image IMAGE --claim CLAIM --processes 4   a JobSet: every chunk over four pods

    … | kubectl apply -f -

Manifests are printed as JSON, which kubectl reads as well as YAML. The image holds this repository at /interp_jax and a Python
with its requirements; the claim is mounted at /runs and holds the sweep's directory under its own name. A pod that fails is
started again and goes on; one that ends with bad input (status 2) fails for good.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interp_jax.errors import InputError
from interp_jax.experiments.exit import exit_cleanly
from interp_jax.experiments.frozen import FrozenSweep, read_frozen

MOUNT = "/runs"
PORT = 8476  # of the first process of a JobSet
BAD_INPUT = 2  # the worker's status, which no other try will change
GRACE = 120  # seconds that a pod has to save a checkpoint


class Pod(NamedTuple):
    """What a pod is and asks for: image, claim, cores, memory, and how many of a kind of accelerator."""

    image: str
    claim: str
    cpus: int = 1
    memory: str = "4Gi"
    gpus: int = 0
    tpus: int = 0


def sweep_manifest(sweep: FrozenSweep, pod: Pod, at_once: int) -> dict[str, Any]:
    """An indexed Job whose pod i runs shard i of as many as there are chunks."""
    n = len(sweep.chunks)
    words = ["--shard", f"$(JOB_COMPLETION_INDEX)/{n}", "--wait", "600"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name_of(sweep)},
        "spec": {
            "completions": n,
            "parallelism": min(at_once or n, n),
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 6,
            "podFailurePolicy": {"rules": failure_rules("FailIndex")},
            "template": pod_template(sweep, pod, words),
        },
    }


def spread_manifest(sweep: FrozenSweep, pod: Pod, processes: int) -> dict[str, Any]:
    """A JobSet of one Job, whose pods are the processes of one job that runs every chunk in turn."""
    name = name_of(sweep)
    words = ["--coordinator", f"{name}-worker-0-0.{name}:{PORT}", "--process", f"$(JOB_COMPLETION_INDEX)/{processes}"]
    job = {
        "completions": processes,
        "parallelism": processes,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one process that ends takes the others with it: the set is started again as a whole
        "podFailurePolicy": {"rules": failure_rules("FailJob")},
        "template": pod_template(sweep, pod, words),
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": {
            "network": {"enableDNSHostnames": True},
            "failurePolicy": {"maxRestarts": 6},
            "replicatedJobs": [{"name": "worker", "replicas": 1, "template": {"spec": job}}],
        },
    }


def pod_template(sweep: FrozenSweep, pod: Pod, words: Sequence[str]) -> dict[str, Any]:
    """A pod with one container: the worker."""
    accelerators = {"nvidia.com/gpu": pod.gpus, "google.com/tpu": pod.tpus}
    asked = {name: str(n) for name, n in accelerators.items() if n}
    limits = {"cpu": str(pod.cpus), "memory": pod.memory, **asked}
    platform = ["--platform", "gpu"] if pod.gpus else ["--platform", "tpu"] if pod.tpus else []
    devices = ["--devices", str(max(pod.gpus, pod.tpus, 1)), *platform]
    path = f"{MOUNT}/{sweep.directory.name}/{sweep.path.name}"
    container = {
        "name": "worker",
        "image": pod.image,
        "command": ["/interp_jax/launch/worker", path],
        "args": ["--digest", sweep.digest, *devices, *words],
        "env": [{"name": "INTERP_JAX_CORES", "value": str(pod.cpus)}],
        "resources": {"requests": limits, "limits": limits},
        "volumeMounts": [{"name": "runs", "mountPath": MOUNT}],
    }
    volume = {"name": "runs", "persistentVolumeClaim": {"claimName": pod.claim}}
    return {
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE,
            "containers": [container],
            "volumes": [volume],
        }
    }


def failure_rules(action: str) -> list[dict[str, Any]]:
    """Bad input fails for good; a pod that is moved to another node does not count as a failure."""
    bad = {"containerName": "worker", "operator": "In", "values": [BAD_INPUT]}
    moved = {"type": "DisruptionTarget", "status": "True"}
    return [{"action": action, "onExitCodes": bad}, {"action": "Ignore", "onPodConditions": [moved]}]


def name_of(sweep: FrozenSweep) -> str:
    """The sweep's directory as Kubernetes names things: lower case, digits and hyphens, with the digest to be its own."""
    plain = re.sub(r"[^a-z0-9]+", "-", sweep.directory.name.lower()).strip("-")[:30].rstrip("-")
    return f"{plain or 'sweep'}-{sweep.digest[:8]}" if plain[:1].isalpha() else f"sweep-{sweep.digest[:8]}"


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    if not arguments:
        print((__doc__ or "").partition("\n\n")[2])
        return
    parser = argparse.ArgumentParser(prog="./launch/kubernetes", description="Print manifests for a frozen sweep.")
    parser.add_argument("kind", choices=("sweep", "spread"))
    parser.add_argument("sweep", type=Path, help="a sweep.json, or the directory that holds it")
    parser.add_argument("--image", required=True)
    parser.add_argument("--claim", required=True, help="a persistent volume claim that all pods can write")
    parser.add_argument("--at-once", type=int, default=0, help="most pods of a sweep at the same time")
    parser.add_argument("--processes", type=int, default=2, help="pods over which a chunk is spread")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", default="4Gi")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--tpus", type=int, default=0, help="chips of a pod")
    options = parser.parse_args(arguments)
    sweep = read_frozen(options.sweep)
    pod = Pod(options.image, options.claim, options.cpus, options.memory, options.gpus, options.tpus)
    if min(pod.cpus, options.processes) < 1 or min(pod.gpus, pod.tpus, options.at_once) < 0:
        raise InputError("--cpus and --processes must be at least 1; --gpus, --tpus and --at-once 0 or more")
    if not sweep.chunks:
        raise InputError(f"all runs of {sweep.path} were finished when it was frozen: there is nothing to start")
    spread = options.kind == "spread"
    made = spread_manifest(sweep, pod, options.processes) if spread else sweep_manifest(sweep, pod, options.at_once)
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    exit_cleanly(main)
