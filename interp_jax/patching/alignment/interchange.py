"""Interchange interventions: part of what a model computes on one input is set to what it computes on another.

    x ← x + R diag(m) Rᵀ (x_source - x)         at one site, one layer, and the positions `where`

with orthonormal columns R [D, K] and a weight m in [0, 1] per column (Geiger et al. 2021, 2023). Where the variable that R
holds decides the answer, the answer becomes the counterfactual one. Sources do not depend on R: they are recorded once.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from interp_jax import taps
from interp_jax.data.contrast.pairs import END, Pairs, marked
from interp_jax.errors import InputError, nearest
from interp_jax.models import bounds, sites, transformer
from interp_jax.models.circuit_truth import Prompts
from interp_jax.models.transformer import Params, TransformerConfig

BLOCK = 32  # sequences that sources are recorded on at once
Ids = Integer[Array | np.ndarray, "N P"]
Labels = Integer[Array | np.ndarray, " N"]


class Interchanges(NamedTuple):
    """What is asked of the model: N pairs of inputs that line up position by position.

    Attributes:
      base, source: [N P], the tokens of the run that is changed, and of the one that the change comes from.
      counterfactual, answer: [N], the right token after the interchange, and the base's own.
      at: [N], the column whose logits are read.
      where: [Q #N P], sets of positions to interchange at; a member of a population takes one of the Q.
      positions: [#N P], -1 for padding; None for 0, 1, …
    """

    base: Ids
    source: Ids
    counterfactual: Labels
    answer: Labels
    at: Labels
    where: Bool[Array | np.ndarray, "Q #N P"]
    positions: Integer[Array | np.ndarray, "#N P"] | None = None


class Shared(NamedTuple):
    """What all members read: the model, the pairs, and `sources` [N S P D] at the `layers` [S] that are used."""

    params: Params
    data: Interchanges
    layers: Int[Array, " S"]
    sources: Float[Array, "N S P D"]


class Swap(NamedTuple):
    """One interchange: the layer, the choice among `where`, R, a weight per column, or `whole` for all of the site."""

    layer: Integer[Array, ""]
    place: Integer[Array, ""]
    basis: Float[Array, "D K"]
    weights: Float[Array, " K"]
    whole: Bool[Array, ""]


def from_pairs(pairs: Pairs, places: Sequence[str | Sequence[str]]) -> Interchanges:
    """Interchanges of contrast pairs: the clean prompt is the source, the corrupted one the base, END is read.

    The first of `answers` and of `others` count. `places` gives the choices of positions, each a place or several.

    Raises:
      InputError: the pairs have no such place.
    """
    where = [marked(pairs, *([names] if isinstance(names, str) else names)) for names in places]
    positions = np.asarray(pairs.positions)
    return Interchanges(
        pairs.corrupted,
        pairs.clean,
        pairs.answers[:, 0],
        pairs.others[:, 0],
        pairs.places[END],
        np.asarray(where),
        None if (positions == np.arange(positions.shape[1])).all() else positions,
    )


def from_prompts(prompts: Prompts, columns: Sequence[int]) -> Interchanges:
    """Interchanges of prompts without padding: the clean one is the source, the last column is read.

    Each of `columns` is a choice of where.
    """
    n, P = np.shape(prompts.clean)
    where = np.arange(P) == np.asarray(columns)[:, None, None]
    ends = np.full(n, P - 1)
    return Interchanges(prompts.corrupted, prompts.clean, prompts.answers[:, 0], prompts.others[:, 0], ends, where)


def check_interchanges(data: Interchanges, cfg: TransformerConfig, params: Params) -> None:
    """Raise `InputError` for pairs, labels and places that cannot be."""
    base, source, where = np.shape(data.base), np.shape(data.source), np.shape(data.where)
    if base != source:
        raise InputError(f"base tokens are {list(base)}, source tokens {list(source)}: pairs must line up")
    if len(where) != 3 or where[0] < 1 or where[1] not in (1, base[0]) or where[2] != base[1]:
        raise InputError(f"where is {list(where)}; for tokens {list(base)} it must be [choices, 1 or N, P]")
    for name, top in (("counterfactual", cfg.d_vocab), ("answer", cfg.d_vocab), ("at", base[1])):
        values = np.asarray(getattr(data, name))
        if values.shape != base[:1]:
            raise InputError(f"{name} is {list(values.shape)} for {base[0]} pairs")
        if len(bad := np.flatnonzero((values < 0) | (values >= top))):
            raise InputError(f"{name} of pair {bad[0]} is {values[bad[0]]}: it goes from 0 to {top - 1}")
    if data.positions is not None:
        padding = np.broadcast_to(np.asarray(data.positions) < 0, base)
        if len(bad := np.argwhere(np.asarray(data.where, bool) & padding)):
            choice, pair, column = map(int, bad[0])
            raise InputError(f"where: choice {choice} takes column {column} of pair {pair}, which is padding")
        if len(bad := np.flatnonzero(padding[np.arange(base[0]), np.asarray(data.at)])):
            raise InputError(f"at of pair {bad[0]} is {int(data.at[bad[0]])}, which is padding")
    for tokens in (data.base, data.source):
        bounds.check_rows(params, np.asarray(tokens), cfg, data.positions)


def site_width(site: str, cfg: TransformerConfig) -> int:
    """The width of a site.

    Raises:
      InputError: a site that is not a vector per position, or comes after the position is chosen.
    """
    known = {s.name: s.shape for s in sites.sites(cfg) if s.shape in ("B P D", "B P M")}
    known = {
        name: shape for name, shape in known.items() if not name.startswith(("ln_final", "unembed", "type_embed"))
    }
    if site not in known:
        raise InputError(f"alignment.site: {site!r} is not a vector per position here; {nearest(site, known)}")
    return cfg.d_mlp if known[site].endswith("M") else cfg.d_model


def share(params: Params, cfg: TransformerConfig, data: Interchanges, site: str, layers: tuple[int, ...]) -> Shared:
    """Record the sources at `layers`, and put all on the device."""
    check_interchanges(data, cfg, params)
    n = len(data.base)
    whole = data._replace(where=np.broadcast_to(np.asarray(data.where, bool), (len(data.where), *np.shape(data.base))))
    if data.positions is not None:
        whole = whole._replace(positions=np.broadcast_to(data.positions, np.shape(data.base)))
    whole = jax.tree.map(jnp.asarray, whole)
    sources = _sources(params, whole.source, whole.positions, cfg, site, layers, min(BLOCK, n))
    return Shared(params, whole, jnp.asarray(layers, jnp.int32), sources)


@partial(jax.jit, static_argnames=("cfg", "site", "layers", "block"))
def _sources(
    params: Params, tokens: Array, positions: Array | None, cfg: TransformerConfig, site: str, layers: Any, block: int
) -> Float[Array, "N S P D"]:
    """What the site holds on the source tokens, `block` sequences at a time."""
    layered = site.startswith("blocks.")

    def one(row: tuple[Array, Array | None]) -> Array:
        tokens, positions = jax.tree.map(lambda x: x[None], row)
        record = taps.record(transformer.stream, {site: layers if layered else ...})
        seen = record(params, tokens, cfg, positions)[1][site]
        return seen[:, 0] if layered else seen

    return jax.lax.map(one, (tokens, positions), batch_size=block)


def swapped_logits(
    shared: Shared, rows: Integer[Array, " B"], swap: Swap, cfg: TransformerConfig, site: str
) -> Float[Array, "B V"]:
    """Logits of some of the pairs at their column `at`, after the interchange."""
    data = shared.data
    slot = jnp.searchsorted(shared.layers, swap.layer)
    source, where = shared.sources[rows, slot], data.where[swap.place, rows][..., None]
    tokens = data.base[rows]
    positions = None if data.positions is None else data.positions[rows]

    def replace(x: Array, layer: Array | None) -> Array:
        difference = source - x
        coordinates = jnp.matmul(difference, swap.basis, precision="highest") * swap.weights
        inside = jnp.matmul(coordinates, swap.basis.T, precision="highest")
        here = where if layer is None else where & (layer == swap.layer)
        return jnp.where(here, x + jnp.where(swap.whole, difference, inside), x)

    def forward(params: Params) -> Array:
        x = transformer.stream(params, tokens, cfg, positions)
        return transformer.unembed(params, x[jnp.arange(len(rows)), data.at[rows]], cfg)

    return taps.edit_with(forward, {site: replace})(shared.params)
