"""The referee, who may use conflict inputs: what each part of a model does for its answers by g.

    effect = |agreement with g on D_X, with the part at its mean over D_ID, less that of the whole model|

Parts are heads (their `z`) and neurons of the MLPs (`post`) of all layers, and, before each layer, positions of the stream.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from interp_jax import taps
from interp_jax.diagnosis.answering import every_row
from interp_jax.models.config import Ids
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.taps import Edit

PARTS = {"heads": "blocks.attn.z", "neurons": "blocks.mlp.post", "positions": "blocks.resid_pre"}


class Effects(NamedTuple):
    """Of parts of one model."""

    heads: Float[Array | np.ndarray, "L H"]
    neurons: Float[Array | np.ndarray, "L M"]
    positions: Float[Array | np.ndarray, "L P"]


def effects(
    params: Params,
    cfg: TransformerConfig,
    labels: int,
    x_id: Integer[Array | np.ndarray, "N P"],
    x_conflict: Ids,
    g: Int[Array | np.ndarray, " B"],
) -> Effects:
    """See the module; pure, and each kind of part one program.

    Args:
      params: of one model.
      cfg: its config.
      labels: how many answers there are.
      x_id: inputs of D_ID, whose means are put in.
      x_conflict: inputs of D_X.
      g: their answers by g.
    """
    answers = lambda params, x: every_row(params, x, cfg, labels)
    _, seen = taps.record(answers, [site for name, site in PARTS.items() if name != "neurons" or cfg.d_mlp])(
        params, x_id
    )
    means = {site: there.mean(1, keepdims=True) for site, there in seen.items()}
    whole = (answers(params, x_conflict).argmax(-1) == g).mean()

    def without(site: str, axis: int) -> Float[Array, "L K"]:
        """One after another, each layer's slices along an axis of the site (of which the first is of examples)."""
        shape = means[site].shape[1:]
        count = shape[axis]

        def one(which: Int[Array, ""]) -> Float[Array, ""]:
            layer, part = which // count, which % count
            where = (jnp.arange(count) == part).reshape([count if i == axis else 1 for i in range(len(shape))])
            edit = Edit("replace", means[site][layer], where, layer)
            said = taps.edit(answers)({site: edit}, params, x_conflict).argmax(-1)
            return jnp.abs((said == g).mean() - whole)

        return jax.lax.map(one, jnp.arange(cfg.n_layers * count)).reshape(cfg.n_layers, count)

    neurons = without(PARTS["neurons"], 2) if cfg.d_mlp else jnp.zeros((cfg.n_layers, 0))
    return Effects(without(PARTS["heads"], 2), neurons, without(PARTS["positions"], 1))
