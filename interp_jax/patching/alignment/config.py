"""What a search for a subspace is told: its variant, site and width, and the numbers that members of a population differ by."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from interp_jax.errors import InputError, nearest
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part, stack
from interp_jax.patching.alignment.interchange import Interchanges, site_width
from interp_jax.train.optimizer import Optimizer

VARIANTS = ("orthonormal", "boundless", "low_rank")


@part
class AlignmentConfig:
    """One search.

    Attributes:
      variant: "orthonormal", "boundless" or "low_rank".
      site: a vector per position, such as "blocks.resid_post".
      width: columns K of R. 0 means the largest k of the population ("orthonormal"), or all ("boundless"). The first columns
        do not depend on how many follow.
      steps: gradient steps.
      examples: pairs per step, drawn anew at each; 0 for all of them.
      layer: 0 for a site outside the layers.
      place: which of the data's sets of positions.
      k: dimensions of an "orthonormal" subspace; 0 for the other variants.
      price: of "boundless", nats that the whole width costs.
      first_temperature, last_temperature: of its boundary, in columns; geometric in between.
      optimizer: its rate is in radians per step and column, whatever the width.
    """

    variant: str = "orthonormal"
    site: str = "blocks.resid_post"
    width: int = 0
    steps: int = 300
    examples: int = 32
    seed: int = hyper(0)
    layer: int = hyper(0)
    place: int = hyper(0)
    k: int = hyper(0)
    price: float = hyper(1.0)
    first_temperature: float = hyper(3.0)
    last_temperature: float = hyper(0.1)
    optimizer: Optimizer = Optimizer(learning_rate=0.1, decay="cosine")

    def check(self, cfg: TransformerConfig, n_places: int) -> None:
        """Raise `InputError` for impossible values; `n_places` is the number of the data's sets of positions."""
        if self.variant not in VARIANTS:
            raise InputError(f"alignment.variant: unknown {self.variant!r}; {nearest(self.variant, VARIANTS)}")
        d_site = site_width(self.site, cfg)
        self.optimizer.check()
        if self.steps < 1 or self.examples < 0:
            raise InputError(f"alignment: steps = {self.steps}, examples = {self.examples}: at least 1, and 0")
        check_members(self, cfg, n_places)
        if not 0 <= self.width <= d_site:
            raise InputError(f"alignment.width = {self.width}: {self.site!r} has {d_site} dimensions")
        top = self.width or d_site
        if self.variant == "orthonormal" and not 1 <= self.k <= top:
            raise InputError(f"alignment.k = {self.k}: a subspace of {self.site!r} has 1 to {top} dimensions here")
        if self.variant != "orthonormal" and self.k:
            raise InputError(f"alignment.k = {self.k}: {self.variant!r} has none; leave it 0")
        if self.variant == "low_rank" and not self.width:
            raise InputError("alignment.width = 0: 'low_rank' needs its rank")
        if self.price < 0 or min(self.first_temperature, self.last_temperature) <= 0:
            raise InputError("alignment: temperatures must be positive, the price not negative")


def check_members(members: AlignmentConfig, cfg: TransformerConfig, n_places: int) -> None:
    """Raise `InputError` for a layer or place of a member, or of stacked members, that is not there."""
    layers = cfg.n_layers if members.site.startswith("blocks.") else 1
    for name, top in (("layer", layers), ("place", n_places)):
        values = np.atleast_1d(getattr(members, name))
        if len(bad := values[(values < 0) | (values >= top)]):
            raise InputError(f"alignment.{name} = {bad[0]}: it goes from 0 to {top - 1}")


def sweep(config: AlignmentConfig, values: Mapping[str, Sequence[Any]]) -> list[AlignmentConfig]:
    """The product of `values`, as members; the last name runs fastest.

    Args:
      config: what they have in common.
      values: by name, as {"layer": (0, 1), "optimizer.learning_rate": (1e-3, 1e-2)}.

    Raises:
      InputError: an unknown name.
    """
    return [
        functools.reduce(lambda c, change: _with(c, *change), zip(values, chosen, strict=True), config)
        for chosen in itertools.product(*values.values())
    ]


def _with(config: Any, name: str, value: Any) -> Any:
    name, _, rest = name.partition(".")
    known = [field.name for field in dataclasses.fields(config)]
    if name not in known:
        raise InputError(f"alignment has no {name!r}; {nearest(name, known)}")
    return dataclasses.replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})


def stacked_members(cfg: TransformerConfig, data: Interchanges, members: Sequence[AlignmentConfig]) -> AlignmentConfig:
    """Members, checked, as one config with an R axis and its width filled in."""
    if not members:
        raise InputError("no members: nothing to search for")
    for member in members:
        member.check(cfg, len(data.where))
    if len({jax.tree.structure(member) for member in members}) != 1:
        raise InputError(
            "members of one population differ in hypers only; search for each variant, site or width apart"
        )
    first = members[0]
    widest = max(m.k for m in members) if first.variant == "orthonormal" else site_width(first.site, cfg)
    members = [dataclasses.replace(m, width=first.width or widest) for m in members]
    return stack(members)


def used_layers(members: AlignmentConfig) -> tuple[int, ...]:
    """The layers of stacked members."""
    return tuple(sorted({int(layer) for layer in np.asarray(members.layer)}))
