"""What is asked of paths: senders, receivers, and what is computed anew between them and after them.

sender       a head or an MLP of a layer
receiver     "q", "k", "v": what heads ask with, are looked at by, and hand on (of k and v: key/value heads); "mlp": what
             MLPs read; "logits"
receivers    "each" one for itself, or all that are after the sender "together"
between      "nothing", "mlps" or "all" that lies between sender and receiver is computed anew
onward       "all" that lies after the receiver is computed anew, or it speaks to the logits "direct"
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int

from interp_jax.errors import InputError, nearest
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.nodes import Axis, Grid

WAYS = ("q", "k", "v")
RECEIVERS = (*WAYS, "mlp", "logits")
WORDS = {
    "receiver": RECEIVERS,
    "receivers": ("each", "together"),
    "between": ("nothing", "mlps", "all"),
    "onward": ("all", "direct"),
}
MLP = -1  # in the place of a head


class Sender(NamedTuple):
    """A head of a layer, or its MLP where `head` is None."""

    layer: int
    head: int | None = None


class Senders(NamedTuple):
    """Their layers, and heads or `MLP`."""

    layer: Int[Array | np.ndarray, "*N"]
    head: Int[Array | np.ndarray, "*N"]


class Route(NamedTuple):
    """What is static about a set of paths, which share a program; queries, keys and values are data: `way`.

    Attributes:
      cfg: of the model.
      receiver: "heads", "mlp" or "logits".
      receivers, between, onward: words of `WORDS`.
    """

    cfg: TransformerConfig
    receiver: str
    receivers: str
    between: str
    onward: str

    @property
    def is_early(self) -> bool:
        """Whether a receiver reads the stream before its layer: an MLP that follows attention reads it later."""
        return self.receiver != "mlp" or self.cfg.parallel


class Ends(NamedTuple):
    """Pairs of which one is after the other: indices of sender and receiver, and the (first) layer of the receiver."""

    sender: Int[np.ndarray, " N"]
    receiver: Int[np.ndarray, " N"]
    layer: Int[np.ndarray, " N"]


def check_request(cfg: TransformerConfig, senders: Sequence[Sender], words: dict[str, str]) -> None:
    """Raise `InputError` for what cannot be asked; `words` as in `WORDS`."""
    for name, value in words.items():
        if value not in WORDS[name]:
            raise InputError(f"{name} = {value!r}: {nearest(value, WORDS[name])}")
    if cfg.placement == "post":
        raise InputError("model.placement = 'post': norms rescale the stream after each layer, so no path is direct")
    if not senders:
        raise InputError("no senders: there is no path")
    for sender in senders:
        head_ok = sender.head is None or 0 <= sender.head < cfg.n_heads
        if not 0 <= sender.layer < cfg.n_layers or not head_ok:
            raise InputError(f"{sender}: the model has {cfg.n_layers} layers of {cfg.n_heads} heads")
    if not cfg.d_mlp and (words["receiver"] == "mlp" or any(s.head is None for s in senders)):
        raise InputError("model.d_mlp = 0: a model without MLPs has none that sends or receives")


def route_of(cfg: TransformerConfig, words: dict[str, str]) -> Route:
    """The route of a request, which was checked; the logits are one receiver, however it is asked for."""
    of_heads, of_logits = words["receiver"] in WAYS, words["receiver"] == "logits"
    receivers = "each" if of_logits else words["receivers"]
    return Route(cfg, "heads" if of_heads else words["receiver"], receivers, words["between"], words["onward"])


def numbers_of(senders: Sequence[Sender]) -> Senders:
    """Senders as arrays."""
    heads = [MLP if sender.head is None else sender.head for sender in senders]
    return Senders(np.array([sender.layer for sender in senders], np.int32), np.array(heads, np.int32))


def grid_of(route: Route, receiver: str, senders: Sequence[Sender]) -> Grid:
    """The axes of the result."""
    names = tuple(f"mlp {s.layer}" if s.head is None else f"{s.layer}.{s.head}" for s in senders)
    axes = [Axis("sender", names)]
    if route.receiver != "logits" and route.receivers == "each":
        axes.append(Axis("layer", tuple(map(str, range(route.cfg.n_layers)))))
        if route.receiver == "heads":
            axes.append(Axis("head", tuple(map(str, range(units(route.cfg, receiver))))))
    return Grid(f"paths to {receiver}", tuple(axes), {})


def units(cfg: TransformerConfig, receiver: str) -> int:
    """Receivers of a layer: heads, key/value heads, or one."""
    return {"q": cfg.n_heads, "k": cfg.n_groups, "v": cfg.n_groups}.get(receiver, 1)


def ends_of(route: Route, receiver: str, senders: Senders) -> Ends:
    """All pairs; `receiver` counts those of a layer before those of the next, and is 0 where there is but one."""
    everyone = np.arange(len(senders.layer))
    if route.receiver == "logits":
        return Ends(everyone, 0 * everyone, 0 * everyone + route.cfg.n_layers)
    # a layer's MLP that follows attention reads what its heads said
    first = np.asarray(senders.layer) + np.where(route.is_early | (np.asarray(senders.head) == MLP), 1, 0)
    if route.receivers == "together":
        heard = np.flatnonzero(first < route.cfg.n_layers)
        return Ends(heard, 0 * heard, first[heard])
    layers = np.repeat(np.arange(route.cfg.n_layers), units(route.cfg, receiver))
    sender, to = np.nonzero(layers[None] >= first[:, None])
    return Ends(sender, to, layers[to])
