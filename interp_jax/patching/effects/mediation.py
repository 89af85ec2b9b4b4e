"""What goes through a node and what goes past it: total, direct and indirect effects of patching (mediation analysis).

With "clean" for the treatment and the corrupted run for the baseline, of each example's metric

    total             TE  = clean    - corrupted
    indirect          NIE = denoised - corrupted      the node alone is clean                 (denoising shows it)
    direct            NDE = noised   - corrupted      everything but the node is clean        (noising shows it)
    total indirect    TIE = clean - noised            TE = NDE + TIE: what noising the node takes away
    total direct      TDE = clean - denoised          TE = NIE + TDE: what denoising the node leaves missing
    interaction       TE - NDE - NIE = TIE - NIE      > 0: the node works only along with others; < 0: others back it up

Natural effects: Pearl 2001, "Direct and Indirect Effects"; the two decompositions: Robins and Greenland 1992; of language
models: Vig et al. 2020. Means over examples are divided by the mean total effect, never example by example, since one example
whose two runs are alike would swamp all others.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from interp_jax.errors import InputError
from interp_jax.patching.effects.intervals import bootstrap_interval
from interp_jax.patching.effects.significance import benjamini_hochberg, holm, sign_flip_test
from interp_jax.patching.metrics import check_finite


class Effects(NamedTuple):
    """Effects in the units of the metric, each [*cells B] but for `total`, [B]; without B where they are means.

    Attributes:
      total: TE; indirect: NIE; direct: NDE; total_indirect: TIE; total_direct: TDE; interaction: TE - NDE - NIE.
    """

    total: Float[Array | np.ndarray, "..."]
    indirect: Float[Array | np.ndarray, "..."]
    direct: Float[Array | np.ndarray, "..."]
    total_indirect: Float[Array | np.ndarray, "..."]
    total_direct: Float[Array | np.ndarray, "..."]
    interaction: Float[Array | np.ndarray, "..."]


def mediation_effects(
    clean: Float[Array | np.ndarray, " B"],
    corrupted: Float[Array | np.ndarray, " _"],
    denoised: Float[Array | np.ndarray, "*cells _"],
    noised: Float[Array | np.ndarray, "..."],
) -> Effects:
    """Every example's effects.

    Args:
      clean: the metric of the clean runs, [B].
      corrupted: of the corrupted ones, [B].
      denoised: of corrupted runs into which a cell's node is patched from the clean one, [*cells B].
      noised: of clean runs into which it is patched from the corrupted one; the same cells.

    Raises:
      InputError: different numbers of examples or cells; a metric that is not finite, with the example's index.
    """
    runs = {"clean": clean, "corrupted": corrupted, "denoised": denoised, "noised": noised}
    for name, values in runs.items():
        if values.shape[-1] != len(clean):
            raise InputError(f"the {name} metric is of {values.shape[-1]} examples, the clean one of {len(clean)}")
        if not isinstance(values, Tracer):
            check_finite(values, name)
    if denoised.shape != noised.shape:
        raise InputError(f"denoised cells are {denoised.shape[:-1]}, noised ones {noised.shape[:-1]}: not the same")
    total, indirect, direct = clean - corrupted, denoised - corrupted, noised - corrupted
    return Effects(total, indirect, direct, clean - noised, clean - denoised, total - direct - indirect)


def mean_effects(effects: Effects) -> Effects:
    """Means over examples: [*cells], and a scalar for `total`."""
    return Effects(*(part.mean(-1) for part in effects))


def normalised_effects(effects: Effects) -> Effects:
    """Mean effects as shares of the mean total effect, whose own share is 1.

    Raises:
      InputError: the mean total effect is 0.
    """
    means = mean_effects(effects)
    if not isinstance(means.total, Tracer) and float(means.total) == 0.0:
        raise InputError("the mean total effect is 0: there is nothing to take shares of")
    return Effects(*(part / means.total for part in means))


class Assessment(NamedTuple):
    """A grid of mean effects with what chance would say of it, each [*cells].

    Attributes:
      mean: over examples; low, high: its interval, by the default of `bootstrap_interval`.
      p: two-sided sign-flip p-value of a cell by itself.
      holm, family_wise: p-values that bound the chance of even one false cell in the grid, by Holm's rule and, sharper
        where cells are correlated, by the maximum over cells.
      false_discovery: p-values that bound the expected share of false cells among those called (Benjamini and Hochberg).
    """

    mean: Float[Array | np.ndarray, "*cells"]
    low: Float[Array | np.ndarray, "*cells"]
    high: Float[Array | np.ndarray, "*cells"]
    p: Float[Array | np.ndarray, "*cells"]
    holm: Float[Array | np.ndarray, "*cells"]
    family_wise: Float[Array | np.ndarray, "*cells"]
    false_discovery: Float[Array | np.ndarray, "*cells"]


def assess(effects: Float[Array | np.ndarray, "*cells B"], seed: int = 0, level: float = 0.95) -> Assessment:
    """Intervals and p-values of a grid's mean effects, all cells being one family.

    Errors are those of `bootstrap_interval` and `sign_flip_test`, which it calls with their defaults.
    """
    interval = bootstrap_interval(effects, seed, level)
    test = sign_flip_test(effects, seed)
    return Assessment(*interval, test.p, holm(test.p), test.family_wise, benjamini_hochberg(test.p))


class AgainstRandom(NamedTuple):
    """Effects beside those of random nodes.

    Attributes:
      size: (mean effect - mean of random nodes' mean effects) / their standard deviation; ± inf where random nodes do
        not differ at all.
      share: (1 + number of random nodes whose mean effect is at least as far from 0) / (1 + number of random nodes);
        a p-value, if the node was not chosen for its effect.
    """

    size: Float[Array | np.ndarray, "*cells"]
    share: Float[Array | np.ndarray, "*cells"]


def against_random(
    effects: Float[Array | np.ndarray, "*cells B"], random: Float[Array | np.ndarray, "N B"]
) -> AgainstRandom:
    """How a cell's mean effect stands out from those of `random` nodes, directions or subspaces.

    Raises:
      InputError: fewer than two random nodes.
    """
    if len(random) < 2:
        raise InputError(f"{len(random)} random nodes have no spread: give at least 2, better 100")
    mean, chance = jnp.asarray(effects).mean(-1), jnp.asarray(random).mean(-1)
    above = mean - chance.mean()
    size = jnp.where(above == 0, 0.0, above / chance.std(ddof=1))
    as_strong = (jnp.abs(chance) >= jnp.abs(mean)[..., None]).sum(-1)
    return AgainstRandom(size, (1 + as_strong) / (1 + len(random)))
