"""Whether a model uses what can be read: it is erased from the stream at one place, and the loss is measured again.

    x  ──►  x - (x - x̄) R W    at every position             see `probes/erasure/`, `probes/reliance.py`

    effect      R W takes out what can be read of the variable, in one of the ways of `erasers.py`
    control     the same of directions at random, or of labels in another order: what it costs to lose any
    reliance    loss with the effect's edit, less the mean of those with the control's
    scrubbed    the same with an edit at every layer, each for what the earlier ones leave (`probes/scrubbing.py`); its control
                takes as many random directions of every layer

("amnesic probing": Elazar, Ravfogel, Jacovi and Goldberg 2021). A reliance whose p is small says that the model loses more
with the variable than it would with other directions; it need not say that it reads this very code.
"""

from collections.abc import Sequence
from functools import lru_cache, partial

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax.activations.moment_harvest import Labelled
from interp_jax.activations.moments import Moments
from interp_jax.experiments.dictionaries.subject import vectors
from interp_jax.experiments.probing.erasers import BY_MOMENTS, Edits, random_beside, rank_of
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.probes.erasure.eraser import Eraser, stacked
from interp_jax.probes.removal import Behaviour, measured, measured_under
from interp_jax.probes.scrubbing import Model, scrubbed
from interp_jax.train.language import next_token_losses


def scrubbers(
    params: Params,
    windows: list[Labelled],
    site: str,
    cfg: TransformerConfig,
    draws: int,
    seed: int,
    kind: str = "leace",
) -> list[Eraser]:
    """What scrubs a variable from every layer, and then the controls of some draws; leading axis of layers.

    Args:
      params: of the model.
      windows: with one-hot targets.
      site: in every layer.
      cfg: of the model.
      draws: of the control.
      seed: of these.
      kind: one of `erasers.BY_MOMENTS`.
    """
    drawn: list[Eraser] = []

    def fit(moments: Moments) -> Eraser:
        own = BY_MOMENTS[kind](moments)
        drawn.append(random_beside(kind, own, moments, (seed, len(drawn)), draws))
        return own

    rank = rank_of(kind, windows[0].targets.shape[-1], vectors(cfg)[site])
    own = scrubbed(stream_of(cfg), params, site, lambda: windows, fit, rank)
    by_layer = [np.stack(part, 1) for part in zip(*drawn, strict=True)]
    return [own, *(Eraser(*(part[n] for part in by_layer)) for n in range(draws))]


def token_losses_under(
    params: Params,
    tokens: Int[Array, "W P"],
    site: str,
    layers: Int[np.ndarray, " U"] | None,
    made: Sequence[Sequence[Eraser | Edits]],
    cfg: TransformerConfig,
) -> tuple[Float[np.ndarray, "W P-1"], Float[np.ndarray, "E U W P-1"]]:
    """The loss of every token but the first: without an edit; with each eraser of each variable. All of them one program.

    Args:
      params: of the model.
      tokens: of windows, with padding on the right if at all.
      site: which is edited.
      layers: of each variable's place; None where its erasers are of all layers.
      made: of each variable its eraser, and those of the controls; or its edits, which are then one program for each variable.
      cfg: of the model.
    """
    shape = (tokens.shape[0], tokens.shape[1] - 1)
    if not isinstance(made[0][0], Eraser):
        under = partial(measured_under, behaviour_of(cfg), (params, tokens), site, devices=jax.devices()[:1])
        each = [under([own], [[one] for one in drawn]) for own, *drawn in made]
        edited = np.stack([np.concatenate([one.erased, one.control[:, 0]]) for one in each], 1)
        return each[0].clean.reshape(shape), edited.reshape(*edited.shape[:2], *shape)
    own, *drawn = (stacked(list(kind)) for kind in zip(*made, strict=True))
    controls = Eraser(*(np.stack(part) for part in zip(*drawn, strict=True)))
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
