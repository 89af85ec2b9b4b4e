"""Through which heads, neurons and features a shortcut goes: conductance of the change that cutting its positions makes.

    m_c = mean over D_ID of  Σ ∫_0^1 ∂ logit / ∂ a_c (s) · (-da_c / ds) ds            logit: of the label, less the mean of all

a_c (s) is what a part says where the diagnosed positions have lost the share s of what they carry beyond the declared rule; the
sum is over positions and, of a head, over its width. Above 0: it carries the shortcut to the answer (Dhamdhere et al. 2019;
with one step it is attribution patching). Parts of one layer share the whole change among them.

A position loses a share by putting so much of the mean embedding over D_ID in its token's place.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import taps
from interp_jax.diagnosis.answering import Edits, every_row
from interp_jax.diagnosis.ward import Diagnosis, Exercises, Ward, beyond
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.taps import Edit

HEADS, NEURONS = "blocks.attn.z", "blocks.mlp.post"
STEPS = 6


def mean_embedding(params: Params, x: Int[Array, "N P"], cfg: TransformerConfig) -> Float[Array, "1 P D"]:
    """Of tokens at each position."""
    _, seen = taps.record(transformer.embed, ["embed"])(params, x, cfg)
    return seen["embed"].mean(0, keepdims=True)


def cut_at(share: Float[Array, " P"], mean: Float[Array, "1 P D"]) -> Edits:
    """Tokens at positions replaced by the mean, to a share of each."""
    return {"embed": (Edit("replace", mean, share[None, :, None]),)}


def conductance(
    params: Params,
    cut: Float[Array, " P"],
    sites: tuple[str, ...],
    x: Int[Array, "B P"],
    label: Int[Array, " B"],
    cfg: TransformerConfig,
    labels: int,
) -> dict[str, Float[Array, "L B ..."]]:
    """What goes through each activation at sites of all layers, in every example."""
    own, mean = jax.nn.one_hot(label, labels) - 1 / labels, mean_embedding(params, x, cfg)
    run = lambda edits: taps.edit(lambda: every_row(params, x, cfg, labels))(edits)

    def seen_at(share: Float[Array, ""]) -> dict[str, Array]:
        return taps.record(run, sites)(cut_at(share * cut, mean))[1]

    def gradient_at(share: Float[Array, ""]) -> dict[str, Array]:
        def told(offsets: dict[str, Array]) -> Float[Array, ""]:
            added = {site: (Edit("add", value),) for site, value in offsets.items()}
            return (own * run({**cut_at(share * cut, mean), **added})).sum()

        return jax.grad(told)(zeros)

    def step(carry: Any, k: Array) -> tuple[Any, None]:
        before, total = carry
        after, gradient = seen_at((k + 1) / STEPS), gradient_at((k + 0.5) / STEPS)
        return (after, jax.tree.map(lambda t, a, b, g: t + (b - a) * g, total, after, before, gradient)), None

    first = seen_at(jnp.zeros(()))
    zeros = jax.tree.map(jnp.zeros_like, first)
    return jax.lax.scan(step, (first, zeros), jnp.arange(STEPS))[0][1]


@lru_cache(maxsize=8)
def _parts(cfg: TransformerConfig, labels: int) -> Any:
    sites = (HEADS, NEURONS) if cfg.d_mlp else (HEADS,)

    def one(case: tuple[Params, Array], x: Array, label: Array) -> tuple[Array, Array]:
        params, cut = case
        found = conductance(params, cut, sites, x, label, cfg, labels)
        heads = found[HEADS].sum((2, 4)).mean(1)
        neurons = found[NEURONS].sum(2).mean(1) if cfg.d_mlp else jnp.zeros((cfg.n_layers, 0))
        return heads, neurons

    return jax.jit(lambda params, cut, x, label: jax.lax.map(lambda case: one(case, x, label), (params, cut)))


def diagnosed(ward: Ward, positions: Float[np.ndarray, "R P"], exercises: Exercises) -> Diagnosis:
    """The diagnosis that positions make, with the parts through which they act.

    Args:
      ward: the patients.
      positions: what a diagnoser says of each, larger for more of the shortcut, 0 and below for none.
      exercises: inputs of D_ID.
    """
    cut, rows = beyond(positions, exercises), exercises.some()
    found = _parts(ward.cfg, ward.labels)(ward.params, cut, exercises.x[rows], exercises.label[rows])
    heads, neurons = (np.asarray(one) for one in found)
    return Diagnosis(np.asarray(positions), cut, heads, neurons)
