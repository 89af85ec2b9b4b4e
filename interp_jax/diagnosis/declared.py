"""What an examiner is told of the declared rule: its labels and variables on the examples, and what each position decides.

    influence_ni = P(rule(x_n with token i replaced) ≠ rule(x_n))        by the tokens that other examples have there

and what it would answer where tokens are exchanged or replaced: `counterfactuals.py`. It is a table by index: no rule goes with
it, neither the declared one nor its rival. The rule was asked of inputs that are no examples; the model never is.
"""

from collections.abc import Mapping

import flax.struct
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.diagnosis import counterfactuals
from interp_jax.diagnosis.asked import Tokens
from interp_jax.diagnosis.counterfactuals import Counterfactuals
from interp_jax.diagnosis.family import Family, answers, value
from interp_jax.errors import InputError

RESAMPLED = 8  # tokens that are tried at each position


@flax.struct.dataclass
class Declared:
    """See the module.

    Attributes:
      labels: of the examples. variables: by name. values: how many each variable has. influence: of positions.
      exchanged, replaced: answers to counterfactual inputs; None where they are not told.
    """

    labels: Int[Array | np.ndarray, " N"]
    variables: Mapping[str, Int[Array | np.ndarray, " N"]]
    values: Mapping[str, int] = flax.struct.field(pytree_node=False)
    influence: Float[Array | np.ndarray, "N P"]
    exchanged: Counterfactuals | None = None
    replaced: Counterfactuals | None = None


def declare(family: Family, which: str, x: Tokens, seed: int = 0) -> Declared:
    """What is told of rule f, g, or f "again" on examples.

    Raises:
      InputError: the rule fails.
    """
    variables = family.rule(which).variables
    inputs = (counterfactuals.exchanged, counterfactuals.replaced)
    asked = [draw(x, rng) for draw, rng in zip(inputs, np.random.default_rng(seed).spawn(2), strict=True)]
    return Declared(
        answers(family, which, x),
        {name: value(family, which, name, x) for name in variables},
        {name: one.values for name, one in variables.items()},
        influence(family, which, x, seed),
        *(counterfactuals.told(family, which, x, by) for by in asked),
    )


def influence(family: Family, which: str, x: Tokens, seed: int = 0) -> Float[np.ndarray, "N P"]:
    """See the module.

    Raises:
      InputError: the rule fails on such an input.
    """
    rng, (n, positions) = np.random.default_rng(seed), x.shape
    answer, changed = family.rule(which).answer, np.zeros(x.shape, np.float32)
    before = np.asarray(answer(x))
    for i in range(positions):
        tried = np.repeat(x[None], RESAMPLED, axis=0)
        tried[:, :, i] = x[rng.integers(0, n, (RESAMPLED, n)), i]
        try:
            after = np.asarray(answer(tried.reshape(-1, positions))).reshape(RESAMPLED, n)
        except Exception as error:
            raise InputError(
                f"family {family.name!r}: rule_{which} raised {type(error).__name__} where position {i} was changed: {error}"
            ) from error
        changed[:, i] = (after != before).mean(0)
    return changed
