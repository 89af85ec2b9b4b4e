"""What heads do by their weights alone, over tokens: scores of all heads, and the strongest directions of some.

copying, matching [L H]                  Σ Re λ / Σ |λ| over the eigenvalues of OV and of QK
circuits [N]                             the heads whose circuits are shown, as l H + h
ov_values, qk_values [N K]               singular values of their circuits
ov_rows, ov_columns, qk_rows, qk_columns [N R T]        tokens at the ends of the strongest directions, and under the names
ov_row_weights …                         how much of each is in its direction
"""

import jax.numpy as jnp
from jaxtyping import Array, Int

from interp_jax.anatomy.head_circuits import copying_score, matching_score, ov_circuit, qk_circuit
from interp_jax.anatomy.token_directions import Directions, strongest_directions
from interp_jax.models.transformer import Params, TransformerConfig

DIRECTIONS, TOKENS = 3, 5  # that are shown of a circuit, and of a direction


def read_circuits(params: Params, cfg: TransformerConfig, heads: Int[Array, " N"]) -> dict[str, Array]:
    """All of it; norms are folded into `params`, where they can be."""
    found = {"copying": copying_score(params, cfg), "matching": matching_score(params, cfg), "circuits": heads}
    for name, circuit in (("ov", ov_circuit), ("qk", qk_circuit)):
        # one head at a time, as the factors of a circuit over a large vocabulary are large
        seen = [
            strongest_directions(circuit(params, cfg, heads[i : i + 1]), DIRECTIONS, TOKENS) for i in range(len(heads))
        ]
        for field, arrays in zip(Directions._fields, zip(*seen, strict=True), strict=True):
            found[f"{name}_{field}"] = jnp.concatenate(arrays)
    return found
