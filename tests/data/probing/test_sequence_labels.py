"""Variables of sequences, against loops."""

import numpy as np
import pytest

from interp_jax.data.contrast.induction import induction
from interp_jax.data.probing.sequence_labels import label_pairs, label_sequences, last_occurrence
from interp_jax.data.sequences import repeated_random
from interp_jax.errors import InputError


def test_labels_are_those_of_loops():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 12, (5, 40))
    of = label_sequences(tokens, "random")
    for row in range(5):
        for p in range(40):
            earlier = [q for q in range(p) if tokens[row, q] == tokens[row, p]]
            assert of.labels["seen before"][row, p] == bool(earlier)
            distance = sum(p - earlier[-1] >= edge for edge in (8, 16, 32)) if earlier else -1
            assert of.labels["distance"][row, p] == distance
            back = of.labels["tokens back"][row, p]
            assert back == p - earlier[-1] if earlier else np.isnan(back)
            copied = tokens[row, earlier[-1] + 1] == tokens[row, p + 1] if earlier and p < 39 else -1
            assert of.labels["copied next"][row, p] == copied
            for name, by in (("token before", 1), ("two before", 2)):
                value = of.variables[name].values[of.labels[name][row, p]]
                assert value == str(tokens[row, p - by]) if p >= by else of.labels[name][row, p] == -1
    assert last_occurrence(np.array([[1, 2, 1, 1]])).tolist() == [[-1, -1, 0, 2]]


def test_of_a_repeated_segment_all_is_copied():
    tokens = np.asarray(repeated_random(0, 0, 4, 16, 1000))
    of = label_sequences(tokens, "repeats", 1000)
    assert (of.labels["copied next"][:, 16:31] == 1).mean() > 0.9
    values = of.variables["token before"].values
    assert len(values) == 8 and of.variables["two before"].values == values
    for value, token in zip(of.labels["token before"][:, 1:].ravel(), tokens[:, :-1].ravel(), strict=True):
        low, _, high = values[value].replace("+", "–9999").partition("–")
        assert int(low) <= token <= int(high)
    assert of.labels["seen before"][:, 16:].all() and of.labels["seen before"][:, :16].mean() < 0.1


def test_sides_of_pairs():
    pairs = induction(0, 6, 12, 50)
    of = label_pairs(pairs, "induction")
    assert list(of.labels) == list(of.variables) == [f"clean at {name}" for name in pairs.places]
    rows, columns = np.nonzero(of.labels["clean at A"] >= 0)
    assert rows.tolist() == list(range(12)) and (columns == np.tile(np.asarray(pairs.places["A"]), 2)).all()
    assert of.labels["clean at A"].max(1).tolist() == [1] * 6 + [0] * 6 and of.group.tolist() == list(range(6)) * 2
    read = of.tokens[rows, columns]
    assert (read[:6] != read[6:]).all()  # the key is what was changed


def test_nothing_repeats():
    with pytest.raises(InputError, match="all different: no token occurs twice in a row"):
        label_sequences(np.arange(12).reshape(2, 6), "all different")
