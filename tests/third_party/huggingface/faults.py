"""Faults in adapters' tables, which say how published tensors become parameters: each row read wrongly, in ways that are known.

All parameters keep their shapes, so that nothing but the numbers gives a fault away. (A row that is missing from a table is
refused when weights are read: `test_weights.py`.)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from third_party.huggingface.layouts import flipped, fused, head_biases, interleaved, reading_heads

ATTENTION, MLP = "blocks/attn/", "blocks/mlp/"


class Fault(NamedTuple):
    """What is wrong with a table's rows for some parameters, which a model must have, in equal shapes."""

    what: str
    paths: tuple[str, ...]
    plant: Callable[[list[Any]], list[Any]]


# --- one parameter is read wrongly


def misread(what: str, path: str, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def split(row, x):
        parts = row.layout.split(x)
        return tuple(change(part) if p == path else part for p, part in zip(row.paths, parts, strict=True))

    def plant(rows):
        wrong = lambda row: row.layout._replace(split=functools.partial(split, row))
        return [row._replace(layout=wrong(row)) if path in row.paths else row for row in rows]

    return Fault(f"{path}: {what}", (path,), plant)


def shifted(path):
    return misread("read from the next column on", path, lambda x: np.roll(x, 1, -1))


def dropped(path):
    return misread("dropped", path, np.zeros_like)


def with_two_heads_swapped(path):
    return misread("two heads swapped", path, lambda x: np.concatenate([x[1::-1], x[2:]]))


def untransposed(path):
    """The numbers of a map [in, out], or of each head's, as they lie in a file that has it as [out, in]."""
    return misread("not transposed", path, lambda x: np.swapaxes(x, -1, -2).reshape(x.shape))


# --- parameters are taken for each other


def exchanged(one: str, other: str) -> Fault:
    names = {one: other, other: one}

    def plant(rows):
        return [row._replace(paths=tuple(names.get(path, path) for path in row.paths)) for row in rows]

    return Fault(f"{one} and {other} exchanged", (one, other), plant)


def in_another_order(name, cfg):
    """Of GPT-2 and GPT-NeoX: queries, keys and values fused as the other one has them."""
    H, maps, biases = (
        cfg.n_heads,
        reading_heads(cfg.n_heads, cfg.d_head, cfg.d_model),
        head_biases(cfg.n_heads, cfg.d_head),
    )
    if name == "gpt2":
        layouts = flipped(interleaved(maps, H)), interleaved(biases, H)
    else:
        layouts = fused(maps, maps, maps), fused(biases, biases, biases)

    def plant(rows):
        whole = {f"{ATTENTION}W_Q": layouts[0], f"{ATTENTION}b_Q": layouts[1]}
        return [row._replace(layout=whole.get(row.paths[0], row.layout)) for row in rows]

    return Fault("queries, keys and values fused in another order", (f"{ATTENTION}W_Q",), plant)


SPECIAL = [
    *(with_two_heads_swapped(f"{ATTENTION}{x}") for x in ("W_Q", "W_V", "W_O", "b_Q", "b_V")),
    *(untransposed(f"{ATTENTION}W_{x}") for x in "QKVO"),
    *(untransposed(path) for path in (f"{MLP}W_gate", f"{MLP}W_in", f"{MLP}W_out", "unembed/W_U", "unembed/W_head")),
    *(dropped(f"{ATTENTION}b_{x}") for x in "QKVO"),
    *(dropped(path) for path in (f"{MLP}b_gate", f"{MLP}b_in", f"{MLP}b_out", "unembed/b_U", "unembed/b_head")),
    exchanged(f"{ATTENTION}W_Q", f"{ATTENTION}W_K"),
    exchanged(f"{ATTENTION}W_K", f"{ATTENTION}W_V"),
    exchanged(f"{ATTENTION}b_K", f"{ATTENTION}b_V"),
    exchanged(f"{ATTENTION}q_norm/w", f"{ATTENTION}k_norm/w"),
    exchanged(f"{MLP}W_gate", f"{MLP}W_in"),
    exchanged("blocks/ln1/w", "blocks/ln2/w"),
    exchanged("blocks/ln1_post/w", "blocks/ln2/w"),
    exchanged("blocks/ln1/w", "blocks/ln1/b"),
]


def with_table(adapter, table):
    """An adapter that reads by another table."""
    return adapter._replace(table=lambda cfg: table)


def faults_of(name, table, cfg):
    """All that an architecture can have: each row shifted, and what is known to go wrong when weights are mapped."""
    shapes = {path: part for row in table for path, part in zip(row.paths, shapes_of(row), strict=True)}
    possible = [fault for fault in SPECIAL if len({shapes.get(path, path) for path in fault.paths}) == 1]
    possible = [fault for fault in possible if set(fault.paths) <= shapes.keys()]
    more = [in_another_order(name, cfg)] if name in ("gpt2", "gpt_neox") else []
    return [*map(shifted, shapes), *possible, *more]


def shapes_of(row):
    return [part.shape for part in row.layout.split(np.empty(row.layout.shape, np.bool_))]


def is_invisible(fault, cfg):
    """A bias of keys adds the same to all of a query's scores, unless positions turn it: softmax does not see it."""
    return fault.paths == (f"{ATTENTION}b_K",) and cfg.positions != "rotary"
