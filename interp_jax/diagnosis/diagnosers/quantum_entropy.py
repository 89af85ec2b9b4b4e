"""Quantum-entropy score: variance that the declared rule leaves, weighted by where there is most of it (Dong et al. 2019).

    M = Σ_ref^(-1/2) Σ Σ_ref^(-1/2)        Q = exp(α M / ‖M‖) / its trace        weight = mean over layers of tr(Q M)
    score = log weight - log weight with the rule's variables dealt out at random

between the mean eigenvalue (α = 0: Mahalanobis) and the largest (α = ∞: spectral); α = 4. Σ_ref is of untrained twins:
`within.py`. Traces are those of Σ_ref⁻¹ Σ in the place of M; the exponential is its series.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.view import View
from interp_jax.diagnosis.within import largest, strangeness

TIER, COST = 1, 6
ALPHA, TERMS = 4.0, 20


def weighted(M: Float[Array, "L D D"]) -> Float[Array, " L"]:
    """Tr(exp(α M / ‖M‖) M) / tr exp(α M / ‖M‖)."""
    scaled = ALPHA * M / jnp.maximum(largest(M), 1e-12)[:, None, None]
    term = total = jnp.broadcast_to(jnp.eye(M.shape[1], dtype=M.dtype), M.shape)
    for k in range(1, TERMS):
        term = jnp.matmul(term, scaled, precision="highest") / k
        total = total + term
    return jnp.einsum("lde,led->l", total, M) / jnp.trace(total, axis1=1, axis2=2)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """See the module."""
    own, dealt = (weighted(M).mean() for M in strangeness(view, declared, key))
    return jnp.log(own + 1e-9) - jnp.log(dealt + 1e-9)
