"""Whether a model uses what can be read: it is erased from the stream at one place, and the loss is measured again.

    x  ──►  x - (x - x̄) R W    at every position             see `probes/erasure/`, `probes/reliance.py`

    effect      R W takes out all that a linear probe could read of the variable (LEACE: Belrose et al. 2023)
    control     R W takes out as many directions of the whitened stream, drawn at random: what it costs to lose any of them
    reliance    loss with the effect's edit, less the mean of those with the control's
    scrubbed    the same with an edit at every layer, each for what the earlier ones leave (`probes/scrubbing.py`); its control
                takes as many random directions of every layer

("amnesic probing": Elazar, Ravfogel, Jacovi and Goldberg 2021). A reliance whose p is small says that the model loses more
with the variable than it would with other directions; it need not say that it reads this very code.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Real

from interp_jax.activations.moment_harvest import Labelled, one_hot
from interp_jax.activations.moments import Moments, streamed
from interp_jax.data.probing.variables import known
from interp_jax.experiments.dictionaries.subject import vectors
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.probes.erasure.eraser import Eraser, ranks, stacked
from interp_jax.probes.erasure.linear import least_change, random_like, shrunk
from interp_jax.probes.reliance import Behaviour, measured
from interp_jax.probes.scrubbing import Model, scrubbed
from interp_jax.train.language import next_token_losses

SHRINKAGE = "oas"  # of the covariance: few tokens may have a label


class Erasers(NamedTuple):
    """Of a variable at a place.

    Attributes:
      each: the variable's, then random ones; leading axis 1+R.
      rank: how many directions each takes out.
      taken, taken_at_random: the share of the variance that goes with them.
    """

    each: list[Eraser]
    rank: int
    taken: float
    taken_at_random: float


def targets_of(
    labels: Real[np.ndarray, "*N"], n_classes: int
) -> tuple[Float[np.ndarray, "*N T"], Float[np.ndarray, "*N"]]:
    """What is erased: 1 for the own of so many classes, or a number first and else 0; weights, 0 where there is no label."""
    there = known(labels)
    if labels.dtype.kind != "f":
        return one_hot(labels, n_classes), there.astype(np.float32)
    z = np.zeros((*labels.shape, max(n_classes, 1)), np.float32)
    z[..., 0] = np.where(there, labels, 0)
    return z, there.astype(np.float32)


def erasers(x: Float[Array, "B D"], labels: Real[np.ndarray, " B"], n_classes: int, draws: int, seed: int) -> Erasers:
    """What erases a variable, and then as many random directions in each of some draws.

    Args:
      x: tokens of a place.
      labels: theirs; those without one do not count.
      n_classes: of the labels; of numbers any.
      draws: of the control.
      seed: of these.
    """
    moments = streamed([(x, *targets_of(labels, n_classes))])
    own = least_change(moments, SHRINKAGE)
    drawn = random_like(own, seed, draws, shrunk(moments, SHRINKAGE))
    each = [own, *(Eraser(*(part[n] for part in drawn)) for n in range(draws))]
    shares = [taken(one, moments) for one in each]
    return Erasers(each, int(ranks(own)), shares[0], float(np.mean(shares[1:])))


def taken(eraser: Eraser, moments: Moments) -> float:
    """Mean squared length of what is taken out, as a share of the variance."""
    there = eraser.read.T @ moments.covariance @ eraser.read
    return float(np.trace(eraser.write.T @ there @ eraser.write) / np.trace(moments.covariance))


def scrubbers(
    params: Params,
    windows: list[Labelled],
    site: str,
    cfg: TransformerConfig,
    draws: int,
    seed: int,
) -> list[Eraser]:
    """What scrubs a variable from every layer, and then the controls of some draws; leading axis of layers.

    Args:
      params: of the model.
      windows: with one-hot targets.
      site: in every layer.
      cfg: of the model.
      draws: of the control.
      seed: of these.
    """
    drawn: list[Eraser] = []

    def fit(moments: Moments) -> Eraser:
        own = least_change(moments, SHRINKAGE)
        drawn.append(random_like(own, (seed, len(drawn)), draws, shrunk(moments, SHRINKAGE)))
        return own

    width = vectors(cfg)[site]
    own = scrubbed(stream_of(cfg), params, site, lambda: windows, fit, min(windows[0].targets.shape[-1], width))
    by_layer = [np.stack(part, 1) for part in zip(*drawn, strict=True)]
    return [own, *(Eraser(*(part[n] for part in by_layer)) for n in range(draws))]


def token_losses_under(
    params: Params,
    tokens: Int[Array, "W P"],
    site: str,
    layers: Int[np.ndarray, " U"] | None,
    made: list[list[Eraser]],
    cfg: TransformerConfig,
) -> tuple[Float[np.ndarray, "W P-1"], Float[np.ndarray, "E U W P-1"]]:
    """The loss of every token but the first: without an edit; with each eraser of each variable. All of them one program.

    Args:
      params: of the model.
      tokens: of windows, with padding on the right if at all.
      site: which is edited.
      layers: of each variable's place; None where its erasers are of all layers.
      made: of each variable its eraser, and those of the controls.
      cfg: of the model.
    """
    own, *drawn = (stacked(list(kind)) for kind in zip(*made, strict=True))
    controls = Eraser(*(np.stack(part) for part in zip(*drawn, strict=True)))
    shape = (tokens.shape[0], tokens.shape[1] - 1)
    found = measured(behaviour_of(cfg), (params, tokens), site, own, controls, layers, devices=jax.devices()[:1])
    edited = np.concatenate([found.erased[None], found.control])
    return found.clean.reshape(shape), edited.reshape(*edited.shape[:2], *shape)


@lru_cache(maxsize=8)
def behaviour_of(cfg: TransformerConfig) -> Behaviour:
    """The losses of all tokens but the first of each window, one after the other."""
    return lambda params, tokens: next_token_losses(params, tokens, cfg).reshape(-1)


@lru_cache(maxsize=8)
def stream_of(cfg: TransformerConfig) -> Model:
    """The stream, with taps."""
    return lambda params, tokens: transformer.stream(params, tokens, cfg)
