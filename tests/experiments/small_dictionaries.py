"""A small run of dictionaries on a model of random weights and a text of random tokens, in place of one that was grown."""

import dataclasses

import jax
import jax.numpy as jnp

from interp_jax.experiments.config import CONFIGS, load_file
from interp_jax.experiments.dictionaries import subject
from interp_jax.experiments.dictionaries.config import Measurements
from interp_jax.experiments.dictionaries.subject import Shared
from interp_jax.experiments.sweep import expand
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig

FILE = load_file(CONFIGS / "dictionaries.py")
CFG = TransformerConfig(n_layers=2, d_model=32, n_heads=4, d_head=8, d_mlp=48, d_vocab=40, n_context=12)
SMALL = dataclasses.replace(
    expand(FILE.get_config("tiny"), FILE, ["tiny"])[0].part, layers=(1,), measure=Measurements(windows=4, at_once=2)
)


def of_random_weights(config):
    """What dictionaries read; scales are those of the library."""
    params, other = (jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(seed), CFG)) for seed in (0, 3))
    text = jax.random.randint(jax.random.key(1), (3_000,), 0, 40)
    held_out = jax.random.randint(jax.random.key(2), (4, 13), 0, 40)
    subject.check_place(config, CFG, "a model")
    models = (params, other) if config.other.path else (params,)
    cfgs = (CFG,) * len(models)
    subject.check_widths(config, cfgs)
    return cfgs, subject.prepared(config, cfgs, Shared(models, text, held_out, {}, jnp.zeros(())))


def crosscoder(d_in, **changes):
    own = dataclasses.replace(SMALL.dictionary, kind="standard", d_in=d_in, n_features=20, pieces=2)
    config = dataclasses.replace(SMALL, dictionary=own, **changes)
    config.check()
    return config
