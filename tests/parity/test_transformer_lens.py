"""Our models equal TransformerLens's at the logits and at every site that has one of its hooks' names, and faults are noticed.

Weights go the way that a person would take them: `save`, the file read by the safetensors package, `load_state_dict`.
TransformerLens computes in float64 where its configuration says so, save the frequencies of Llama 3's rotary scaling, which
it makes in float32: that cast is lifted here, and a test shows what it does. Errors are relative to a site's largest value.
"""

import contextlib
import dataclasses
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformer_lens import HookedEncoder, HookedTransformer, HookedTransformerConfig

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.sites import SITES, sites
from interp_jax.models.transformer import TransformerConfig
from tests.models.transformer_oracle import FAMILY, random_model
from third_party import transformer_lens

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:Hooked(Transformer|Encoder) is deprecated")

TINY = TransformerConfig(n_layers=2, d_model=12, n_heads=4, d_head=4, d_mlp=16, d_vocab=11, n_context=9)
LLAMA = dataclasses.replace(
    TINY, d_head=8, gated=True, activation="silu", norm="rms", norm_eps=1e-6, norm_cast_first=True, n_kv_heads=2,
    positions="rotary", biases="none",
)  # fmt: skip
TURNS = 8192 * 500_000.0 ** (-np.arange(4) / 4) / (2 * np.pi)
NTK = np.clip((TURNS - 1) / 3, 0, 1)
KINDS = {
    "gpt2": dataclasses.replace(TINY, positions="learned", tied=True, biases="layers"),
    "attention only": dataclasses.replace(TINY, d_mlp=0, positions="learned"),
    "shortformer": dataclasses.replace(TINY, positions="shortformer", d_mlp=0),
    "neox": dataclasses.replace(
        TINY, parallel=True, positions="rotary", rotary_dims=2, activation="gelu_erf", biases="layers"
    ),
    "llama": LLAMA,
    "llama 3": dataclasses.replace(
        LLAMA, rotary_base=500_000.0, rotary_factors=tuple((1 - NTK) / 8 + NTK), tied=True
    ),
    "mistral": dataclasses.replace(LLAMA, window=3),
    "qwen 2": dataclasses.replace(LLAMA, biases="qkv", n_kv_heads=4),
    "qwen 3": dataclasses.replace(LLAMA, qk_norm=True, n_kv_heads=1),
    "gemma 2": dataclasses.replace(
        LLAMA, placement="sandwich", norm_offset=1.0, norm_cast_first=False, activation="gelu", window=3,
        local_layers=(True, False), attention_cap=2.0, logit_cap=1.5, attention_scale=0.3, embed_scale=12**0.5, tied=True,
    ),
    "gemma 3": dataclasses.replace(
        FAMILY["sandwich, capped, local layers"], rotary_factors=(0.125, 0.125), attention_cap=0.0, logit_cap=0.0
    ),
    "no norm, no positions": dataclasses.replace(TINY, norm="none", positions="none", activation="relu"),
    "bidirectional": dataclasses.replace(TINY, positions="learned", causal=False),
    "bert": FAMILY["encoder"],
}  # fmt: skip
BARS = {"float64": 1e-9, "float32": 2e-5}
BUFFERS = ("mask", "IGNORE", "rotary_sin", "rotary_cos")
OTHER_HEADS = ("pooler", "nsp_head")


@contextlib.contextmanager
def lifted(really):
    """Makes `Tensor.float` mean float64: the one cast of TransformerLens that its configuration's dtype does not reach."""
    wide = mock.patch.object(torch.Tensor, "float", lambda tensor: tensor.to(torch.float64))
    with wide if really else contextlib.nullcontext():
        yield


def reference(directory: Path, cfg, dtype, change=lambda state: None):
    """A model of TransformerLens with the weights in a directory, changed; nothing may be left over or missing."""
    settings = transformer_lens.config_of(cfg) | {"use_attn_result": True, "device": "cpu", "init_weights": False}
    make = HookedEncoder if cfg.placement == "post" else HookedTransformer
    model = make(HookedTransformerConfig(**settings, dtype=getattr(torch, dtype)))
    state = load_file(directory / "model.safetensors")
    change(state)
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = [name for name in missing if not name.endswith(BUFFERS) and not name.startswith(OTHER_HEADS)]
    assert not left and not unexpected
    return model


def their_sites(model, cfg, tokens, types):
    """Logits and hooks by the names of our sites, layers stacked."""
    more = {"token_type_ids": torch.tensor(types)} if cfg.d_types else {}
    with torch.no_grad():
        logits, cache = model.run_with_cache(
            torch.tensor(tokens), return_type="logits", return_cache_object=False, **more
        )
    seen = {"logits": logits.numpy()}
    for site, hook in transformer_lens.hooks(cfg).items():
        layers = [cache[hook.format(l=layer)].numpy() for layer in range(cfg.n_layers if "{l}" in hook else 1)]
        seen[site] = np.stack(layers) if "{l}" in hook else layers[0]
    return seen


def our_sites(params, cfg, tokens, types):
    record = taps.record(transformer.apply, [site.name for site in sites(cfg)])
    with jax.default_matmul_precision("highest"):
        _, seen = record(params, jnp.asarray(tokens), cfg, None, jnp.asarray(types) if cfg.d_types else None)
    return {site: np.asarray(value) for site, value in seen.items()}


def error(mine, theirs):
    """The largest difference relative to the largest value, where scores are not masked."""
    mine = np.broadcast_to(mine, theirs.shape) if mine.shape[0] == 1 else mine
    if mine.shape != theirs.shape or not np.isfinite(mine).all():
        return np.inf
    shown = np.isfinite(theirs)
    return np.abs(mine[shown] - theirs[shown]).max() / np.abs(theirs[shown]).max()


def errors(cfg, directory, dtype, lift=True, change=lambda state: None):
    """Of the logits and of every site with a hook."""
    with jax.enable_x64(dtype == "float64"):
        params, tokens = random_model(cfg)
        params, tokens = jax.tree.map(lambda x: jnp.asarray(x, dtype), params), np.asarray(tokens, np.int64)
        types = np.arange(tokens.size).reshape(tokens.shape) % 2
        transformer_lens.save(directory, params, cfg)
        mine = our_sites(params, cfg, tokens, types)
    with lifted(lift and dtype == "float64"):
        theirs = their_sites(reference(directory, cfg, dtype, change), cfg, tokens, types)
    assert all(value.dtype == dtype for value in (*mine.values(), *theirs.values()))
    return {site: error(mine[site], theirs[site]) for site in theirs}


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_every_hook_agree(kind, dtype, tmp_path):
    cfg = KINDS[kind]
    found = errors(cfg, tmp_path, dtype)
    without = {site.name for site in sites(cfg) if site.alias} - set(found)
    assert without == ({"blocks.resid_mid"} if cfg.placement == "post" else set())
    worst = max(found, key=found.get)
    print(f"{kind}, {dtype}: {len(found)} sites, largest error {found[worst]:.1e} ({worst})")
    assert found[worst] <= BARS[dtype], (worst, found[worst])


def test_the_kinds_reach_every_site_with_a_hook():
    reached = {site for cfg in KINDS.values() for site in transformer_lens.hooks(cfg)}
    assert {site.name for site in SITES if site.alias} <= reached


def test_masks_are_the_same(tmp_path):
    cfg = KINDS["gemma 2"]
    params, tokens = random_model(cfg)
    transformer_lens.save(tmp_path, params, cfg)
    theirs = their_sites(reference(tmp_path, cfg, "float32"), cfg, np.asarray(tokens), None)
    masked = np.isinf(theirs["blocks.attn.scores"])
    np.testing.assert_array_equal(masked, our_sites(params, cfg, tokens, None)["blocks.attn.pattern"] == 0)
    assert masked.any() and (masked[0] != masked[1]).any()


def test_a_cast_to_float32_in_the_reference_is_seen(tmp_path):
    found = errors(KINDS["llama 3"], tmp_path, "float64", lift=False)
    print(f"not lifted: {found['blocks.attn.rot_k']:.1e} (blocks.attn.rot_k)")
    assert found["embed"] <= BARS["float64"] < found["blocks.attn.rot_k"]
    for kind in KINDS.keys() - {"llama 3"}:  # elsewhere there is none to lift
        assert max(errors(KINDS[kind], tmp_path, "float64", lift=False).values()) <= BARS["float64"]


@pytest.mark.parametrize(
    ("kind", "process"),
    [(kind, process) for kind in ("gpt2", "neox", "llama", "qwen 3") for process in (False, True)]
    + [("no norm, no positions", False), ("bert", False)],
)
def test_what_the_reference_writes_is_read(kind, process, tmp_path):
    cfg = KINDS[kind]
    params, tokens = random_model(cfg)
    transformer_lens.save(tmp_path, params, cfg)
    model = reference(tmp_path, cfg, "float32")
    if process:
        model.load_and_process_state_dict(dict(model.state_dict()), center_unembed=False)
        assert model.cfg.normalization_type in ("LNPre", "RMSPre")
    save_file({name: x.clone().contiguous() for name, x in model.state_dict().items()}, tmp_path / "model.safetensors")
    read = transformer_lens.config_from(model.cfg.to_dict())
    logits = transformer.apply(transformer_lens.load(tmp_path, read), tokens, read)
    with torch.no_grad():
        theirs = model(torch.tensor(np.asarray(tokens, np.int64)), return_type="logits").numpy()
    assert error(np.asarray(logits), theirs) <= BARS["float32"]


LOCAL = {"use_local_attn": True, "window_size": 3, "attn_types": ["local", "global"]}
YARN = {"use_yarn_rope": True, "yarn_factor": 4.0, "yarn_original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    "more",
    [
        YARN | {"yarn_attention_factor": 1.3, "rotary_scaling_factor": 3.0},
        YARN | {"yarn_beta_fast": 4.0, "yarn_beta_slow": 0.5, "yarn_truncate": False, "rotary_dim": 6} | LOCAL,
        {"use_NTK_by_parts_rope": True, "NTK_original_ctx_len": 32, "NTK_by_parts_high_freq_factor": 3.0} | LOCAL,
        {"rotary_scaling_factor": 8.0} | LOCAL,
        {"rotary_scaling_factor": 8.0, "rotary_base_local": 100.0} | LOCAL,
        {"rotary_base_local": 100.0, "attn_scale": 1.7, "act_fn": "gelu_fast"},
    ],
)
def test_configurations_are_read_as_the_reference_means_them(more, tmp_path):
    params, tokens = random_model(LLAMA)
    transformer_lens.save(tmp_path, params, LLAMA)
    settings = transformer_lens.config_of(LLAMA) | more
    cfg = transformer_lens.config_from(settings)
    with lifted(True), mock.patch.object(transformer_lens, "config_of", lambda cfg: settings):
        theirs = their_sites(reference(tmp_path, cfg, "float64"), cfg, np.asarray(tokens, np.int64), None)
    with jax.enable_x64(True):
        params = transformer_lens.load(tmp_path, LLAMA, dtype=jnp.float64)
        mine = our_sites(params, dataclasses.replace(cfg, biases="none"), tokens, None)
    assert max(error(mine[site], theirs[site]) for site in theirs) <= BARS["float64"]


def swap_heads(name):
    def change(state):
        state[name] = state[name].flip(0)

    return change


def drop(name):
    def change(state):
        state[name] = torch.zeros_like(state[name])

    return change


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize(
    ("kind", "change", "last_equal", "first_different"),
    [
        ("gpt2", swap_heads("blocks.1.attn.W_Q"), "blocks.resid_pre", "blocks.attn.q"),
        ("gpt2", drop("blocks.1.mlp.b_in"), "blocks.resid_mid", "blocks.mlp.pre"),
        ("neox", drop("blocks.1.attn.b_O"), "blocks.attn.result", "blocks.attn.out"),
        ("llama", swap_heads("blocks.1.attn._W_K"), "blocks.attn.q", "blocks.attn.k"),
        ("gemma 2", swap_heads("blocks.1.ln1_post.w"), "blocks.ln1_post.normalized", "blocks.attn.out"),
        ("qwen 3", swap_heads("blocks.1.attn.k_norm.w"), "blocks.attn.k", "blocks.attn.rot_k"),
        ("bert", drop("unembed.b_U"), "unembed.in", "logits"),
    ],
)
def test_a_fault_in_one_tensor_fails_the_comparison(kind, change, last_equal, first_different, dtype, tmp_path):
    found = errors(KINDS[kind], tmp_path, dtype, change=change)
    assert found[last_equal] <= BARS[dtype] < 1e-3 < found[first_different]
