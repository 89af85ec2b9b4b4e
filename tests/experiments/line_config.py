"""Fits lines, for tests."""

from interp_jax.experiments.config import compose, variant


def get_config(arg=""):
    return compose("tests.experiments.line", **variant(arg, {"": {}, "short": {"steps": 8}}))


def sweep_rates():
    for rate in (0.03, 0.1, 0.3):
        yield {"learning_rate": rate}


def sweep_seeds():
    for seed in range(2):
        yield {"seed": seed}


def sweep_widths():
    for width in (2, 3):
        yield {"model.width": width}


def sweep_wrong():
    yield {"model.widht": 3}


def sweep_around(config):
    for change in (-1, 1):
        yield {"seed": config.seed + change}


def sweep_wild():
    for rate in (0.03, 3e38, 0.1):
        yield {"learning_rate": rate}
