"""Layouts are permutations, exact in both directions, that read nothing before it is used."""

import numpy as np
import pytest

from third_party.huggingface.layouts import (
    flipped,
    fused,
    head_biases,
    interleaved,
    linear,
    reading_heads,
    same,
    writing_heads,
)

H, G, E, D = 4, 2, 3, 5
LAYOUTS = {
    "same": same(7, 5),
    "linear": linear(5, 7),
    "reading heads": reading_heads(H, E, D),
    "head biases": head_biases(H, E),
    "writing heads": writing_heads(H, E, D),
    "flipped": flipped(writing_heads(H, E, D)),
    "fused": fused(reading_heads(H, E, D), reading_heads(G, E, D), reading_heads(G, E, D)),
    "fused and flipped": flipped(fused(*[reading_heads(H, E, D)] * 3)),
    "fused biases": fused(*[head_biases(H, E)] * 3),
    "interleaved": interleaved(reading_heads(H, E, D), H),
    "interleaved biases": interleaved(head_biases(H, E), H),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_both_directions_are_exact(layout):
    x = np.arange(np.prod(layout.shape), dtype=np.int16).reshape(layout.shape)
    parts = layout.split(x)
    assert all(np.shares_memory(part, x) for part in parts)
    joined = layout.join(parts)
    assert joined.shape == x.shape and joined.dtype == x.dtype
    np.testing.assert_array_equal(joined, x)
    for part, again in zip(parts, layout.split(layout.join(parts)), strict=True):
        np.testing.assert_array_equal(part, again)


def test_where_numbers_go():
    """Row n·E + e of a map to heads is dimension e of head n; interleaved, rows are (head, which of three, dimension)."""
    x = np.arange(H * E * D).reshape(H * E, D)
    (weight,) = reading_heads(H, E, D).split(x)
    assert weight.shape == (H, D, E) and weight[2, 4, 1] == x[2 * E + 1, 4]
    (out,) = writing_heads(H, E, D).split(x.T)
    assert out.shape == (H, E, D) and out[2, 1, 4] == x[2 * E + 1, 4]
    mixed = np.arange(3 * H * E * D).reshape(3 * H * E, D)
    q, k, v = interleaved(reading_heads(H, E, D), H).split(mixed)
    assert [part[2, 4, 1] for part in (q, k, v)] == [mixed[(2 * 3 + n) * E + 1, 4] for n in range(3)]
