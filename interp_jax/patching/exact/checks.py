"""What a grid is refused for before anything runs: nodes that are not there, sources that do not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp_jax.errors import InputError
from interp_jax.models.sites import shape
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.exact.nodes import ALL, STREAMS, Terms, site_of, unit_axis
from interp_jax.patching.exact.views import View


def check_terms(terms: Mapping[str, Terms], cfg: TransformerConfig, view: View | None, n: int, columns: int) -> None:
    """Raise `InputError` for a node that is not there, which would patch nothing."""
    for name, t in terms.items():
        sizes = {"head": cfg.n_groups if "G" in site_of(name, cfg).shape.split() else cfg.n_heads, "neuron": cfg.d_mlp}
        axis = unit_axis(site_of(name, cfg)) or ""
        axis = "coordinate" if view is not None and axis != "head" else axis
        here = t.first < t.stop
        if not axis and (t.unit[here] != ALL).any():
            raise InputError(f"{name!r} has no units, so unit = {t.unit[here].max()} says nothing without a view")
        units = view.size if axis == "coordinate" and view is not None else sizes.get(axis, 1)
        for what, index, size in (
            (axis or "unit", t.unit, units), ("position", t.position, columns), ("source", t.source, columns)
        ):  # fmt: skip
            if index[here].max(initial=ALL) >= size:
                raise InputError(f"{name!r}: {what} {index[here].max()} is beyond the last, {size - 1}")
        if t.position.shape[2] not in (1, n):
            raise InputError(f"{name!r}: positions for {t.position.shape[2]} examples, the prompts are {n}")


def check_source(
    source: Mapping[str, Any], sites: Sequence[str], cfg: TransformerConfig, n: int, columns: int
) -> None:
    """Raise `InputError` where a source lacks a patched site, has it in another shape, or has two values for one place."""
    for name in sites:
        want = shape(site_of(name, cfg), cfg, n, columns)
        if name not in source:
            raise InputError(f"source has no {name!r}, which is patched; it has {sorted(source)}")
        if tuple(np.shape(source[name])) != want:
            raise InputError(f"source of {name!r} is {np.shape(source[name])}, the site is {want}")
    if all(name in sites for name in STREAMS):
        before, after = (np.asarray(source[name]) for name in STREAMS)
        if not np.array_equal(before[1:], after[:-1]):
            raise InputError(
                f"source has other values for {STREAMS[0]!r} than for {STREAMS[1]!r} of the layer before it"
            )


def width_of(site: str, cfg: TransformerConfig) -> int:
    """The length of a site's last axis, which a view speaks of; 0 where that is no vector."""
    return {"D": cfg.d_model, "E": cfg.d_head, "M": cfg.d_mlp}.get(site_of(site, cfg).shape.split()[-1], 0)
