"""Adds up a stream, for tests."""

from interp_jax.experiments.config import compose


def get_config(arg=""):
    return compose("tests.experiments.tally")


def sweep_widths():
    for width in (1, 2, 3):
        for seed in range(2):
            yield {"width": width, "seed": seed}


def sweep_streams():
    for stream_seed in range(2):
        yield {"stream_seed": stream_seed}


def sweep_uneven():
    for width, seed in ((1, 0), (2, 0), (2, 1)):
        yield {"width": width, "seed": seed}
