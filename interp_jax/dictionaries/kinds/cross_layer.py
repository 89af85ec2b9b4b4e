"""Cross-layer transcoder: features read one layer's stream and write to the MLP outputs of that layer and all after it
(Lindsey et al. 2024, "Sparse crosscoders"; Ameisen et al. 2025, "Circuit tracing").

    z_l = x_l W_enc,lᵀ + b_enc,l          a_l = z_l H(z_l - θ_l)                          of every layer l, F/L features each
    ŷ_m = Σ_{l ≤ m} a_l W_dec,l→m + b_dec,m                                               what is said of layer m
    loss = Σ_m ‖y_m - ŷ_m‖² + the penalty of `jumprelu`, a row's length being that of all that a feature writes

What is read is L layers' streams side by side, [B L·D], what is said L outputs, [B L·O], and features are the layers' in order.
`pieces` is L. The decoder of layer l is `W_dec_l` [F/L, L - l, O]: what would write backwards is not there.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.dictionaries.config import Dictionary
from interp_jax.dictionaries.encoders import norms, unit_rows
from interp_jax.dictionaries.judged import Batch, Judged, Situation, error_of, in_use
from interp_jax.dictionaries.kinds.jumprelu import first_thresholds, judge, jump, penalised, thresholds
from interp_jax.dictionaries.parameters import Params

UNIT_ROWS = False


def init(key: Key[Array, ""], cfg: Dictionary) -> Params:
    """Rows of length `first_norm`, in the encoder and of all that a feature writes; thresholds of `first_threshold`."""
    L, F, D, width = sizes(cfg)
    encoder, *decoders = jax.random.split(key, 1 + L)
    params = {"W_enc": cfg.first_norm * unit_rows(jax.random.normal(encoder, (L * F, D))).reshape(L, F, D)}
    for layer, each in enumerate(decoders):
        rows = unit_rows(jax.random.normal(each, (F, (L - layer) * width)))
        params[decoder(layer)] = cfg.first_norm * rows.reshape(F, L - layer, width)
    params |= {"b_enc": jnp.zeros((L, F)), "b_dec": jnp.zeros((L, width))}
    return params | first_thresholds(cfg)


def sizes(cfg: Dictionary) -> tuple[int, int, int, int]:
    """Layers; of each: features, the width that is read, and that which is said."""
    return cfg.pieces, cfg.n_features // cfg.pieces, cfg.d_in // cfg.pieces, cfg.width_out // cfg.pieces


def decoder(layer: int) -> str:
    """The name of a layer's decoder."""
    return f"W_dec_{layer}"


def gates(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> tuple[Float[Array, "B F"], Float[Array, " F"]]:
    """z, and the thresholds; features not in use never reach theirs."""
    L, _, D, _ = sizes(cfg)
    z = jnp.einsum("bld,lfd->blf", x.reshape(-1, L, D), params["W_enc"]) + params["b_enc"]
    return jnp.where(in_use(cfg), z.reshape(len(x), -1), -jnp.inf), thresholds(params, cfg)


def encode(params: Params, x: Float[Array, "B D"], cfg: Dictionary) -> Float[Array, "B F"]:
    """Features, layer by layer."""
    z, threshold = gates(params, x, cfg)
    return jump(z, threshold, jnp.asarray(cfg.bandwidth, z.dtype))


def decode(params: Params, f: Float[Array, "B F"], cfg: Dictionary) -> Float[Array, "B O"]:
    """What is said of all layers."""
    said = jnp.broadcast_to(params["b_dec"], (len(f), *params["b_dec"].shape))
    for layer, own in enumerate(jnp.split(f, cfg.pieces, axis=1)):
        said = said.at[:, layer:].add(jnp.einsum("bf,fmo->bmo", own, params[decoder(layer)]))
    return said.reshape(len(f), -1)


def rows(params: Params, cfg: Dictionary) -> Float[Array, "F O"]:
    """What each feature writes to all layers, 0 to those before its own."""
    L, F, _, _ = sizes(cfg)
    each = [jnp.pad(params[decoder(layer)], ((0, 0), (layer, 0), (0, 0))) for layer in range(L)]
    return jnp.concatenate(each).reshape(L * F, -1)


def lengths(params: Params, cfg: Dictionary) -> Float[Array, " F"]:
    """Of all that each feature writes."""
    L, F, _, _ = sizes(cfg)
    return jnp.concatenate([norms(params[decoder(layer)].reshape(F, -1)) for layer in range(L)])


def loss(params: Params, batch: Batch, cfg: Dictionary, situation: Situation) -> Judged:
    """Error and penalty."""
    z, threshold = gates(params, batch.x, cfg)
    f = jump(z, threshold, jnp.asarray(cfg.bandwidth, z.dtype))
    penalty = penalised(z, f, threshold, lengths(params, cfg), cfg)
    return judge(error_of(batch, decode(params, f, cfg)), penalty, f, cfg, situation)
