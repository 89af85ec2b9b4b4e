"""Where effects are estimated: sites, the axes of their nodes, and the effect of each to first order.

A site's nodes are its axes less that of the vector, which counts as a whole:

    [L B P]        the stream, what attention and MLP add to it, norms' divisors
    [L B P H]      queries, heads' mixes z, heads' results
    [L B P G]      keys, values
    [L B P M]      neurons
    [L B H Q K]    scores, patterns

Sites after the blocks are left out, since only the row that the metric reads gets there; so are position vectors, which the
two runs have in common.
"""

from collections.abc import Iterable

from jaxtyping import Array, Float

from interp_jax.errors import InputError, nearest
from interp_jax.models.config import TransformerConfig
from interp_jax.models.norms import at_least
from interp_jax.models.sites import sites as sites_of

VECTORS = ("D", "E", "1")  # last axes that are no nodes


def node_sites(cfg: TransformerConfig) -> tuple[str, ...]:
    """The usual ones: the stream around each layer, what attention and MLP add, and heads; neither neurons nor patterns."""
    heads = tuple(f"blocks.attn.{part}" for part in ("q", "k", "v", "z", "out"))
    mlp = ("blocks.mlp.out",) if cfg.d_mlp else ()
    return ("blocks.resid_pre", *heads, *mlp, "blocks.resid_post")


def attributable_sites(cfg: TransformerConfig) -> dict[str, str]:
    """All of them, and their axes within a layer."""
    after = ("ln_final.", "unembed.", "logits")
    return {s.name: s.shape for s in sites_of(cfg) if s.shape.startswith("B ") and not s.name.startswith(after)}


def node_axes(site: str, cfg: TransformerConfig) -> tuple[str, ...]:
    """The axes of a site's effects, as in ("L", "B", "P", "H").

    Raises:
      InputError: the site has none.
    """
    check_sites((site,), cfg)
    axes = attributable_sites(cfg)[site].split()
    layers = ("L",) if site.startswith("blocks.") else ()
    return (*layers, *(axes[:-1] if axes[-1] in VECTORS else axes))


def first_order(
    site: str, difference: Float[Array, "..."], gradient: Float[Array, "..."], cfg: TransformerConfig
) -> Float[Array, "..."]:
    """The product of difference and gradient, summed over each node of a recorded site, at least in float32."""
    dtype = at_least(gradient.dtype, "float32")
    product = difference.astype(dtype) * gradient.astype(dtype)
    return product.sum(-1) if attributable_sites(cfg)[site].endswith(VECTORS) else product


def check_sites(chosen: Iterable[str], cfg: TransformerConfig) -> None:
    """Raise `InputError` for a site at which no effects are estimated."""
    known = attributable_sites(cfg)
    for site in chosen:
        if site not in known:
            raise InputError(f"cannot attribute to {site!r} in this model: {nearest(site, known)}")
