"""Said before any treatment: is there something healthy to go back to ("infected"), or was the rule never learned?

    score = mean over targets of  max over layers and positions of R²(target)  -  the same of fresh weights

    targets     the declared label;  each variable of the declared rule, given the label
    R²          of ridge regression on a layer's neurons, left out one by one (`probes/ridge.py`); diagnosed positions are cut

Higher: more of the declared rule is still computed where the shortcut has nothing to read. Neurons and not the stream, for an
infection silences what neurons say long before it undoes what they compute. Given the label: of x and target
what is left once the means of each label are taken off, so that the answer alone says nothing. A variable that D_ID does not
vary, given the label, is no target. Fresh weights have the same shape and the same cut: what any network passes on does not
count.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness, taps
from interp_jax.diagnosis.declared import Declared
from interp_jax.diagnosis.mediation import NEURONS, cut_at, mean_embedding
from interp_jax.diagnosis.ward import Diagnosis, Ward, every_row
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.probes.ridge import leave_one_out

PENALTY = 1e-2  # of each row, times the mean variance of what is read
VARIES = 1e-6  # variance of a target


class Prospect(NamedTuple):
    """See the module; of all patients.

    Attributes:
      score: [R]. found, control: R² of patients and of fresh weights, [R T].
      targets: their names.
    """

    score: Float[np.ndarray, " R"]
    found: Float[np.ndarray, "R T"]
    control: Float[np.ndarray, "R T"]
    targets: tuple[str, ...]


def prospects(
    ward: Ward, diagnosis: Diagnosis, x: Int[np.ndarray, "N P"], declared: Declared, seed: int = 0
) -> Prospect:
    """The prospects of all patients.

    Args:
      ward: the patients.
      diagnosis: of each.
      x: inputs of D_ID.
      declared: what is told of the declared rule on them.
      seed: of fresh weights.

    Raises:
      InputError: fewer inputs than a regression needs.
    """
    _, width = read(ward.cfg)
    if len(x) <= 2 * width:
        raise InputError(
            f"prognosis: {len(x)} inputs of D_ID; what is read has width {width} and needs more than twice as many"
        )
    names, targets = targets_of(declared, ward.labels)
    control = jax.vmap(lambda own: transformer.init(randomness.key(seed, "prognosis/fresh", own), ward.cfg))
    run = _readable(ward.cfg, ward.labels, tuple(one.shape[1] for one in targets))
    own = jax.nn.one_hot(declared.labels, ward.labels)
    found, fresh = (
        np.asarray(run((params, diagnosis.cut), x, own, tuple(targets)))
        for params in (ward.params, control(jnp.asarray(ward.seeds, jnp.int32)))
    )
    return Prospect((found - fresh).mean(1), found, fresh, names)


def read(cfg: TransformerConfig) -> tuple[str, int]:
    """The site that is read, and its width: neurons, or the stream after each layer where there are none."""
    return (NEURONS, cfg.d_mlp) if cfg.d_mlp else ("blocks.resid_post", cfg.d_model)


def targets_of(declared: Declared, labels: int) -> tuple[tuple[str, ...], list[Float[np.ndarray, "N _"]]]:
    """The label, and variables less their means by label, of those that vary then."""
    label = np.asarray(declared.labels)
    names, targets = ["the label"], [np.eye(labels, dtype=np.float32)[label]]
    for name, value in declared.variables.items():
        z = np.eye(declared.values[name])[np.asarray(value)]
        means = np.stack([z[label == one].mean(0) if (label == one).any() else z[0] for one in range(labels)])
        if ((z - means[label]) ** 2).mean() > VARIES:
            names.append(name)
            targets.append(np.float32(z - means[label]))
    return tuple(names), targets


@lru_cache(maxsize=8)
def _readable(cfg: TransformerConfig, labels: int, widths: tuple[int, ...]) -> Any:
    site, width = read(cfg)

    def one(case: tuple[Params, Array], x: Array, own: Array, targets: tuple[Array, ...]) -> Float[Array, " T"]:
        params, cut = case
        edits = cut_at(cut, mean_embedding(params, x, cfg))
        _, seen = taps.record(lambda: taps.edit(every_row)(edits, params, x, cfg, labels), [site])()
        places = jnp.moveaxis(seen[site], 2, 1).reshape(-1, len(x), width)
        means = own.T / jnp.maximum(own.sum(0), 1.0)[:, None]

        def at(rows: Float[Array, "B D"]) -> Float[Array, " T"]:
            given = rows - own @ (means @ rows)
            return jnp.stack([r_squared(given if i else rows, target) for i, target in enumerate(targets)])

        return jax.lax.map(at, places).max(0)

    return jax.jit(lambda cases, x, own, targets: jax.lax.map(lambda case: one(case, x, own, targets), cases))


def r_squared(x: Float[Array, "B D"], y: Float[Array, "B C"]) -> Float[Array, ""]:
    """1 - Σ (y - ŷ)² / Σ (y - ȳ)², ŷ and ȳ of all other rows; 0 where there is no more to it than the mean."""
    n = len(x)
    x = x - x.mean(0)
    size = jnp.sqrt(jnp.square(x).mean())
    x = x / jnp.where(size > 0, size, 1.0)
    left = y - leave_one_out(x, y, jnp.ones(n), jnp.array([PENALTY * n]))[0]
    without = (y - y.mean(0)) * n / (n - 1)
    return jnp.maximum(1 - jnp.square(left).sum() / jnp.square(without).sum(), 0.0)
