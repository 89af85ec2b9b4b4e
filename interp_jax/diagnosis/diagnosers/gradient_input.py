"""Gradient × input against the declared rule's influence (Shrikumar et al. 2017).

weight_i = mean over examples of |∂ log p(label) / ∂x_i · x_i|        x_i the stream before the first layer
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.profiles import distance, excess
from interp_jax.diagnosis.view import View

TIER, COST = 1, 3


def weights(view: View, declared: Declared) -> Float[Array, " P"]:
    """See the module; the label's logit less the mean of all stands for log p, which is flat where a model is certain."""
    own = jax.nn.one_hot(declared.labels, view.labels) - 1 / view.labels
    stream, gradient = view.input_gradient(lambda logits: (own * logits).sum(-1))
    return jnp.abs((stream * gradient).sum(-1)).mean(0)


def score(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, ""]:
    """How far the two are apart."""
    return distance(weights(view, declared), view, declared)


def positions(view: View, declared: Declared, key: Key[Array, ""]) -> Float[Array, " P"]:
    """What positions weigh beyond the rule."""
    return excess(weights(view, declared), view, declared)
