"""What is asked of paths: senders, receivers, and what is computed anew between them and after them.

sender       a head or an MLP of a layer
receiver     "q", "k", "v": what heads ask with, are looked at by, and hand on (of k and v: key/value heads); "mlp": what
             MLPs read; "resid_pre", "resid_mid", "resid_post": the stream at one place; "logits"
receivers    "each" one for itself, all that are after the sender "together", or those that are named, together
between      "nothing", "mlps" or "all" that lies between sender and receiver is computed anew
onward       "all" that lies after the receiver is computed anew, or it speaks to the logits "direct"
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

from interp_jax.errors import InputError, nearest
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.nodes import Axis, Grid

WAYS = ("q", "k", "v")
STREAMS = ("resid_pre", "resid_mid", "resid_post")
RECEIVERS = (*WAYS, "mlp", *STREAMS, "logits")
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


Receivers = str | Sequence[tuple[int, int | None]]  # a word, or (layer, head): None for a layer's MLP


class Senders(NamedTuple):
    """Their layers, and heads or `MLP`."""

    layer: Int[Array | np.ndarray, "*N"]
    head: Int[Array | np.ndarray, "*N"]


class Route(NamedTuple):
    """What is static about a set of paths, which share a program; queries, keys and values are data: `way`.

    Attributes:
      cfg: of the model.
      receiver: "heads", "mlp", "stream" (before and after layers), "mid" or "logits".
      receivers, between, onward: words of `WORDS`.
    """

    cfg: TransformerConfig
    receiver: str
    receivers: str
    between: str
    onward: str

    @property
    def is_early(self) -> bool:
        """Whether a receiver reads the stream before its layer: an MLP that follows attention reads it in the middle."""
        return self.receiver not in ("mlp", "mid") or self.cfg.parallel


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
    if words["receiver"] in STREAMS and words["receivers"] == "together":
        raise InputError(
            "receivers = 'together': a stream hears all that was said before it; ask for the receiver 'logits'"
        )
    if words["receiver"] == "resid_mid" and (cfg.parallel or not cfg.d_mlp):
        raise InputError(
            "receiver = 'resid_mid': nothing lies between attention and MLP in this model; take 'resid_pre'"
        )
    if not cfg.d_mlp and (words["receiver"] == "mlp" or any(s.head is None for s in senders)):
        raise InputError("model.d_mlp = 0: a model without MLPs has none that sends or receives")


def listeners_of(cfg: TransformerConfig, receiver: str, receivers: Receivers) -> Bool[np.ndarray, "L H"]:
    """Which heads (of k and v: the first G of them are key/value heads), or MLPs, hear where several do together.

    Raises:
      InputError: none, or one that the model lacks.
    """
    n, shape = units(cfg, receiver), (cfg.n_layers, cfg.n_heads)  # of one shape, so that all ways share a program
    if isinstance(receivers, str):
        return np.ones(shape, bool)
    found = np.zeros(shape, bool)
    if receiver not in (*WAYS, "mlp"):
        raise InputError(f"receiver = {receiver!r} has no heads or MLPs to name: receivers = 'each'")
    if not len(receivers):
        raise InputError("no receivers: there is no path")
    for layer, head in receivers:
        unit = 0 if receiver == "mlp" and head is None else head
        if unit is None or not 0 <= layer < cfg.n_layers or not 0 <= unit < n:
            raise InputError(f"receiver ({layer}, {head}) of {receiver!r}: the model has {cfg.n_layers} layers of {n}")
        found[layer, unit] = True
    return found


def route_of(cfg: TransformerConfig, words: dict[str, str]) -> Route:
    """The route of a request, which was checked; the logits are one receiver, however it is asked for."""
    kinds = dict.fromkeys(WAYS, "heads") | {"resid_pre": "stream", "resid_mid": "mid", "resid_post": "stream"}
    receiver = kinds.get(words["receiver"], words["receiver"])
    receivers = "each" if receiver == "logits" else words["receivers"]
    return Route(cfg, receiver, receivers, words["between"], words["onward"])


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


def ends_of(route: Route, receiver: str, senders: Senders, listeners: Bool[np.ndarray, "L H"]) -> Ends:
    """All pairs; `receiver` counts those of a layer before those of the next, and is 0 where there is but one.

    Streams after layer l are those before layer l + 1: that is their layer here.
    """
    everyone = np.arange(len(senders.layer))
    if route.receiver == "logits":
        return Ends(everyone, 0 * everyone, 0 * everyone + route.cfg.n_layers)
    # a layer's MLP that follows attention reads what its heads said
    after = int(receiver == "resid_post")
    first = np.asarray(senders.layer) + np.where(route.is_early | (np.asarray(senders.head) == MLP), 1, 0) - after
    if route.receivers == "together":
        later = listeners.any(1) & (np.arange(route.cfg.n_layers) >= first[:, None])
        heard = np.flatnonzero(later.any(1))
        return Ends(heard, 0 * heard, later[heard].argmax(1))
    layers = np.repeat(np.arange(route.cfg.n_layers), units(route.cfg, receiver))
    sender, to = np.nonzero(layers[None] >= first[:, None])
    return Ends(sender, to, layers[to] + after)
