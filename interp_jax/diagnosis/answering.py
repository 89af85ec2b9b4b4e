"""What a student answers at the last position: plain or under edits that stay in force, from inputs or from the stream.

    answers(params, edits, x)  =  onwards(params, edits, entered(params, edits, x))

Edits of the embedding act on the way in, all others after it. Without others only the last row of the last layer is computed,
which is all that an answer needs; under them all rows are, so that every site is there once and is whole.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.config import Ids
from interp_jax.models.transformer import Params, TransformerConfig

Edits = dict[str, tuple[taps.Edit, ...]]
WAY_IN = ("embed", "type_embed", "pos_embed")  # sites before the stream enters the first layer


def answer_logits(params: Params, x: Ids, cfg: TransformerConfig, labels: int) -> Float[Array, "B C"]:
    """What a student answers at the last position; only that row of the last layer is computed."""
    return from_stream(params, transformer.embed(params, x, cfg), cfg, labels)


def from_stream(
    params: Params, stream: Float[Array, "B P D"], cfg: TransformerConfig, labels: int
) -> Float[Array, "B C"]:
    """The same, from the stream before the first layer."""
    last = cfg.n_layers - 1
    stream, _ = transformer.blocks(params, stream, cfg, stop_layer=last)
    read = jnp.full((1, 1), stream.shape[1] - 1, jnp.int32)
    row, _ = transformer.blocks(params, stream, cfg, first_layer=last, read=read)
    return transformer.unembed(params, row[:, 0], cfg)[:, :labels]


def every_row(params: Params, x: Ids, cfg: TransformerConfig, labels: int) -> Float[Array, "B C"]:
    """As `answer_logits`, but all of every layer, so that every site is there once."""
    return every_row_from(params, transformer.embed(params, x, cfg), cfg, labels)


def every_row_from(
    params: Params, stream: Float[Array, "B P D"], cfg: TransformerConfig, labels: int
) -> Float[Array, "B C"]:
    """The same, from the stream before the first layer."""
    row = transformer.blocks(params, stream, cfg)[0][:, -1]
    return transformer.unembed(params, row, cfg)[:, :labels]


def answers(params: Params, edits: Edits, x: Ids, cfg: TransformerConfig, labels: int) -> Float[Array, "B C"]:
    """What a student answers under edits."""
    return onwards(params, edits, entered(params, edits, x, cfg), cfg, labels)


def entered(params: Params, edits: Edits, x: Ids, cfg: TransformerConfig) -> Float[Array, "B P D"]:
    """The stream before the first layer, under edits."""
    here = {site: own for site, own in edits.items() if site in WAY_IN}
    return taps.edit(transformer.embed)(here, params, x, cfg)


def onwards(
    params: Params,
    edits: Edits,
    stream: Float[Array, "B P D"],
    cfg: TransformerConfig,
    labels: int,
    whole: bool = False,
) -> Float[Array, "B C"]:
    """What is made of it, under edits; `whole`: with all rows of every layer in any case."""
    here = {site: own for site, own in edits.items() if site not in WAY_IN}
    return taps.edit(every_row_from if here or whole else from_stream)(here, params, stream, cfg, labels)
