"""Batch files for Neuronpedia: their fields and types, what comes back of the features, and departures from the layout."""

import copy
import json

import numpy as np
import pytest

from interp_jax.atomic_io import jsonable
from interp_jax.errors import InputError
from tests.results import example_features
from third_party import neuronpedia

N = 150


@pytest.fixture(scope="module")
def made():
    return example_features.features(N)


@pytest.fixture(scope="module")
def files(made):
    logits = np.sort(np.random.default_rng(1).normal(size=(N, 10))), np.random.default_rng(2).integers(0, 9, (N, 10))
    source = neuronpedia.Source("grow-mlp", 1, "batch_topk k=16", "some text")
    found = neuronpedia.batches(made, source, logits, (64, 37))
    return json.loads(json.dumps(jsonable(found))), logits


def test_every_feature_that_fired_is_in_one_file_of_the_layout(made, files):
    batches, _ = files
    assert list(batches) == ["batch-0.json", "batch-1.json"]
    for name, batch in batches.items():
        neuronpedia.check(batch, name)
        assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("grow-mlp", 1, "batch_topk k=16")
    indices = [feature["feature_index"] for batch in batches.values() for feature in batch["features"]]
    assert indices == np.flatnonzero(made.columns["density"] > 0).tolist()


def test_what_is_read_back_is_what_was_given(made, files):
    batches, (centres, heights) = files
    for feature in (one for batch in batches.values() for one in batch["features"]):
        i = feature["feature_index"]
        assert feature["frac_nonzero"] == pytest.approx(made.columns["density"][i], abs=1e-6)
        for sign, title in (("pos", "makes likely"), ("neg", "makes unlikely")):
            assert feature[f"{sign}_str"] == [made.names[t] for t in made.tokens[title].ids[i]]
            np.testing.assert_allclose(feature[f"{sign}_values"], made.tokens[title].values[i], atol=5.1e-4)
        assert sum(feature["freq_hist_data_bar_heights"]) == made.histogram[i].sum()
        np.testing.assert_array_equal(feature["logits_hist_data_bar_heights"], heights[i])
        np.testing.assert_allclose(feature["logits_hist_data_bar_values"], centres[i], atol=5.1e-4)
        assert feature["correlated_features_indices"] == made.neighbours.ids[i].tolist()
        assert (feature["n_prompts_total"], feature["n_tokens_in_prompt"], feature["dataset"]) == (64, 37, "some text")
        told = feature["activations"]
        strongest = [a for a in told if a["bin_contains"] == -1]
        assert (
            len(strongest) == made.strongest.there[i].sum()
            and len(told) - len(strongest) == made.quantiles.there[i].sum()
        )
        for activation, e in zip(strongest, np.flatnonzero(made.strongest.there[i]), strict=True):
            inside = made.strongest.tokens[i, e] >= 0
            assert activation["tokens"] == [made.names[t] for t in made.strongest.tokens[i, e][inside]]
            np.testing.assert_allclose(activation["values"], made.strongest.values[i, e][inside], atol=5.1e-4)
            own = made.names[made.strongest.tokens[i, e, made.strongest.place]]
            assert activation["tokens"][activation["qualifying_token_index"]] == own
        groups = [(a["bin_min"], a["bin_max"]) for a in told if a["bin_contains"] != -1]
        assert groups == sorted(groups, reverse=True)


DEPARTURES = {
    "no field 'pos_values'": lambda f: f.pop("pos_values"),
    "field 'pos_string' is not one of the layout's; did you mean 'pos_str'": lambda f: f.update(pos_string=[]),
    "neg_values must be a list of numbers": lambda f: f.update(neg_values=[1]),
    "frac_nonzero = 1 is of another type": lambda f: f.update(frac_nonzero=1),
    "pos_str has 8 entries, pos_values 0": lambda f: f.update(pos_values=[]),
    "an activation has 37 tokens, 1 values": lambda f: f["activations"][1].update(values=[1.0]),
    "activation: no field 'tokens'": lambda f: f["activations"][1].pop("tokens"),
}


@pytest.mark.parametrize("message", DEPARTURES)
def test_departures_from_the_layout_are_named(files, message):
    batch = copy.deepcopy(files[0]["batch-0.json"])
    DEPARTURES[message](batch["features"][0])
    with pytest.raises(InputError, match=f"feature {batch['features'][0]['feature_index']}.*{message}"):
        neuronpedia.check(batch)
