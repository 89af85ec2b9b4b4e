"""Composition of heads: how much of what a later head reads is what an earlier head writes (Elhage et al. 2021).

    score = ‖A B‖_F / (‖A‖_F ‖B‖_F)        A = OV of the earlier head;  B = QK (Q), QKᵀ (K) or OV (V) of the later one

in the row convention of this library, x A B: B's rows are what it reads. The score is in [0, 1]; 1 needs A to write only
where B reads most. Chance is not 0: if A or B is turned at random, E[(AB)²] = ‖A‖² ‖B‖² / D, whatever their ranks, so that
the root mean square of the score is `random_composition(D)` = 1/√D. (A stream of mean 0, by centred weights under layer
norm, has D - 1 dimensions.)

Weights are read as they are: fold norms first (`models.processing.fold_norms`). A key/value head's matrices serve each head of
its group.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.anatomy.factored import Factored, multiply, norm, triangle
from interp_jax.anatomy.head_circuits import ov_matrix, qk_matrix
from interp_jax.models.transformer import Params, TransformerConfig


class Composition(NamedTuple):
    """Scores in [0, 1]: [earlier layer, earlier head, later layer, later head]; 0 where the one is not before the other."""

    q: Float[Array, "L H L H"]
    k: Float[Array, "L H L H"]
    v: Float[Array, "L H L H"]


def composition_scores(params: Params, cfg: TransformerConfig) -> Composition:
    """Q-, K- and V-composition of all pairs of heads; a matrix that is 0 composes with none."""
    qk, ov = qk_matrix(params, cfg), ov_matrix(params, cfg)
    return Composition(*(compose(ov, reader) for reader in (qk, qk.T, ov)))


def compose(writers: Factored, readers: Factored) -> Float[Array, "L H L H"]:
    """Scores of all pairs of `writers` and `readers`, each [L H D D], with readers in later layers.

    ‖A₁ (A₂ B₁) B₂‖ = ‖(R₁ A₂) (B₁ R₂ᵀ)‖ with R₁, R₂ from QR of A₁ and B₂ᵀ, so that a pair costs E² D. Writers go layer by
    layer: all pairs at once would hold (L H E)² numbers.
    """
    write = multiply(triangle(writers.left), writers.right)  # [L H E D]
    read = multiply(readers.left, triangle(readers.right.mT).mT)  # [L H D E]
    layers, heads = read.shape[:2]
    flat = read.reshape(-1, *read.shape[2:])

    def against_all(layer: Float[Array, "H E D"]) -> Float[Array, "H L H"]:
        together = jnp.einsum("hed,ndf->hnef", layer, flat, precision="highest")
        return jnp.linalg.norm(together.reshape(heads, len(flat), -1), axis=-1).reshape(heads, layers, heads)

    sizes = norm(writers)[:, :, None, None] * norm(readers)
    layer = jnp.arange(writers.shape[0])
    counts = (layer[:, None] < layer)[:, None, :, None] & (sizes > 0)
    # one layer at a time, as all at once are large; written out, since under vmap a CPU hangs in `lax.map` here (jaxlib 0.10.2)
    scores = jnp.stack([against_all(layer) for layer in write])
    return jnp.where(counts, scores / jnp.where(sizes > 0, sizes, 1.0), 0.0)


def random_composition(d_model: int) -> float:
    """The root mean square of the score of two matrices that are turned at random against each other."""
    return d_model**-0.5
