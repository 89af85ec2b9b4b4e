"""A chunk by itself, run to its end."""

from interp_jax.experiments.config import Engine
from interp_jax.experiments.engine import readers
from interp_jax.experiments.in_step import alone
from interp_jax.experiments.loop import Job, run_chunk
from interp_jax.results.run_directory import ChunkDirectory


def run_alone(experiment, hypers, names, directory):
    """Run members of an experiment and return their chunk's directory."""
    place = ChunkDirectory(directory)
    with readers() as reader:
        job = Job("id", names, experiment, hypers, place, Engine(), "freeze", lambda step: None, reader)
        alone(run_chunk(job))
    return place
