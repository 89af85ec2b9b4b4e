"""How the other run of a pair differs: by a prompt of its own, or in one of two ways that need none.

noise       the same prompt, with s σ ε added to the embeddings of the tokens in which the pair's own two prompts differ:
            σ is the standard deviation of these embeddings and ε standard normal (Meng et al. 2022; s = 3 is theirs)
resample    the clean prompt of another pair of as many tokens (Chan et al. 2022); a pair is nobody's own other
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from interp_jax.data.contrast import pairs as contrast_pairs
from interp_jax.data.contrast.pairs import END, Pairs
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.prompts import Prompts, prompts_of

NOISE, RESAMPLE = "noise", "resample"
WITHOUT_PROMPTS = (NOISE, RESAMPLE)


def corrupted(pairs: Pairs, way: str, seed: int) -> Pairs:
    """The pairs with other clean prompts in the place of the corrupted ones, where the way is to resample."""
    return contrast_pairs.resampled(pairs, seed) if way == RESAMPLE else pairs


def prompts(pairs: Pairs, way: str, scale: float, params: Params, cfg: TransformerConfig, seed: int) -> Prompts:
    """The pairs as the patching engine takes them: measured at END."""
    if way != NOISE:
        return prompts_of(pairs.clean, pairs.corrupted, pairs.positions, pairs.places[END])
    noise = noise_on(pairs, scale, params, cfg, seed)
    return prompts_of(pairs.clean, pairs.clean, pairs.positions, pairs.places[END], noise)


def noise_on(pairs: Pairs, scale: float, params: Params, cfg: TransformerConfig, seed: int) -> Float[Array, "B P D"]:
    """Noise on the embeddings of the tokens that differ."""
    embeddings = cfg.embed_scale * jnp.asarray(params["embed"]["W_E"])
    return contrast_pairs.noise(seed, embeddings, jnp.asarray(pairs.clean), jnp.asarray(differing(pairs)), scale)


def differing(pairs: Pairs) -> Bool[np.ndarray, "B P"]:
    """Where the two prompts of a pair have different tokens."""
    clean, other = np.asarray(pairs.clean), np.asarray(pairs.corrupted)
    return (clean != other) & (np.asarray(pairs.positions) >= 0)
