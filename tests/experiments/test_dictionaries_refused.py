"""What dictionaries on a model refuse and complain of, by name: places, values, activations that are not finite, silence."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.activations.harvest import Harvest
from interp_jax.activations.normaliser import Normalise
from interp_jax.errors import InputError
from interp_jax.experiments import dictionaries
from interp_jax.experiments.dictionaries import runs, subject
from interp_jax.experiments.dictionaries.config import Config, Measurements
from interp_jax.experiments.dictionaries.page import off_target
from interp_jax.experiments.dictionaries.subject import Shared
from interp_jax.experiments.dictionaries.told import NAMES, complaint
from interp_jax.experiments.subjects.model import Model
from interp_jax.models import transformer
from tests.experiments.small_dictionaries import CFG, SMALL, crosscoder, of_random_weights


@pytest.fixture
def on_random_weights(monkeypatch):
    """A model of random weights in place of a grown run."""
    monkeypatch.setattr(runs, "subject", of_random_weights)


TWO = crosscoder(64, layers=(0, -1)).dictionary
BOTH = {"layers": (0, -1), "dictionary": TWO}
PIECES = {
    "layer 1, of the model, .* step 13, example 5, dimension 7": ({"layers": (1,)}, (0, 7)),
    "layer 0, of the model, .* step 13, example 5, dimension 8": ({"layers": (1, 0), "place": 1}, (1, 8)),
    "layer 0, of the model, are not finite: step 13, example 5; nothing": (
        {"layers": (1, 0), "normalise": Normalise("whiten")},
        (1, 8),
    ),
    "layer 0, of the model, .* step 13, example 5, dimension 7": (BOTH, (0, 7)),
    "layer -1, of the model, .* step 13, example 5, dimension 8": (BOTH, (0, 40)),
    "layer 1, of another, .* step 13, example 5, dimension 8": (
        {"other": Model(path="another"), "dictionary": TWO},
        (0, 40),
    ),
    "one of layers 0, -1, of the model, are not finite: step 13, example 5; nothing": (
        BOTH | {"normalise": Normalise("whiten")},
        (0, 40),
    ),
}


@pytest.mark.parametrize("message", PIECES)
def test_activations_that_are_not_finite_are_named(on_random_weights, message):
    """With the place, and the piece of a crosscoder that they are of, its model too."""
    changes, (place, dimension) = PIECES[message]
    config = dataclasses.replace(SMALL, **changes)
    config.check()
    made = dictionaries.experiment(config)
    data = made.stream(made.shared, jnp.int32(10))
    made.refuse(data)
    with pytest.raises(InputError, match=f"blocks.resid_post, {message}"):
        made.refuse(data._replace(read=data.read.at[place, 3, 5, dimension].set(jnp.inf)))


@pytest.mark.parametrize("largest", [0.0, 3.0])
def test_a_model_that_is_not_finite_is_named_before_anything_is_fitted(largest):
    """The second of two models, and a layer of one, whose outputs are not numbers; a filter of outliers does not hide them."""
    params = transformer.init(jax.random.key(0), CFG)
    bad = jax.tree.map(lambda x: x, params)
    bad["blocks"]["mlp"]["b_out"] = bad["blocks"]["mlp"]["b_out"].at[1, 3].set(jnp.nan)
    text = jax.random.randint(jax.random.key(1), (3_000,), 0, 40)
    harvest = dataclasses.replace(SMALL.harvest, largest=largest)
    of_layers = crosscoder(64, layers=(0, 1), harvest=harvest)
    cases = {
        "layer 1, of the model, are not finite: the sample .*, batch 0, example 0, dimension 3": (of_layers, (bad,))
    }
    if not largest:
        two = crosscoder(64, other=Model(path="runs/second"), layers=(1,))
        cases["layer 1, of runs/second, are not finite"] = (two, (params, bad))
    for message, (config, models) in cases.items():
        shared = Shared(models, text, jnp.zeros((0, 13), jnp.int32), {}, jnp.zeros(()))
        with pytest.raises(InputError, match=f"blocks.resid_post, {message}"):
            subject.prepared(config, (CFG,) * len(models), shared)


def test_models_of_different_widths_are_no_pieces():
    wide = dataclasses.replace(CFG, d_model=96)
    with pytest.raises(InputError, match=r"as wide in both models .* not \[32, 96\]"):
        subject.check_widths(crosscoder(128, other=Model(path="another")), (CFG, wide))


CAUSES = {
    "standard": ("dictionary.sparsity", "first_threshold"),
    "jumprelu": ("dictionary.first_threshold", "normalise"),
    "topk": ("none is positive on what is read", "penalty"),
    "matching_pursuit": ("none is positive", "penalty"),
}


@pytest.mark.parametrize("kind", CAUSES)
def test_dictionaries_that_fall_silent_are_complained_of(kind):
    """With a cause that their kind can have."""
    own = dataclasses.replace(SMALL.dictionary, kind=kind)
    assert complaint(own, 40, {"l0": np.array([3.0, np.nan, 0.5])}) == ""
    text, (named, other) = complaint(own, 40, {"l0": np.array([0.0, 1.0, 0.0])}), CAUSES[kind]
    assert f"no feature is active in 2 of 3 {NAMES[kind]} dictionaries by step 40 (members 0, 2): " in text
    assert named in text and "optimizer.learning_rate" in text and other not in text


ERRORS = {
    "layers = .2,.: a model has 2 layers, so none is 2": {"layers": (2,)},
    "dictionary.d_in = 32: 'blocks.mlp.post' is 48 wide": {"sites": ("blocks.mlp.post",)},
    "32 and 48 wide; members of one population": {"sites": ("blocks.resid_post", "blocks.mlp.post")},
    "takes whole windows, of 12 positions here": {"objective": "end_to_end", "batch_size": 11},
    "'blocks.attn.pattern': not a site of vectors": {"sites": ("blocks.attn.pattern",)},
    "'logits': not a site of vectors": {"sites": ("logits",)},
}


def test_dictionaries_that_miss_their_target_are_named():
    row = lambda level, l0: {"kind": "L1", "told": f"target = {level:g}", "level": level, "l0": l0}
    assert off_target([row(8.0, 9.9), row(8.0, 6.5)]) == "" == off_target([])
    text = off_target([row(8.0, 8.1), row(4.0, 986.0), row(16.0, 30.0)])
    assert "2 of 3" in text and "target = 4, has 986" in text and "control_rate" in text


@pytest.mark.parametrize("message", ERRORS)
def test_places_that_are_not_there_are_refused(on_random_weights, message):
    with pytest.raises(InputError, match=message):
        dictionaries.experiment(dataclasses.replace(SMALL, **ERRORS[message]))


def test_impossible_values_are_named():
    for message, changes in {
        "a transcoder has both": {"writes": "blocks.mlp.out"},
        "measure.windows = 3 must be a multiple": {"measure": Measurements(windows=3, at_once=2)},
        "stream_steps must be at least 1": {"stream_steps": 0},
        "dictionary.pieces = 1: 2 places are read, each a piece": {"other": Model(path="another")},
        "place = 2: 2 places are read, counted from 0": {"layers": (0, 1), "place": 2},
        "sites = .*: must be names of sites": {"sites": ()},
        "a transcoder reads one of them": {
            "sites": ("blocks.mlp.in", "blocks.resid_mid"),
            "writes": "blocks.mlp.out",
            "dictionary": dataclasses.replace(Config().dictionary, d_out=128),
        },
        "unknown 'global'": {"objective": "global"},
        "the model goes on from one place": {"objective": "end_to_end", "sites": ("blocks.mlp.post",)},
        "harvest.largest: end_to_end takes whole windows": {
            "objective": "end_to_end",
            "harvest": Harvest(largest=3.0),
        },
    }.items():
        with pytest.raises(InputError, match=message):
            dataclasses.replace(Config(), **changes).check()
    with pytest.raises(
        InputError, match="give the directory of a finished configs/grow.py, whose text is read too, or of"
    ):
        dictionaries.experiment(Config())
