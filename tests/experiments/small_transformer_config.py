"""A transformer over all devices, for tests."""

from interp_jax.experiments.config import compose, variant


def get_config(arg=""):
    return compose("tests.experiments.small_transformer", **variant(arg, {"": {}}))


def sweep_seeds():
    for seed in range(2):
        yield {"seed": seed}
