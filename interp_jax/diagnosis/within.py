"""How activations vary where the declared rule sees no difference, in a model and in its untrained twins.

    x⊥ = x - Q Qᵀ x        Q an orthonormal basis of a constant, the label's columns and those of all variables [N Z]
    Σ  = x⊥ᵀ x⊥ / tr(xᵀx about its mean)                of a site: a share of the variance, so that sizes do not matter

A fair reference is not models that learned the rule, which nobody has, but twins whose weights were never trained: Σ_ref is
the mean of theirs, with a hundredth of its mean variance added to every direction. And a control: Σ_dealt of the same model,
with the variables dealt out at random among examples of one label. How much models vary within a label differs between them
whatever they learned; by how much less where the rule's variables are known is what speaks of the rule.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.twins import twins
from interp_jax.diagnosis.variables import rest_of_all
from interp_jax.diagnosis.view import View
from interp_jax.probes.positive import solve

TWINS, LEAST = 4, 0.01
POWERS = 8  # squarings
SITE = "blocks.resid_post"


def unexplained(view: View, declared: Declared) -> Float[Array, "L D D"]:
    """Σ of the last position after every layer."""
    x = view.record([SITE])[1][SITE][:, :, -1]
    x = x - x.mean(1, keepdims=True)
    Q = jnp.asarray(rest_of_all(declared), x.dtype)
    left = x - jnp.einsum("nz,mz,lmd->lnd", Q, Q, x, precision="highest")
    total = jnp.square(x).sum((1, 2))[:, None, None]
    return jnp.einsum("lnd,lne->lde", left, left, precision="highest") / jnp.maximum(total, 1e-12)


def dealt(declared: Declared) -> Declared:
    """With the variables of other examples of the same label."""
    rng, labels = np.random.default_rng(0), np.asarray(declared.labels)
    order = np.arange(len(labels))
    for label in np.unique(labels):
        order[labels == label] = rng.permutation(order[labels == label])
    return declared.replace(variables={name: np.asarray(own)[order] for name, own in declared.variables.items()})


def strangeness(
    view: View, declared: Declared, key: Key[Array, ""]
) -> tuple[Float[Array, "L D D"], Float[Array, "L D D"]]:
    """Σ_ref⁻¹ Σ, and Σ_ref⁻¹ Σ_dealt."""
    reference = sum(unexplained(one, declared) for one in twins(view, key, TWINS)) / TWINS
    size = jnp.trace(reference, axis1=1, axis2=2)[:, None, None] / reference.shape[1]
    reference = reference + (LEAST * size + 1e-9) * jnp.eye(reference.shape[1])
    return relative(unexplained(view, declared), reference), relative(unexplained(view, dealt(declared)), reference)


def relative(own: Float[Array, "L D D"], reference: Float[Array, "L D D"]) -> Float[Array, "L D D"]:
    """Σ_ref⁻¹ Σ, whose eigenvalues are those of Σ_ref^(-1/2) Σ Σ_ref^(-1/2); by products, no factorisation of LAPACK's."""
    return jax.lax.map(lambda pair: solve(*pair), (reference, own))


def largest(matrix: Float[Array, "L D D"]) -> Float[Array, " L"]:
    """The largest eigenvalue, of a matrix with none below 0: from the traces of its powers 2^k and 2^(k+1)."""
    trace = lambda a: jnp.trace(a, axis1=1, axis2=2)
    size = jnp.maximum(trace(matrix), 1e-12)
    power = matrix / size[:, None, None]
    for _ in range(POWERS):
        power = jnp.matmul(power, power, precision="highest")
        power = power / jnp.maximum(trace(power), 1e-30)[:, None, None]
    # all but the largest have vanished: what is left is the projection on its direction
    return trace(jnp.matmul(matrix, power, precision="highest")) / jnp.maximum(trace(power), 1e-30)
