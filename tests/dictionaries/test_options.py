"""Values that are impossible, and options that a kind does not read, are refused by name."""

import numpy as np
import pytest

from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from tests.dictionaries.cases import SHAPE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "topkk"}, "dictionary.kind: unknown 'topkk'; did you mean 'topk'"),
        ({"k": 13}, "dictionary.k: 13 of 12 features"),
        ({"k": 5}, "dictionary.most: 4 is less than k = 5"),
        ({"most": 13}, "dictionary.most: 13 is more than n_features = 12"),
        ({"width": 13}, "dictionary.width: 13"),
        ({"kind": "matryoshka", "prefixes": (0.5, 0.25, 1.0)}, "dictionary.prefixes"),
        ({"kind": "jumprelu", "bandwidth": 0.0}, "dictionary.bandwidth: 0.0 is not positive"),
        ({"penalty": "stepp"}, "dictionary.penalty"),
        ({"thresholds": "logs"}, "dictionary.thresholds: unknown 'logs'; did you mean 'log'"),
        ({"skip": True}, "dictionary.skip: only a transcoder"),
        ({"pieces": 2}, "dictionary.pieces: 2 does not divide 5"),
        ({"kind": "matching_pursuit", "d_out": 5}, "dictionary.d_out, centred: matching pursuit"),
        ({"k": 2.5}, "dictionary.k = 2.5: must be a whole number"),
        ({"k": True}, "dictionary.k = True: must be a whole number"),
        ({"dead_after": 1e6}, "dictionary.dead_after = 1000000.0: must be a whole number"),
        ({"dead_after": 0}, "dictionary.dead_after: 0 examples; it must be at least 1"),
        ({"feature_shards": 5}, "dictionary.feature_shards: 5 does not divide n_features = 12"),
        ({"feature_shards": 0}, "dictionary.feature_shards: 0 does not divide"),
        ({"sparsity": -0.1}, "dictionary.sparsity: -0.1 is negative"),
        ({"sparsity": float("nan")}, "dictionary.sparsity: nan is negative"),
        ({"auxiliary_weight": -1.0}, "dictionary.auxiliary_weight: -1.0 is negative"),
        ({"sparsity_warmup": 1.5}, "dictionary.sparsity_warmup: 1.5 is no share of the steps"),
        ({"sparsity_warmup": -0.1}, "dictionary.sparsity_warmup: -0.1 is no share"),
        ({"kind": "p_anneal", "anneal_start": 2.0}, "dictionary.anneal_start: 2.0 is no share"),
        (
            {"kind": "standard", "auxiliary": "saelens"},
            "dictionary.auxiliary = 'saelens': 'standard' has none; topk, batch",
        ),
        ({"kind": "matching_pursuit", "auxiliary": "saelens"}, "dictionary.auxiliary = 'saelens'"),
        (
            {"kind": "topk", "penalty": "tanh"},
            "dictionary.penalty = 'tanh': 'topk' has none; jumprelu, cross_layer have",
        ),
        ({"kind": "topk", "thresholds": "linear"}, "dictionary.thresholds = 'linear': 'topk' has none"),
        ({"kind": "gated", "products": "sparse"}, "dictionary.products = 'sparse': 'gated' has none"),
    ],
)
def test_impossible_values_are_named(change, words):
    with pytest.raises(InputError, match=words):
        Dictionary(**(SHAPE | change)).check()


def test_whole_numbers_of_other_libraries_are_whole_and_what_is_harmless_is_allowed():
    Dictionary(**(SHAPE | {"k": np.int64(2), "dead_after": np.int32(5), "width": np.array(8)})).check()
    Dictionary(kind="standard", **SHAPE, auxiliary="none", products="dense", feature_shards=2).check()
