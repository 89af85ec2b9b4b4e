"""How a published tensor lies, and how it becomes parameters of ours and back.

Published linear maps are [out, in] (PyTorch) or [in, out] (GPT-2's "Conv1D"), heads are stretches of the out axis, and several
maps may be fused into one tensor. Ours are [in, out], one array for each map, with an axis for the heads. Every layout is a
permutation of the numbers: `join(split(x))` is `x` and `split(join(parts))` is `parts`, bit for bit. `split` gives views, so
that nothing is read before it is used.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Parts = tuple[np.ndarray, ...]


class Layout(NamedTuple):
    """A published tensor's shape, and its way to a tuple of ours and back."""

    shape: tuple[int, ...]
    split: Callable[[np.ndarray], Parts]
    join: Callable[[Parts], np.ndarray]


class Entry(NamedTuple):
    """A row of an adapter's table.

    Attributes:
      name: of the published tensor; "{l}" in it stands for the layer.
      layout: how it lies.
      paths: the parameters in it, "blocks/attn/W_Q"; of layers where the name has a layer.
    """

    name: str
    layout: Layout
    paths: tuple[str, ...]


def entry(name: str, layout: Layout, *paths: str) -> Entry:
    """A row of a table."""
    return Entry(name, layout, paths)


def _one(shape: tuple[int, ...], there: Callable[[Any], Any], back: Callable[[Any], Any]) -> Layout:
    return Layout(shape, lambda x: (there(x),), lambda parts: back(parts[0]))


def same(*shape: int) -> Layout:
    """As it is: embeddings, norms, biases."""
    return _one(shape, lambda x: x, lambda x: x)


def linear(d_in: int, d_out: int) -> Layout:
    """[out, in] and ours [in, out]."""
    return _one((d_out, d_in), lambda x: x.T, lambda x: x.T)


def reading_heads(n: int, d_head: int, d_model: int) -> Layout:
    """W_Q, W_K or W_V: [N·E, D] and ours [N, D, E]."""
    return _one(
        (n * d_head, d_model),
        lambda x: x.reshape(n, d_head, d_model).transpose(0, 2, 1),
        lambda x: x.transpose(0, 2, 1).reshape(n * d_head, d_model),
    )


def head_biases(n: int, d_head: int) -> Layout:
    """b_Q, b_K or b_V: [N·E] and ours [N, E]."""
    return _one((n * d_head,), lambda x: x.reshape(n, d_head), lambda x: x.reshape(n * d_head))


def writing_heads(n: int, d_head: int, d_model: int) -> Layout:
    """W_O: [D, N·E] and ours [N, E, D]."""
    return _one(
        (d_model, n * d_head),
        lambda x: x.T.reshape(n, d_head, d_model),
        lambda x: x.reshape(n * d_head, d_model).T,
    )


def flipped(layout: Layout) -> Layout:
    """The same maps, published as [in, out]."""
    return Layout(layout.shape[::-1], lambda x: layout.split(x.T), lambda parts: layout.join(parts).T)


def fused(*layouts: Layout) -> Layout:
    """One after the other along the out axis."""
    ends = np.cumsum([layout.shape[0] for layout in layouts])

    def split(x: np.ndarray) -> Parts:
        pieces = np.split(x, ends[:-1])
        return tuple(part for layout, piece in zip(layouts, pieces, strict=True) for part in layout.split(piece))

    def join(parts: Parts) -> np.ndarray:
        return np.concatenate([layout.join((part,)) for layout, part in zip(layouts, parts, strict=True)])

    return Layout((int(ends[-1]), *layouts[0].shape[1:]), split, join)


def interleaved(layout: Layout, n: int) -> Layout:
    """Queries, keys and values of the same `layout`, fused head by head: q, k, v of head 0, then of head 1 …"""
    rows, rest = layout.shape[0], layout.shape[1:]
    apart = (n, 3, rows // n, *rest)

    def split(x: np.ndarray) -> Parts:
        # [N, 3, E, …]: a part is no stretch of the memory, so its heads are put in order by views of [N, E, …]
        return tuple(_split_heads(x.reshape(apart)[:, i]) for i in range(3))

    def join(parts: Parts) -> np.ndarray:
        published = [layout.join((part,)).reshape(n, rows // n, *rest) for part in parts]
        return np.stack(published, 1).reshape(3 * rows, *rest)

    return Layout((3 * rows, *rest), split, join)


def _split_heads(x: np.ndarray) -> np.ndarray:
    """[N, E, D] becomes [N, D, E]; biases [N, E] stay."""
    return x.transpose(0, 2, 1) if x.ndim == 3 else x
