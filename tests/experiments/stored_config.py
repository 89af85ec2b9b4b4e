"""Small dictionaries, for tests."""

from interp_jax.experiments.config import compose


def get_config(arg=""):
    return compose("tests.experiments.stored")


def sweep_k():
    for k in (2, 4):
        yield {"dictionary.k": k}
