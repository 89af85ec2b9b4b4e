"""Dictionaries of SAELens: what is written is read back, what it says otherwise is refused, and, with it, the same features."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax.dictionaries.dead import auxiliary
from interp_jax.dictionaries.judged import Situation
from interp_jax.errors import InputError
from tests.third_party.dictionaries import D, F, K, examples, made, same, says
from third_party import saelens

EXACT = [
    {"kind": "standard"},
    {"kind": "standard", "centred": False},
    {"kind": "gated"},
    {"kind": "topk"},
    {"kind": "abs_topk"},
    {"kind": "jumprelu", "thresholds": "linear"},
    {"kind": "matching_pursuit"},
    {"kind": "standard", "d_out": 4},
    {"kind": "standard", "d_out": 4, "skip": True},
    {"kind": "jumprelu", "thresholds": "linear", "d_out": 4},
    {"kind": "jumprelu", "thresholds": "linear", "d_out": 4, "skip": True},
]
OTHERWISE = [{"kind": "jumprelu"}, {"kind": "batch_topk"}, {"kind": "matryoshka"}, {"kind": "p_anneal"}]
named = lambda changes: "-".join(map(str, changes.values()))


@pytest.mark.parametrize("changes", EXACT, ids=named)
def test_what_is_written_is_read_back(tmp_path, changes):
    params, cfg = made(**changes)
    saelens.save(tmp_path, params, cfg, {"hook_name": "blocks.1.hook_resid_pre"})
    again, read = saelens.load(tmp_path)
    same(params, again)
    x = examples()
    for a, b in zip(says(params, cfg, x), says(again, read, x), strict=True):
        np.testing.assert_array_equal(a, b)
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    saelens.save(tmp_path / "again", again, read, {"hook_name": "blocks.1.hook_resid_pre"})
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == first


@pytest.mark.parametrize("changes", OTHERWISE, ids=named)
def test_kinds_that_are_written_as_others_say_the_same(tmp_path, changes):
    params, cfg = made(**changes)
    saelens.save(tmp_path, params, cfg)
    again, read = saelens.load(tmp_path)
    assert read.kind == ("standard" if cfg.kind == "p_anneal" else "jumprelu")
    for a, b in zip(says(params, cfg, examples()), says(again, read, examples()), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_features_not_in_use_are_left_out(tmp_path):
    params, cfg = made(kind="topk", width=10)
    saelens.save(tmp_path, params, cfg)
    again, read = saelens.load(tmp_path)
    assert read.n_features == 10 and again["W_enc"].shape == (10, D)
    (f, said), (g, again_said) = says(params, cfg, examples()), says(again, read, examples())
    np.testing.assert_allclose(f[:, :10], g, rtol=1e-6)
    np.testing.assert_allclose(said, again_said, rtol=1e-5, atol=1e-6)


def write(tmp_path, kind="topk", **changes):
    params, cfg = made(kind=kind)
    saelens.save(tmp_path, params, cfg)
    config = json.loads((tmp_path / "cfg.json").read_text())
    config = {name: value for name, value in (config | changes).items() if value != "absent"}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    return params, cfg


def test_a_config_before_version_6(tmp_path):
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "architecture": "standard", "k": "absent"}
    more = {"metadata": "absent", "hook_point": "blocks.1.hook_resid_pre", "lr": 4e-4, "use_ghost_grads": False}
    params, _ = write(tmp_path, **old, **more)
    again, read = saelens.load(tmp_path)
    assert read.kind == "topk" and read.k == K
    same(params, again)


ERRORS = {
    "field 'ks' is not handled; did you mean 'k'": {"ks": 3},
    "architecture = 'temporal' is not handled": {"architecture": "temporal"},
    "normalize_activations = 'layer_norm' is not handled": {"normalize_activations": "layer_norm"},
    "activation_fn = 'gelu' is not handled": {"activation_fn": "gelu"},
    "k = None has to be a number": {"k": None},
    "no field 'd_sae'": {"d_sae": "absent"},
    "tensor 'W_enc' has shape .6, 16., expected .6, 17.": {"d_sae": F + 1},
    "no tensor 'threshold'": {"architecture": "jumprelu"},
}
PURSUITS = {
    "residual_threshold = 0.01 is not handled; it has to be 0.0": {"residual_threshold": 0.01},
    "residual_threshold = None is not handled": {"residual_threshold": "absent"},
    "stop_on_duplicate_support = True is not handled": {"stop_on_duplicate_support": True},
    "max_iterations = 0 has to be a number of steps": {"max_iterations": 0},
    "apply_b_dec_to_input = False is not handled": {"apply_b_dec_to_input": False},
}


@pytest.mark.parametrize("message", [*ERRORS, *PURSUITS])
def test_what_is_not_handled_is_named(tmp_path, message):
    write(tmp_path, **(ERRORS.get(message) or {"kind": "matching_pursuit", **PURSUITS[message]}))
    with pytest.raises(InputError, match=message) as error:
        saelens.load(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_pursuit_without_a_number_of_steps_takes_as_many_as_there_are_dimensions(tmp_path):
    write(tmp_path, "matching_pursuit", max_iterations=None)
    assert saelens.load(tmp_path)[1].k == D


def test_weights_that_are_not_finite_are_named(tmp_path):
    """As of every other format: `check_tensors` reads them all."""
    params, cfg = made(kind="jumprelu", thresholds="linear")
    saelens.save(tmp_path, params | {"W_dec": params["W_dec"].at[3, 2].set(np.nan)}, cfg)
    with pytest.raises(
        InputError, match="sae_weights.safetensors: tensor 'W_dec' is not finite in 1 places, first at .3, 2."
    ):
        saelens.load(tmp_path)


def test_what_saelens_lacks_is_not_written(tmp_path):
    clt = {"kind": "cross_layer", "d_out": 4, "pieces": 2}
    for changes in (clt, {"kind": "topk", "d_out": 4}, {"kind": "standard", "pieces": 2}):
        with pytest.raises(InputError, match="SAELens has no dictionary of kind"):
            saelens.save(tmp_path, *made(**changes))
    assert not list(tmp_path.iterdir())


# --- with SAELens itself


@pytest.mark.peers
@pytest.mark.parametrize("changes", EXACT + OTHERWISE, ids=named)
def test_saelens_reads_it_and_says_the_same(tmp_path, changes):
    import torch
    from sae_lens import SAE

    params, cfg = made(**changes)
    saelens.save(tmp_path, params, cfg)
    sae = SAE.load_from_disk(tmp_path)
    x = examples()
    f, said = says(params, cfg, x)
    with torch.no_grad():
        features = sae.encode(torch.tensor(x))
        theirs = sae(torch.tensor(x)) if cfg.skip else sae.decode(features)
    np.testing.assert_allclose(f, features.numpy(), atol=1e-5)
    np.testing.assert_allclose(said, theirs.numpy(), atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize(
    "name",
    ["Standard", "Gated", "TopK", "AbsTopK", "JumpReLU", "BatchTopK", "MatryoshkaBatchTopK", "MatchingPursuit"],
)
def test_what_saelens_writes_is_read_and_says_the_same(tmp_path, name):
    """Saved for inference by its own training classes, whose TopK features are scaled by the decoder's rows."""
    import sae_lens
    import torch
    from sae_lens import SAE

    own = {"k": K} if "TopK" in name else {}
    own |= {"matryoshka_widths": [4, F]} if name.startswith("Matryoshka") else {}
    if name == "MatchingPursuit":
        own |= {"max_iterations": K, "residual_threshold": 0.0, "stop_on_duplicate_support": False}
    torch.manual_seed(0)
    sae = getattr(sae_lens, f"{name}TrainingSAE")(
        getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=D, d_sae=F, **own)
    )
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(
                torch.randn(parameter.shape).abs() if parameter.ndim == 1 else torch.randn(parameter.shape)
            )
        if name == "MatchingPursuit":  # whose coefficients grow where rows are longer
            sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
    sae.save_inference_model(str(tmp_path))
    theirs, x = SAE.load_from_disk(tmp_path), examples()
    f, said = says(*saelens.load(tmp_path), x)
    with torch.no_grad():
        features = theirs.encode(torch.tensor(x))
        np.testing.assert_allclose(f, features.numpy(), atol=1e-5)
        np.testing.assert_allclose(said, theirs.decode(features).numpy(), atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("n_dead", [0, 1, 2, 9])
def test_its_auxiliary_loss_and_gradient_are_saelens(n_dead):
    """Of fewer dead features than the D / 2 that may be taken, of as many, and of more."""
    import torch
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig

    params, cfg = made(kind="topk", auxiliary="saelens", auxiliary_weight=1.0)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=F, k=K, rescale_acts_by_decoder_norm=False))
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            own = np.asarray(params[name])
            getattr(sae, name).copy_(torch.tensor(own.T.copy() if name == "W_enc" else own))
    x, dead = examples(), np.arange(F) < n_dead
    f, pre = sae.encode_with_hidden_pre(torch.tensor(x))
    theirs = sae.calculate_topk_aux_loss(torch.tensor(x), sae.decode(f), pre, torch.tensor(dead))
    left = jnp.asarray(x - sae.decode(f).detach().numpy())
    situation = Situation(jnp.float32(1), jnp.asarray(dead))
    ours, grads = jax.value_and_grad(lambda p: auxiliary(p, jnp.asarray(x), left, cfg, situation))(params)
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    assert (theirs.item() > 0) == (n_dead > 0)
    if n_dead:
        theirs.backward()
        np.testing.assert_allclose(grads["W_enc"], sae.W_enc.grad.numpy().T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(grads["W_dec"], sae.W_dec.grad.numpy(), rtol=1e-4, atol=1e-5)
