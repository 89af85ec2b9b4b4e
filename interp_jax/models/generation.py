"""Text from a transformer: prompts read once into a cache of static shape, then one token at a time, in one compiled loop.

next = argmax(logits)                               temperature 0
next ~ softmax(logits / temperature)                otherwise: the argmax of logits + temperature · Gumbel noise
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from interp_jax import taps
from interp_jax.models.transformer import Params, TransformerConfig, blocks, check_length, embed, init_cache, unembed


def generate(
    params: Params,
    prompts: Int[Array, "B P"],
    cfg: TransformerConfig,
    n_new: int,
    key: Key[Array, ""],
    temperature: Float[Array, "#B 1"] | float = 0.0,
) -> Int[Array, "B N"]:
    """`n_new` tokens after each prompt; P + n_new - 1 positions are computed, which must fit `cfg.n_context`."""
    batch, length = prompts.shape
    check_length(length + n_new - 1, cfg)
    cache = init_cache(cfg, batch, length + n_new, params["embed"]["W_E"].dtype)
    positions = jnp.arange(length, dtype=jnp.int32)[None]
    x, cache = blocks(params, embed(params, prompts, cfg, positions), cfg, cache=cache, positions=positions)

    def extend(carry: tuple[Array, object], step: Array) -> tuple[tuple[Array, object], Array]:
        last, cache = carry
        new = sample(unembed(params, last, cfg), jax.random.fold_in(key, step), temperature)
        at = (length + step)[None, None]
        x, cache = blocks(params, embed(params, new[:, None], cfg, at), cfg, cache=cache, positions=at)
        return (x[:, -1], cache), new

    _, tokens = taps.scan(extend, (x[:, -1], cache), jnp.arange(n_new, dtype=jnp.int32))
    return tokens.T


def sample(
    logits: Float[Array, "B V"], key: Key[Array, ""], temperature: Float[Array, "#B 1"] | float
) -> Int[Array, " B"]:
    """One token per row; the most likely one where `temperature` is 0."""
    temperature = jnp.asarray(temperature, logits.dtype)
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return jnp.argmax(logits + temperature * noise, axis=-1).astype(jnp.int32)
