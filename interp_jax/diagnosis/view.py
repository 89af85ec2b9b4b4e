"""What an examiner sees of a model: examples by index, and no more than its tier allows.

    tier    what may be asked
    0       outputs on examples
    1       weights, activations and gradients on examples, and outputs on examples under other weights behind the embedding
    2       activations at layer ≥ 1 replaced by those of other examples, wholly, in part, within a subspace, or by sums of them
    3       anything, inputs and embeddings that are no examples included: a skyline

Asking for more raises `AccessError`. So does running the model past the view, on inputs of one's own, while a diagnosis runs:
`guarded` forbids the sites through which inputs enter, and views of inputs that the harness did not choose. Who writes a
forward pass of his own from the weights, or takes Python's private names apart, is not caught by that.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from interp_jax import taps
from interp_jax.diagnosis.answering import Edits, answers, entered, onwards
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.taps import Edit
from interp_jax.taps.frames import Frame, frames, running
from interp_jax.taps.handlers import Handler

TIERS = {
    0: "outputs",
    1: "weights, activations and gradients",
    2: "interventions at layer ≥ 1 with sources among the examples",
    3: "anything",
}
ENTRIES = ("embed", "blocks.resid_pre")  # sites through which inputs enter a model


class AccessError(InputError):
    """A diagnoser asked for what its tier forbids."""


class Swap(NamedTuple):
    """An intervention: at a site of a layer, what other examples have there in the place of what is there.

    Attributes:
      site: under `blocks.`; layer: 1 or more.
      source: rows of the examples, one for each that is run; None for the mean of all examples; or weights [B P N]: at
        each position a sum of what the N examples have there.
      where: mask that broadcasts to the site's shape; a float one goes that share of the way, 0 to 1. None: everywhere.
      subspace: (read [D K], write [K D]): x + (source - x) read write instead of source.
    """

    site: str
    layer: int
    source: Any = None
    where: Any = None
    subspace: tuple[Any, Any] | None = None


class View:
    """A model as one tier sees it; weights may be traced, and edits are part of it. What is forbidden raises `AccessError`."""

    def __init__(
        self,
        params: Params,
        cfg: TransformerConfig,
        labels: int,
        x: Int[Array | np.ndarray, "N P"],
        tier: int,
        name: str = "",
        edits: Edits | None = None,
    ):
        self._name, self.cfg, self.labels, self.tier = name or "this diagnoser", cfg, labels, tier
        if any(isinstance(one, _Guard) for one in frames()):
            raise AccessError(f"{self._name}: a view of inputs of one's own is made: examples are asked for by index")
        self.__params, self._x, self._edits = params, jnp.asarray(x), edits or {}

    def __setattr__(self, name: str, value: Any) -> None:
        if "_edits" in vars(self):
            raise AccessError(f"{self._name}: {name} of a view is not to be changed")
        object.__setattr__(self, name, value)

    # ------------------------------------------------------------------------------------------------ tier 0

    @property
    def tokens(self) -> Int[Array, "N P"]:
        """The examples, to be looked at."""
        return self._x

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self._x)

    def logits(self, index: Any = None) -> Float[Array, "B C"]:
        """What the model answers to examples (None: to all)."""
        with running([]):
            return self._said(self.__params, self._rows(index))

    # ------------------------------------------------------------------------------------------------ tier 1

    @property
    def weights(self) -> Params:
        """The parameters."""
        self._needs(1)
        return self.__params

    def record(
        self, sites: Mapping[str, Any] | Iterable[str], index: Any = None
    ) -> tuple[Float[Array, "B C"], dict[str, Array]]:
        """Answers and activations; see `taps.record`."""
        self._needs(1)
        with running([]):
            return taps.record(self._answers, sites)(self.__params, self._rows(index))

    def logits_with(self, weights: Params, index: Any = None) -> Float[Array, "B C"]:
        """What the model would answer with other weights; differentiable by them. Those of the embedding are to be its own.

        With others of these an example is read as what is none.
        """
        self._needs(1)
        own, others = (jax.tree.leaves(one.get("embed")) for one in (self.__params, weights))
        if len(own) != len(others) or any(a is not b for a, b in zip(own, others, strict=True)):
            raise AccessError(
                f"{self._name}: other weights are asked for, and those of the embedding are not the model's"
            )
        with running([]):
            return self._said(weights, self._rows(index))

    def input_gradient(
        self, of: Callable[[Float[Array, "B C"]], Float[Array, " B"]], index: Any = None
    ) -> tuple[Float[Array, "B P D"], Float[Array, "B P D"]]:
        """The stream before the first layer, and the gradient there of a number `of` each example's answers."""
        self._needs(1)
        with running([]):
            stream = entered(self.__params, self._edits, self._rows(index), self.cfg)
            told = lambda stream: onwards(self.__params, self._edits, stream, self.cfg, self.labels)
            logits, back = jax.vjp(told, stream)
        return stream, back(jax.grad(lambda logits: of(logits).sum())(logits))[0]

    def untrained(self, key: Key[Array, ""]) -> "View":
        """The same view of a model with weights drawn anew."""
        self._needs(1)
        with running([]):
            params = transformer.init(key, self.cfg)
            return View(params, self.cfg, self.labels, self._x, self.tier, f"an untrained twin of {self._name}")

    # ------------------------------------------------------------------------------------------------ tier 2

    def swapped(self, index: Any, swaps: Sequence[Swap], sites: Mapping[str, Any] | Iterable[str] = ()) -> Any:
        """Answers under interventions, in order; with `sites`, activations under them too."""
        self._needs(2)
        rows = self._rows(index)
        with running([]):
            edits: dict[str, list[Edit]] = {}
            for swap in swaps:
                edits.setdefault(swap.site, []).append(self._edit(swap, len(rows)))
            run = lambda params, x: taps.edit(self._answers)(edits, params, x)
            return taps.record(run, sites)(self.__params, rows) if sites else run(self.__params, rows)

    # ------------------------------------------------------------------------------------------------ tier 3

    def logits_of_tokens(self, x: Int[Array, "B P"]) -> Float[Array, "B C"]:
        """Answers to any inputs."""
        self._needs(3)
        with running([]):
            return self._said(self.__params, x)

    def logits_of_stream(self, stream: Float[Array, "B P D"]) -> Float[Array, "B C"]:
        """Answers from any stream before the first layer."""
        self._needs(3)
        with running([]):
            return onwards(self.__params, self._edits, stream, self.cfg, self.labels)

    def embedded(self, x: Int[Array, "B P"]) -> Float[Array, "B P D"]:
        """The stream before the first layer of any inputs."""
        self._needs(3)
        with running([]):
            return entered(self.__params, self._edits, x, self.cfg)

    # ------------------------------------------------------------------------------------------------

    def _needs(self, tier: int) -> None:
        if tier > self.tier:
            raise AccessError(
                f"{self._name} has tier {self.tier} ({TIERS[self.tier]}) and asks for {TIERS[tier]} (tier {tier})"
            )

    def _rows(self, index: Any) -> Int[Array, "B P"]:
        if index is None:
            return self._x
        shape, dtype = jnp.shape(index), jnp.result_type(index)
        if len(shape) != 1 or not jnp.issubdtype(dtype, jnp.integer):
            raise AccessError(
                f"{self._name}: examples are asked for by index, integers [B], not {dtype} {list(shape)}"
            )
        if (
            not isinstance(index, jax.core.Tracer)
            and (bad := np.asarray(index)[(np.asarray(index) < 0) | (np.asarray(index) >= self.n)]).size
        ):
            raise AccessError(f"{self._name}: there is no example {bad[0]}; they go from 0 to {self.n - 1}")
        return self._x[index]

    def _said(self, params: Params, x: Int[Array, "B P"]) -> Float[Array, "B C"]:
        return answers(params, self._edits, x, self.cfg, self.labels)

    def _answers(self, params: Params, x: Int[Array, "B P"]) -> Float[Array, "B C"]:
        """The same, with all rows of every layer, so that every site is there once."""
        stream = entered(params, self._edits, x, self.cfg)
        return onwards(params, self._edits, stream, self.cfg, self.labels, whole=True)

    def _edit(self, swap: Swap, n: int) -> Edit:
        if not swap.site.startswith("blocks.") or not isinstance(swap.layer, int) or swap.layer < 1:
            raise AccessError(
                f"{self._name}: interventions are at layer 1 or later, not at {swap.site!r}, layer {swap.layer!r}"
            )
        weights = swap.source if swap.source is not None and jnp.ndim(swap.source) == 3 else None
        rows = self._rows(None if weights is not None else swap.source)
        there = taps.record(self._answers, {swap.site: (swap.layer,)})(self.__params, rows)[1][swap.site][0]
        if weights is not None:
            if jnp.shape(weights) != (n, there.shape[1], self.n):
                raise AccessError(
                    f"{self._name}: weights of sources must be {[n, there.shape[1], self.n]}, not {list(jnp.shape(weights))}"
                )
            there = jnp.einsum("bpn,np...->bp...", weights, there)
        there = there.mean(0, keepdims=True) if swap.source is None else there
        if len(there) not in (1, n):
            raise AccessError(f"{self._name}: {len(there)} sources for {n} examples")
        if not isinstance(swap.where, jax.core.Tracer | None) and not _is_share(swap.where):
            raise AccessError(f"{self._name}: where of an intervention is a share, from 0 to 1")
        if swap.subspace is None:
            return Edit("replace", there, swap.where, swap.layer)
        return Edit("erase", (there, *swap.subspace), swap.where, swap.layer)


def _is_share(where: Any) -> bool:
    """Whether all are from 0 to 1."""
    where = np.asarray(where)
    return bool(((where >= 0) & (where <= 1)).all())


class _Forbid(Handler):
    """Raises where an input enters a model."""

    def act(self, x: Any, site: str, layer: Any) -> tuple[Any, Any]:
        raise AccessError(f"the model is run past the view (at {site!r}): examples are asked for by index")


class _Guard(Frame):
    """Says the same where JAX's transformations lie between."""

    def require_same_trace(self, site: str) -> None:
        self.handler.act(None, site, None)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Within it, no transformer runs but through a view."""
    with running([*frames(), _Guard(_Forbid(dict.fromkeys(ENTRIES, ...)))]):
        yield
