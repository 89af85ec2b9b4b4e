"""Pages of crosscoders and cross-layer transcoders: features fire by all that is read, and are looked at in one piece."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.activations.normaliser import normalised
from interp_jax.dictionaries import dictionary
from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.experiments import features
from interp_jax.experiments.dictionaries import runs as trained_runs
from interp_jax.experiments.features import source
from interp_jax.experiments.features.config import Config, Shown, Source
from interp_jax.experiments.features.source import Found, Text, moved
from interp_jax.experiments.features.summary import place_told
from interp_jax.experiments.subjects.model import Model
from interp_jax.models import transformer
from tests.experiments.small_dictionaries import CFG, SMALL, crosscoder, of_random_weights

HELD_OUT = np.random.default_rng(1).integers(0, 40, 120)
MODELS = [jax.tree.map(lambda x: 2 * x, transformer.init(jax.random.key(seed), CFG)) for seed in (0, 3)]
MULTIPLE = 20.0  # first rows are short
SHOWN = Shown(strongest=3, drawn=4, quantiles=2, before=4, after=3, tokens=3, neighbours=2)
CROSS_LAYER = {
    "kind": "cross_layer", "pieces": 2, "d_in": 64, "d_out": 64, "n_features": 20, "first_threshold": 0.1,
    "first_norm": 1.0,
}  # fmt: skip
TRAINED = {
    "layers": crosscoder(64, layers=(0, -1)),
    "models": crosscoder(64, layers=(0,), other=Model(path="another")),
    "cross-layer": dataclasses.replace(
        SMALL, layers=(0, 1), writes="blocks.mlp.out", dictionary=dataclasses.replace(SMALL.dictionary, **CROSS_LAYER)
    ),
}
PLACES = {  # (model, read, written, layer) of both pieces
    "layers": ((0, "blocks.resid_post", "blocks.resid_post", 0), (0, "blocks.resid_post", "blocks.resid_post", 1)),
    "models": ((0, "blocks.resid_post", "blocks.resid_post", 0), (1, "blocks.resid_post", "blocks.resid_post", 0)),
    "cross-layer": ((0, "blocks.resid_post", "blocks.mlp.out", 0), (0, "blocks.resid_post", "blocks.mlp.out", 1)),
}  # fmt: skip


def looked_at(monkeypatch, what, piece):
    """What is observed in a piece; the dictionary; how activations are normalised."""
    trained = TRAINED[what]
    params = dictionary.init(jax.random.key(5), trained.dictionary)
    monkeypatch.setattr(trained_runs, "subject", of_random_weights)
    monkeypatch.setattr(source, "find", lambda asked: Found(None, None, trained))
    monkeypatch.setattr(source, "load", lambda found: params)
    monkeypatch.setattr(source, "text_of", lambda trained: Text(HELD_OUT, [str(i) for i in range(40)], "random"))
    config = Config(dictionary=Source(path="somewhere", piece=piece), shown=SHOWN)
    text = dataclasses.replace(config.text, windows=10, at_once=5)
    clamp = dataclasses.replace(config.clamp, windows=2, multiple=MULTIPLE)
    config = dataclasses.replace(config, text=text, clamp=clamp)
    made = features.experiment(config)
    state = made.run.init(0, config)
    seen = jax.jit(lambda state, shared: made.observe(state, config, shared))(state, made.shared)
    return jax.tree.map(np.asarray, seen), params, trained.dictionary, made.shared.subject.normal


def activation(model, site, layer, tokens):
    """Of a model, [W P D]."""
    return taps.record(lambda t: transformer.apply(MODELS[model], t, CFG), {site: (layer,)})(tokens)[1][site][0]


@pytest.mark.parametrize("what", TRAINED)
def test_features_fire_by_all_that_is_read_and_are_clamped_in_one_piece(monkeypatch, what):
    """In either piece they fire alike; what they do is what their rows of that piece do, in its model."""
    windows = HELD_OUT.reshape(10, 12)
    for piece, (model, _, written, layer) in enumerate(PLACES[what]):
        seen, params, own, normal = looked_at(monkeypatch, what, piece)
        x = jnp.concatenate([activation(m, read, at, windows) for m, read, _, at in PLACES[what]], -1)
        f = dictionary.encode(params, normalised(x.reshape(-1, 64), normal["read"]), own).reshape(10, 12, -1)
        counts = (np.arange(12) >= 1) & (windows != 0)
        f = np.asarray(f) * counts[..., None]
        assert seen["n"] == counts.sum() and (f != 0).any()
        np.testing.assert_array_equal(seen["fired"], (f != 0).sum((0, 1)))
        rows = np.asarray(dictionary.rows(params, own)).reshape(own.n_features, 2, 32)
        np.testing.assert_allclose(seen["lengths"], np.linalg.norm(rows, axis=-1), rtol=1e-5)

        tokens = windows[[0, -1]]
        i = int(np.argmax(seen["fired"] * (np.linalg.norm(rows[:, piece], axis=-1) > 0)))
        row = rows[i, piece] * np.asarray(normal["write"].back).reshape(2, 32)[piece]
        level, held = MULTIPLE * seen["strongest.value"][i, 0], f[[0, -1]][..., i]
        change = np.where(counts[[0, -1]], level - held, 0)[..., None] * row
        run = lambda t, model=model: transformer.apply(MODELS[model], t, CFG)
        put = lambda x, at, change=change, layer=layer: jnp.where(at == layer, x + change, x)
        logits = run(tokens), taps.edit_with(run, {written: put})(tokens)
        before, after = (np.asarray(jax.nn.log_softmax(x), np.float64) for x in logits)
        kl = (np.exp(before) * (before - after)).sum(-1)[counts[[0, -1]]].mean()
        at = list(seen["clamped.feature"]).index(i)
        assert seen["clamped.kl"][at] == pytest.approx(kl, rel=2e-3) and kl > 1e-4


def test_a_cross_layer_feature_writes_nothing_to_layers_before_its_own(monkeypatch):
    seen, _, _, _ = looked_at(monkeypatch, "cross-layer", 0)
    assert (seen["lengths"][:10] > 0).all()
    assert (seen["lengths"][10:, 0] == 0).all() and (seen["lengths"][10:, 1] > 0).all()
    later = np.isin(seen["clamped.feature"], np.arange(10, 20))
    np.testing.assert_allclose(seen["clamped.kl"][later], 0, atol=1e-7)


def test_rows_are_what_single_features_say():
    """For every kind of decoder: f W is decode(f) less decode(0)."""
    for own in (
        TRAINED["cross-layer"].dictionary,
        TRAINED["layers"].dictionary,
        Dictionary(d_in=8, n_features=20, most=4, k=4),
    ):
        params = dictionary.init(jax.random.key(0), own)
        said = dictionary.decode(params, jnp.eye(20), own) - dictionary.decode(params, jnp.zeros((1, 20)), own)
        np.testing.assert_allclose(dictionary.rows(params, own), said, atol=1e-6)


def test_a_piece_that_is_not_there_is_named(monkeypatch):
    for what, piece in (("layers", 2), ("models", -1)):
        with pytest.raises(
            InputError, match=f"dictionary.piece = {piece}: the dictionary has 2 pieces, counted from 0"
        ):
            looked_at(monkeypatch, what, piece)
    monkeypatch.setitem(TRAINED, "one", SMALL)
    with pytest.raises(InputError, match="dictionary.piece = 1: the dictionary has one piece, 0"):
        looked_at(monkeypatch, "one", 1)
    with pytest.raises(InputError, match="dictionary.other = 'there': the dictionary reads one model"):
        moved(SMALL, Source(other="there"))


def test_the_page_says_which_piece_is_looked_at():
    class Member:
        hash = "abc"

    told = place_told(Found(Member(), None, dataclasses.replace(TRAINED["models"], model=Model(path="one"))), 1)
    assert "layer 0, of `one` and of `another`; its hash is `abc`" in told
    assert "looked at in piece 1: `blocks.resid_post`, layer 0, of `another`" in told
    told = place_told(Found(Member(), None, TRAINED["cross-layer"]), 1)
    assert (
        "`blocks.resid_post` (and says `blocks.mlp.out`), layer 0; " in told
        and "looked at in piece 1: `blocks.resid_post` (and says" in told
    )
