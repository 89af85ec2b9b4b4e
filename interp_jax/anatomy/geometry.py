"""Geometry of superposed features (Elhage et al. 2022). W [S, D] holds the direction of feature i in row i.

D*  = D / ‖W‖²_F                          hidden dimensions per feature
D_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)²           the share of a dimension that feature i has: 1 alone, 1/2 in an antipodal
                                          pair, 2/3 in a triangle, 3/4 in a tetrahedron, 2/5 in a pentagon,
                                          3/8 in a square antiprism; 0 where the feature is not represented
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

REPRESENTED = 0.5  # norm above which a feature counts as represented
POLYTOPES = {
    "alone": 1.0,
    "tetrahedron": 3 / 4,
    "triangle": 2 / 3,
    "antipodal pair": 1 / 2,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
}


def gram(W: Float[Array | np.ndarray, "*R S D"]) -> Float[Array, "*R S S"]:
    """Inner products of all pairs of features: the paper's WᵀW."""
    return jnp.einsum("...id,...jd->...ij", W, W, precision="highest")


def dimensions_per_feature(W: Float[Array | np.ndarray, "*R S D"]) -> Float[Array, "*R"]:
    """D* = D / ‖W‖²_F, with about one unit of squared norm per represented feature."""
    return W.shape[-1] / jnp.sum(jnp.asarray(W) ** 2, axis=(-2, -1))


def feature_dimensionality(W: Float[Array | np.ndarray, "*R S D"]) -> Float[Array, "*R S"]:
    """D_i = ‖W_i‖⁴ / Σ_j (W_i · W_j)², in [0, 1]; 0 for a feature of zero norm."""
    inner = gram(W)
    own = jnp.diagonal(inner, axis1=-2, axis2=-1) ** 2
    total = jnp.sum(inner**2, axis=-1)
    return jnp.where(total > 0, own / jnp.where(total > 0, total, 1.0), 0.0)


def interference(W: Float[Array | np.ndarray, "*R S D"]) -> Float[Array, "*R S"]:
    """Σ_{j≠i} (Ŵ_i · W_j)²: how much of the others lies along feature i; 0 for a feature of zero norm."""
    inner = gram(W)
    own = jnp.diagonal(inner, axis1=-2, axis2=-1)
    others = jnp.sum(inner**2, axis=-1) - own**2
    return jnp.where(own > 0, others / jnp.where(own > 0, own, 1.0), 0.0)


def represented(W: Float[Array | np.ndarray, "*R S D"], threshold: float = REPRESENTED) -> Bool[Array, "*R S"]:
    """Whether ‖W_i‖ exceeds the threshold."""
    return jnp.linalg.norm(W, axis=-1) > threshold
