"""Manifests for Kubernetes against the published schemas, and the commands for a TPU slice.

The Job is validated as it is. A JobSet is no part of Kubernetes' own schemas: all of it is read by the types that Kubeflow
makes of the JobSet API's published definition (v1alpha2), and the Job inside is validated besides.
"""

import json
import shlex

import pytest

from interp_jax.errors import InputError
from interp_jax.experiments.frozen import read_frozen
from interp_jax.launch import kubernetes, tpu
from tests.experiments.frozen_lines import freeze_lines

VERSION = "1.31"
POD = ["--image", "lab/interp_jax:1", "--claim", "runs"]


@pytest.fixture
def sweep(tmp_path):
    freeze_lines(tmp_path / "Two Rates", ["rates", "seeds"], **{"engine.chunk": 1})
    return read_frozen(tmp_path / "Two Rates")


def printed(capsys, main, *words):
    main([str(word) for word in words])
    return capsys.readouterr().out


def validate(manifest):
    validator = pytest.importorskip("kubernetes_validate", reason="of requirements-dev.txt")
    validator.validate(manifest, VERSION, strict=True)


def validate_jobset(manifest):
    """Types and required fields are checked as it is read; a field that the API does not have is not written again."""
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="of requirements-dev.txt")
    assert models.JobsetV1alpha2JobSet.from_dict(manifest).to_dict() == manifest


def test_an_indexed_job_has_a_pod_for_each_chunk(sweep, capsys):
    job = json.loads(printed(capsys, kubernetes.main, "sweep", sweep.path, *POD, "--at-once", 2, "--gpus", 1))
    validate(job)
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (6, 2)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    words = shlex.join([*container["command"], *container["args"]])
    assert "$(JOB_COMPLETION_INDEX)/6" in words and sweep.digest in words and "--platform gpu" in words
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert job["metadata"]["name"] == f"two-rates-{sweep.digest[:8]}"


def test_a_schema_violation_is_noticed(sweep, capsys):
    job = json.loads(printed(capsys, kubernetes.main, "sweep", sweep.path, *POD))
    job["spec"]["completion"] = job["spec"].pop("completions")
    validator = pytest.importorskip("kubernetes_validate", reason="of requirements-dev.txt")
    with pytest.raises(validator.ValidationError):
        validate(job)


def test_a_jobset_is_one_job_over_several_pods(sweep, capsys):
    made = json.loads(printed(capsys, kubernetes.main, "spread", sweep.path, *POD, "--processes", 4, "--tpus", 4))
    assert (made["apiVersion"], made["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    validate_jobset(made)
    (one,) = made["spec"]["replicatedJobs"]
    validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": made["metadata"], **one["template"]})
    words = one["template"]["spec"]["template"]["spec"]["containers"][0]["args"]
    name = made["metadata"]["name"]
    assert f"{name}-worker-0-0.{name}:8476" in words and "$(JOB_COMPLETION_INDEX)/4" in words


@pytest.mark.parametrize(
    "change", [{"failurePolicy": {"maxRestart": 6}}, {"network": {"enableDNSHostnames": "yes"}}, {"replicatedJob": []}]
)
def test_a_violation_of_the_jobset_api_is_noticed(sweep, capsys, change):
    made = json.loads(printed(capsys, kubernetes.main, "spread", sweep.path, *POD))
    made["spec"] |= change
    with pytest.raises((AssertionError, ValueError)):
        validate_jobset(made)


def test_bad_input(sweep, capsys):
    with pytest.raises(InputError, match="must be at least 1"):
        kubernetes.main(["spread", str(sweep.path), *POD, "--processes", "0"])
    with pytest.raises(InputError, match="run needs --sweep"):
        tpu.main(["run", "slice", "--zone", "z"])
    assert "kubectl apply" in printed(capsys, kubernetes.main)


def test_commands_for_a_slice(capsys, monkeypatch):
    create = ["create", "slice", "--zone", "z", "--type", "v5p-256", "--runtime", "r", "--dry-run"]
    assert "queued-resources create slice --node-id=slice --accelerator-type=v5p-256" in printed(
        capsys, tpu.main, *create
    )
    run = printed(capsys, tpu.main, "run", "slice", "--zone", "z", "--sweep", "/mnt/a b", "--dry-run")
    words = shlex.split(run)
    assert "--worker=all" in words
    (command,) = [word.partition("=")[2] for word in words if word.startswith("--command=")]
    assert shlex.split(command)[1:3] == ["./interp_jax/launch/worker", "/mnt/a b"] and "--distributed" in command
    assert len(printed(capsys, tpu.main, "copy", "slice", "--zone", "z", "--dry-run").splitlines()) == 3
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="gcloud is not on PATH"):
        tpu.main(["state", "slice", "--zone", "z"])
