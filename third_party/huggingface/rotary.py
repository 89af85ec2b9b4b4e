"""Rotary positions as published: a base, how much of a head is turned, and a "scaling" for contexts longer than trained on.

Pair i of R turned dimensions has the frequency f_i = base^(-2i/R), which scalings multiply by a factor of its own:

    linear      1/s                                                              (Chen et al. 2023, kaiokendev 2023)
    llama3      1 where c f_i/2π > high, 1/s where < low, between: (1-m)/s + m,  m = (c f_i/2π - low) / (high - low)
    yarn        (1-r_i) + r_i/s, r_i a ramp over i, and q, k longer by g         (Peng et al. 2023)
    longrope    1/short_i for contexts up to c, 1/long_i beyond, and g           (Ding et al. 2024)

with c the context that was trained on. LongRoPE's choice depends on the length of the text, so a model with it is loaded for
contexts up to c. Version 5 of the transformers library keeps the settings in `rope_parameters`; before, they were
`rope_theta`, `partial_rotary_factor` and `rope_scaling`, and GPT-NeoX had names of its own.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from third_party.huggingface.fields import Fields, is_positive

WIDEST = 1 << 16  # dimensions of a head: more than any has


class Rotary(NamedTuple):
    """Fields of `TransformerConfig` with the same names, but for their prefix `rotary_`; and the context that they allow."""

    base: float
    dims: int
    factors: tuple[float, ...]
    gain: float
    n_context: int

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `TransformerConfig`."""
        return {
            "positions": "rotary",
            "n_context": self.n_context,
            "rotary_base": self.base,
            "rotary_dims": self.dims,
            "rotary_factors": self.factors,
            "rotary_gain": self.gain,
        }


class Plain(NamedTuple):
    """Unscaled frequencies [R/2] of `dims` turned dimensions, and the longest text that the model was made for."""

    base: float
    dims: int
    frequency: np.ndarray
    n_context: int


def read_rotary(
    fields: Fields,
    d_head: int,
    n_context: int,
    theta: str = "rope_theta",
    partial: str = "partial_rotary_factor",
    default_partial: float = 1.0,
    default_base: float = 10_000.0,
) -> Rotary:
    """The rotary positions of a model whose layers all have the same.

    Raises:
      InputError: a scaling that is not handled, or settings that contradict each other.
    """
    old = {"rope_theta": fields.get(theta), "partial_rotary_factor": fields.get(partial)}
    old = {name: value for name, value in old.items() if value is not None}
    for source in ("rope_scaling", "rope_parameters"):
        new = fields.get(source, {})
        if not isinstance(new, dict):
            raise fields.refused(source, "expected an object")
        for name in old.keys() & new.keys():
            if old[name] != new[name]:
                raise fields.refused(source, f"contradicts {name} = {old[name]}")
        old |= new
    settings = Fields({"partial_rotary_factor": default_partial} | old, fields.file, "rope_parameters.")
    return scaled(settings, d_head, n_context, default_base)


def scaled(settings: Fields, d_head: int, n_context: int, default_base: float) -> Rotary:
    """The rotary positions that one object of settings describes."""
    base = settings.number("rope_theta", default_base)
    dims = int(min(d_head * settings.number("partial_rotary_factor", 1.0), WIDEST + 1))
    if not 2 <= dims <= min(d_head, WIDEST):
        why = f"{dims} of a head's {d_head} dimensions would turn; expected 2 to {min(d_head, WIDEST)}"
        raise settings.refused("partial_rotary_factor", why)
    plain = Plain(base, dims, base ** (-np.arange(0, dims, 2) / dims), n_context)
    kind = settings.get("rope_type", settings.get("type", "default"))
    settings.ignore("type")
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise settings.refused("rope_type" if "rope_type" in settings.content else "type")
    factors, gain, n_context = SCALINGS[kind](settings, plain)
    settings.finish()
    with np.errstate(over="ignore"):
        turning = np.float32(plain.frequency) * np.float32(factors if len(factors) else 1.0)
    if not np.isfinite(turning).all():
        raise settings.refused("rope_theta", "with its scaling, positions would turn infinitely fast")
    return Rotary(base, 0 if dims == d_head else dims, tuple(map(float, factors)), gain, n_context)


Scaled = tuple[Any, float, int]  # factors [R/2] or (), gain, context


def _default(settings: Fields, plain: Plain) -> Scaled:
    settings.ignore("original_max_position_embeddings")
    return (), 1.0, plain.n_context


def _linear(settings: Fields, plain: Plain) -> Scaled:
    return np.full(len(plain.frequency), 1 / settings.number("factor")), 1.0, plain.n_context


def _llama3(settings: Fields, plain: Plain) -> Scaled:
    factor, context = settings.number("factor"), settings.integer("original_max_position_embeddings", plain.n_context)
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    if high <= low:
        raise settings.refused("high_freq_factor", f"must be greater than low_freq_factor = {low}")
    turns = context * plain.frequency / (2 * np.pi)
    mixed = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - mixed) / factor + mixed, 1.0, plain.n_context


def _yarn(settings: Fields, plain: Plain) -> Scaled:
    if plain.base == 1:
        raise settings.refused("rope_theta", "all pairs turn alike, which yarn cannot scale")
    context = settings.integer("original_max_position_embeddings", plain.n_context)
    factor = settings.number("factor", plain.n_context / context)
    fast, slow = settings.number("beta_fast", 32), settings.number("beta_slow", 1)
    edges = [plain.dims * math.log(context / (n * 2 * np.pi)) / (2 * math.log(plain.base)) for n in (fast, slow)]
    if settings.flag("truncate", True):
        edges = [math.floor(edges[0]), math.ceil(edges[1])]
    first, last = max(edges[0], 0), min(edges[1], plain.dims - 1)
    ramp = np.clip((np.arange(plain.dims // 2) - first) / ((last - first) or 0.001), 0, 1)
    return (1 - ramp) + ramp / factor, _yarn_gain(settings, factor), plain.n_context


def _yarn_gain(settings: Fields, factor: float) -> float:
    def gain(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    over, under = (settings.number(name) if settings.get(name) else 0.0 for name in ("mscale", "mscale_all_dim"))
    usual = gain(over) / gain(under) if over and under else gain(1)
    return settings.number("attention_factor", usual)


def _longrope(settings: Fields, plain: Plain) -> Scaled:
    context = settings.integer("original_max_position_embeddings", plain.n_context, least=2)
    factor = settings.number("factor", plain.n_context / context)
    usual = math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0
    short = settings.get("short_factor", [])
    if not isinstance(short, list) or len(short) != len(plain.frequency) or not all(map(is_positive, short)):
        raise settings.refused("short_factor", f"expected {len(plain.frequency)} positive numbers")
    settings.ignore("long_factor")
    gain = settings.number("attention_factor", usual)
    return 1 / np.array(short, np.float64), gain, min(context, plain.n_context)


SCALINGS: dict[str, Callable[[Fields, Plain], Scaled]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "su": _longrope,  # its first name
    "yarn": _yarn,
}
