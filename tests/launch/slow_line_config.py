"""Fits lines slowly, for tests of engines."""

from interp_jax.experiments.config import compose, variant


def get_config(arg=""):
    return compose("tests.launch.slow_line", **variant(arg, {"": {}}))


def sweep_eight():
    for seed in range(8):
        yield {"seed": seed}


def sweep_three():
    for seed in range(3):
        yield {"seed": seed}


def sweep_wild():
    for rate in (0.03, 3e38, 0.1):
        yield {"learning_rate": rate}
