"""Small dictionaries, for tests."""

from interp_jax.experiments.config import compose


def get_config(arg=""):
    return compose("tests.experiments.stored")


def sweep_revived():
    """BatchTopK whose features are dead after two batches."""
    for k in (1, 2):
        yield {"dictionary.kind": "batch_topk", "dictionary.k": k, "dictionary.dead_after": 64}


def sweep_controlled():
    """JumpReLU whose penalty's weight follows a target."""
    for target in (2.0, 4.0):
        yield {
            "dictionary.kind": "jumprelu", "dictionary.control": "l0", "dictionary.target": target,
            "dictionary.control_rate": 0.05, "dictionary.first_threshold": 0.3, "dictionary.bandwidth": 0.5,
            "dictionary.first_norm": 1.0,
        }  # fmt: skip


def sweep_k():
    for k in (2, 4):
        yield {"dictionary.k": k}
