"""Dictionaries on a model of random weights and a text of random tokens, for tests of jobs that harvest or read a store."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax.activations.harvest import Harvest
from interp_jax.dictionaries.config import Dictionary
from interp_jax.experiments import dictionaries
from interp_jax.experiments import store as stores
from interp_jax.experiments.dictionaries import runs
from interp_jax.experiments.dictionaries import subject as subjects
from interp_jax.experiments.dictionaries.config import Measurements
from interp_jax.experiments.store import runs as store_runs
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import part

CFG = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_head=8, d_mlp=24, d_vocab=40, n_context=12)


@part
class Config(dictionaries.Config):
    """A small dictionary."""

    steps: int = 40
    batch_size: int = 32
    stream_steps: int = 8
    harvest: Harvest = Harvest(windows=4)
    dictionary: Dictionary = Dictionary(kind="topk", d_in=16, n_features=32, most=8, k=4)
    measure: Measurements = Measurements(windows=4, at_once=2)


STORE = stores.Config(
    rows=40 * 32, shard_rows=512, batch_size=32, stream_steps=8, harvest=Harvest(windows=4, excluded=(0,))
)


def weights(seed=0):
    return jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(seed), CFG))


def text():
    return jax.random.randint(jax.random.key(1), (3_000,), 0, 40)


def subject(config):
    """In place of a run that was grown."""
    subjects.check_place(config, CFG, "a model")
    held_out = jax.random.randint(jax.random.key(2), (4, 13), 0, 40)
    shared = subjects.Shared((weights(),), text(), held_out, {}, jnp.zeros(()))
    return (CFG,), subjects.prepared(config, (CFG,), shared)


def write(directory, seed=0, **changes):
    """A store of the model, as `configs/store.py` writes it."""
    config = dataclasses.replace(STORE, store=str(directory), **changes)
    shared = subjects.Shared((weights(seed),), text(), jnp.zeros((0, 0), jnp.int32), {}, jnp.zeros(()))
    here = store_runs.places(config, CFG, "a model")
    return store_runs.write(config, CFG, "a model", here, shared)


def experiment(config):
    """The experiment of dictionaries on it."""
    before, runs.subject = runs.subject, subject
    try:
        return dictionaries.experiment(config)
    finally:
        runs.subject = before


report = dictionaries.report


def arrays(tree):
    """The bytes of every leaf."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
