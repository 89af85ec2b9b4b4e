"""Dose and response: what edits do to what is wanted, and to everything else, for many edits as one program.

    wanted     Σ_p w_p log Σ_{v in class} q'_p(v)              by class and window: log-probability of a class of tokens
    kl         Σ_p u_p Σ_v q_p(v) log (q_p(v) / q'_p(v))       likewise, in nats; q without the edit, q' with it

Sums, not means: windows differ in how many positions count, and what is averaged over files must be a ratio of sums. An edit
that has no effect has the sums of no edit, and a divergence of 0.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.steering.interventions import Edits
from interp_jax.train.population import pad_members, population

Model = Callable[[Any, Int[Array, "W P"]], Float[Array, "W P V"]]


class Text(NamedTuple):
    """On what responses are measured, for T classes of tokens.

    Attributes:
      tokens: windows.
      classes: the tokens of each class.
      wanted: w, weights of the positions after which each class is wanted.
      elsewhere: u, weights of the positions after which nothing is to change, for each class.
    """

    tokens: Int[Array | np.ndarray, "W P"]
    classes: Bool[Array | np.ndarray, "T V"]
    wanted: Float[Array | np.ndarray, "T W P"]
    elsewhere: Float[Array | np.ndarray, "T W P"]


class Response(NamedTuple):
    """Sums over positions, see the module; leading axes are those of edits."""

    wanted: Float[Array | np.ndarray, "*R T W"]
    kl: Float[Array | np.ndarray, "*R T W"]


def class_log_probability(logits: Float[Array, "*B V"], classes: Bool[Array, "T V"]) -> Float[Array, "T *B"]:
    """Log Σ_{v in class} q(v), of each class."""
    own = jax.vmap(lambda one: jax.nn.logsumexp(jnp.where(one, logits, -jnp.inf), axis=-1))(classes)
    return own - jax.nn.logsumexp(logits, axis=-1)


def response(after: Float[Array, "W P V"], before: Float[Array, "W P V"], text: Text) -> Response:
    """Of logits with an edit, beside those without."""
    wanted = (text.wanted * class_log_probability(after, jnp.asarray(text.classes))).sum(-1)
    q, said = jax.nn.log_softmax(before), jax.nn.log_softmax(after)
    divergence = (jnp.exp(q) * (q - said)).sum(-1)
    return Response(wanted, (text.elsewhere * divergence).sum(-1))


def check_text(text: Text) -> None:
    """Raise `InputError` for a class without tokens, and one that no position asks for."""
    for t, (own, wanted, elsewhere) in enumerate(zip(text.classes, text.wanted, text.elsewhere, strict=True)):
        if not np.asarray(own).any():
            raise InputError(f"class {t} of the text has no token, so its log-probability is -inf")
        if not np.asarray(wanted).any() or not np.asarray(elsewhere).any():
            raise InputError(
                f"class {t} of the text has no position at which it is wanted, or none at which it is not"
            )


@partial(jax.jit, static_argnames=("model", "batch", "devices"))
def dose_response(
    model: Model,
    params: Any,
    text: Text,
    groups: Mapping[str, Edits],
    batch: int = 1,
    devices: tuple[jax.Device, ...] | None = None,
) -> tuple[Response, dict[str, Response]]:
    """The response without an edit, [T W], and those of every edit, by group, [R T W]: one program.

    Args:
      model: (parameters, tokens) -> logits, with taps; static.
      params: of the model.
      text: see `Text`.
      groups: by name, edits of one form whose arrays have a leading axis R: doses, directions, layers, in any order.
      batch: edits at once.
      devices: those to spread edits over; the first by default.
    """
    devices = tuple(jax.devices()[:1]) if devices is None else devices
    before = model(params, text.tokens)

    def one(edits: Any, shared: Any) -> Response:
        params, text, before = shared
        return response(taps.edit(partial(model, params))(edits, text.tokens), before, text)

    found = {}
    for name, edits in groups.items():
        n = jax.tree.leaves(edits)[0].shape[0]
        members = jax.tree.map(jnp.asarray, pad_members(edits, len(devices)))
        many = population(one, batch, devices)(members, (params, text, before))
        found[name] = jax.tree.map(lambda x, n=n: x[:n], many)
    return response(before, before, text), found


class AtEqual(NamedTuple):
    """What is wanted where the divergence is a given one, and the dose that it takes; NaN where no dose reaches it."""

    effect: Float[np.ndarray, "*N"]
    dose: Float[np.ndarray, "*N"]


def at_equal_divergence(
    doses: Float[np.ndarray, " X"],
    effect: Float[np.ndarray, "*N X"],
    kl: Float[np.ndarray, "*N X"],
    bound: float,
) -> AtEqual:
    """Read off curves over rising doses at the first crossing of the bound, linearly in √KL, which is linear in small doses.

    A dose of 0, with effect 0 and KL 0, goes before the first.
    """
    lead = effect.shape[:-1]
    pad = lambda x: np.concatenate([np.zeros((*lead, 1)), np.broadcast_to(x, (*lead, len(doses)))], -1)
    effect, root, dose = pad(effect), np.sqrt(np.maximum(pad(kl), 0)), pad(doses)
    beyond = root >= np.sqrt(bound)
    i = beyond.argmax(-1)[..., None]
    at = lambda x, k: np.take_along_axis(x, np.maximum(k, 0), -1)[..., 0]
    low, high = at(root, i - 1), at(root, i)
    share = (np.sqrt(bound) - low) / np.where(high > low, high - low, 1.0)
    between = lambda x: np.where(beyond.any(-1), at(x, i - 1) + share * (at(x, i) - at(x, i - 1)), np.nan)
    return AtEqual(between(effect), between(dose))
