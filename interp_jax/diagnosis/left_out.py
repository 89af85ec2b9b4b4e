"""How much of a variable a ridge probe reads beyond the label and the other variables, of examples it was not fitted to.

    x⊥, z⊥       what of activations and of the variable's columns is orthogonal to `rest` (see `variables.py`)
    H            x⊥ (x⊥ᵀ x⊥ + λ I)⁻¹ x⊥ᵀ           λ = PENALTY · N · the mean square of x⊥'s entries
    R²           1 - Σ_n ‖(z⊥ - H z⊥)_n / (1 - h_n - r_n)‖² / Σ_n ‖z⊥_n / (1 - r_n)‖²       h, r leverages of x⊥ and of rest

which is the partial R² with each example left out (Allen 1974): exact, by one system of equations for all values. 0 or less
where nothing is read. Products alone: see `probes/positive.py`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from interp_jax.diagnosis.variables import Parted
from interp_jax.probes.positive import solve

PENALTY = 0.01


def partial_r2(
    x: Float[Array, "N D"], left: Float[Array, "N K"], rest: Float[Array, "N Z"], penalty: float = PENALTY
) -> Float[Array, ""]:
    """See the module."""
    product = lambda a, b: jnp.matmul(a, b, precision="highest")
    x = x - product(rest, product(rest.T, x))
    ridge = penalty * jnp.square(x).mean() * len(x) + 1e-9
    fitted = solve(product(x.T, x) + ridge * jnp.eye(x.shape[1], dtype=x.dtype), x.T)  # [D N]
    h, r = (x * fitted.T).sum(1), jnp.square(rest).sum(1)
    error = (left - product(x, product(fitted, left))) / jnp.maximum(1 - h - r, 1e-3)[:, None]
    before = left / jnp.maximum(1 - r, 1e-3)[:, None]
    return 1 - jnp.square(error).sum() / jnp.square(before).sum()


def read(x: Float[Array, "S N D"], variable: Parted) -> Float[Array, " S"]:
    """Partial R² of a variable at sites, one after another."""
    left, rest = (jnp.asarray(a, x.dtype) for a in (variable.left, variable.rest))
    return jax.lax.map(lambda x: partial_r2(x, left, rest), x)
