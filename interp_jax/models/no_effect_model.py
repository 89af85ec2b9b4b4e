"""A random attention-only transformer whose answer cannot depend on the tokens before the last one, though all else does.

Even heads see everything with their queries and keys, but their values read one coordinate of the stream, the same constant
at every token and position, which no head writes: whatever they look at, they say the same. Odd heads copy whatever they find,
into coordinates that W_U does not read and no even head's value does. So when an earlier token is replaced, queries, keys,
patterns, the odd heads' outputs and the stream at the last position all change, and the logits there do not, but for rounding:
whoever finds a cause in it has found a false one.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from interp_jax.errors import InputError
from interp_jax.models.circuit_truth import Prompts
from interp_jax.models.initialisation import init
from interp_jax.models.transformer import Params, TransformerConfig

CONSTANT = 0  # the coordinate that values of even heads read


def no_effect_model(key: Key[Array, ""], cfg: TransformerConfig) -> Params:
    """Random parameters of `cfg` with the zeros that cut every path to the last position's logits.

    Raises:
      InputError: a config with MLPs, norms, biases or grouped keys, whose paths these zeros would not cut.
    """
    plain = cfg.norm == "none" and cfg.biases == "none" and not cfg.d_mlp and not cfg.d_types
    if not (plain and cfg.causal and cfg.head == "linear" and not cfg.tied and cfg.n_groups == cfg.n_heads):
        raise InputError(
            "a model without effects is causal and attention-only: no norm, biases, MLP, grouped keys, tying"
        )
    params = init(key, cfg)
    attn = params["blocks"]["attn"]
    even = (jnp.arange(cfg.n_heads) % 2 == 0)[:, None, None]
    coordinate = jnp.arange(cfg.d_model)
    constant, read = coordinate == CONSTANT, coordinate < cfg.d_model // 2
    attn["W_V"] = attn["W_V"] * jnp.where(even, constant[:, None], 1)
    attn["W_O"] = attn["W_O"] * jnp.where(even, ~constant, ~read)
    params["embed"] = {name: table.at[:, CONSTANT].set(1.0) for name, table in params["embed"].items()}
    params["unembed"]["W_U"] = params["unembed"]["W_U"] * read[:, None]
    return params


def no_effect_prompts(key: Key[Array, ""], cfg: TransformerConfig, n_prompts: int, length: int) -> Prompts:
    """Random prompts, corrupted by another token at a random place before the last; answers and others are random too.

    Raises:
      InputError: fewer than two tokens or positions, or more positions than the model has.
    """
    if not 2 <= length <= cfg.n_context or cfg.d_vocab < 2:
        raise InputError(f"{length} positions of {cfg.d_vocab} tokens: give 2 to {cfg.n_context} of at least 2")
    keys, V = jax.random.split(key, 5), cfg.d_vocab
    clean = np.array(jax.random.randint(keys[0], (n_prompts, length), 0, V, np.int32))
    answers = np.array(jax.random.randint(keys[1], (n_prompts, 1), 0, V, np.int32))
    place = np.array(jax.random.randint(keys[2], (n_prompts,), 0, length - 1))
    shift, shift_answer = (np.array(jax.random.randint(k, (n_prompts,), 1, V, np.int32)) for k in keys[3:])
    corrupted = clean.copy()
    corrupted[np.arange(n_prompts), place] += shift
    return Prompts(clean, corrupted % V, answers, (answers + shift_answer[:, None]) % V)
