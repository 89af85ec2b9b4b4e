"""An interchange equals an ordinary edit of a whole forward pass, and refuses pairs that do not line up."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.data.contrast.pairs import Pairs
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.models.circuit_truth import Prompts
from interp_jax.models.transformer import TransformerConfig
from interp_jax.patching.alignment import interchange as alignment_interchange
from interp_jax.patching.alignment import rotations
from interp_jax.patching.alignment.interchange import Interchanges, Swap, from_pairs, from_prompts, share, site_width

CFG = TransformerConfig(n_layers=3, d_model=8, n_heads=2, d_head=4, d_mlp=12, d_vocab=11, n_context=6)
N, P = 4, 5
KEY = jax.random.key(0)
DATA = Interchanges(
    *np.random.default_rng(0).integers(0, 11, (2, N, P)), *np.random.default_rng(1).integers(0, 11, (2, N)),
    np.array([4, 3, 4, 2]), np.stack([np.eye(P, dtype=bool)[[2]], np.array([[1, 0, 1, 1, 0]], bool)]),
)  # fmt: skip
random_columns = jax.jit(rotations.random_columns, static_argnums=(1, 2, 3))
swapped_logits = jax.jit(alignment_interchange.swapped_logits, static_argnums=(3, 4))


@cache
def params_of(dtype):
    with jax.enable_x64(True):
        return jax.tree.map(lambda x: x.astype(dtype), jax.jit(transformer.init, static_argnums=1)(KEY, CFG))


def swap_of(site, layer, place, K, weights=None, whole=False):
    basis = random_columns(jax.random.key(layer + K), site_width(site, CFG), K, "float64")
    weights = jnp.ones(K) if weights is None else jnp.asarray(weights)
    return Swap(jnp.asarray(layer), jnp.asarray(place), basis, weights, jnp.asarray(whole))


def model(params, tokens):
    return transformer.apply(params, tokens, CFG)


edited = jax.jit(taps.edit(model))


@partial(jax.jit, static_argnums=0)
def recorded(site, params, tokens):
    return taps.record(model, [site])(params, tokens)[1][site]


def naive(params, site, swap):
    """The base's activation, changed on the host, put in its place by an edit."""
    x, source = (np.asarray(recorded(site, params, tokens)) for tokens in (DATA.base, DATA.source))
    layered = site.startswith("blocks.")
    x, source = (a[int(swap.layer)] if layered else a for a in (x, source))
    R = np.asarray(swap.basis)
    projector = np.eye(len(R)) if swap.whole else R @ np.diag(np.asarray(swap.weights)) @ R.T
    mask = np.broadcast_to(DATA.where[int(swap.place)], (N, P))[..., None]
    value = np.where(mask, x + (source - x) @ projector, x)
    edit = taps.Edit("replace", value, layer=int(swap.layer) if layered else None)
    return edited({site: edit}, params, DATA.base)[np.arange(N), DATA.at]


@pytest.mark.parametrize(
    ("site", "layer"),
    [("blocks.resid_post", 0), ("blocks.resid_pre", 2), ("blocks.attn.out", 1), ("blocks.mlp.post", 1), ("embed", 0)],
)
def test_equals_an_edit_of_the_whole_pass(site, layer):
    with jax.enable_x64(True):
        params = params_of("float64")
        shared = share(params, CFG, DATA, site, (layer,) if site == "embed" else (0, 1, 2))
        for swap in (swap_of(site, layer, 1, 3), swap_of(site, layer, 0, 3, [1.0, 0.3, 0.0])):
            logits = swapped_logits(shared, jnp.arange(N), swap, CFG, site)
            np.testing.assert_allclose(logits, naive(params, site, swap), atol=1e-12)


def test_all_dimensions_are_the_whole_and_none_are_none():
    with jax.enable_x64(True):
        params, site = params_of("float64"), "blocks.resid_mid"
        shared, rows = share(params, CFG, DATA, site, (1,)), jnp.arange(N)
        full, whole = swap_of(site, 1, 1, 8), swap_of(site, 1, 1, 8, whole=True)
        expected = naive(params, site, whole)
        for swap in (full, whole):
            np.testing.assert_allclose(swapped_logits(shared, rows, swap, CFG, site), expected, atol=1e-12)
        plain = edited({}, params, DATA.base)[np.arange(N), DATA.at]
        assert np.abs(plain - expected).max() > 1e-3
        none = swapped_logits(shared, rows, swap_of(site, 1, 1, 8, np.zeros(8)), CFG, site)
        np.testing.assert_allclose(none, plain, atol=1e-12)


def test_rows_are_picked_and_layers_found_among_those_recorded():
    with jax.enable_x64(True):
        params, site = params_of("float64"), "blocks.resid_post"
        some, every = share(params, CFG, DATA, site, (0, 2)), share(params, CFG, DATA, site, (0, 1, 2))
        assert some.sources.shape == (N, 2, P, 8)
        swap = swap_of(site, 2, 1, 2)
        all_rows = swapped_logits(every, jnp.arange(N), swap, CFG, site)
        picked = swapped_logits(some, jnp.array([3, 0, 3, 1]), swap, CFG, site)
        np.testing.assert_allclose(picked, all_rows[np.array([3, 0, 3, 1])], atol=1e-12)


def test_padding_changes_nothing():
    """Contrast pairs of which one is padded on the left: as that pair alone, without padding."""
    with jax.enable_x64(True):
        params, site = params_of("float64"), "blocks.resid_post"
        corrupted, clean = (np.asarray(x, np.int32) for x in (DATA.base, DATA.source))
        places = {"X": np.array([3, 2, 3, 4]), "Y": np.array([4, 4, 2, 3]), "END": np.full(N, P - 1)}
        positions = np.array([[-1, -1, 0, 1, 2], *[[0, 1, 2, 3, 4]] * 3])
        pairs = Pairs(
            *map(jnp.asarray, (clean, corrupted, positions, DATA.counterfactual[:, None], DATA.answer[:, None])),
            {name: jnp.asarray(column) for name, column in places.items()},
        )
        data = from_pairs(pairs, ["X", ("X", "Y")])
        np.testing.assert_array_equal(data.where[1, 0], [False, False, False, True, True])
        np.testing.assert_array_equal(data.base, corrupted)
        np.testing.assert_array_equal(data.counterfactual, DATA.counterfactual)
        swap = swap_of(site, 1, 1, 2)
        padded = swapped_logits(share(params, CFG, data, site, (1,)), jnp.arange(N), swap, CFG, site)
        alone = Interchanges(
            data.base[:1, 2:], data.source[:1, 2:], data.counterfactual[:1], data.answer[:1], data.at[:1] - 2,
            data.where[:, :1, 2:],
        )  # fmt: skip
        short = swapped_logits(share(params, CFG, alone, site, (1,)), jnp.arange(1), swap, CFG, site)
        np.testing.assert_allclose(padded[0], short[0], atol=1e-12)
        assert from_pairs(pairs._replace(positions=jnp.arange(P)[None]), ["X"]).positions is None
        with pytest.raises(InputError, match="no place 'Z'"):
            from_pairs(pairs, ["Z"])


def test_prompts_of_one_length_are_read_at_their_end():
    clean, corrupted = np.arange(6).reshape(2, 3), np.arange(6, 12).reshape(2, 3)
    data = from_prompts(Prompts(clean, corrupted, np.array([[1], [2]]), np.array([[3], [4]])), (0, 2))
    np.testing.assert_array_equal(data.base, corrupted)
    np.testing.assert_array_equal(data.source, clean)
    np.testing.assert_array_equal(data.counterfactual, [1, 2])
    np.testing.assert_array_equal(data.answer, [3, 4])
    np.testing.assert_array_equal(data.at, [2, 2])
    np.testing.assert_array_equal(data.where, [[[True, False, False]], [[False, False, True]]])
    assert data.positions is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": DATA.source[:, 1:]}, "base tokens are [4, 5], source tokens [4, 4]: pairs must line up"),
        ({"where": DATA.where[0]}, "where is [1, 5]; for tokens [4, 5] it must be [choices, 1 or N, P]"),
        ({"where": DATA.where[..., 1:]}, "where is [2, 1, 4]; for tokens [4, 5]"),
        ({"counterfactual": np.array([0, 11, 1, 1])}, "counterfactual of pair 1 is 11: it goes from 0 to 10"),
        ({"answer": np.array([0, 1, 1, -1])}, "answer of pair 3 is -1: it goes from 0 to 10"),
        ({"at": np.array([4, 5, 4, 4])}, "at of pair 1 is 5: it goes from 0 to 4"),
        ({"at": np.array([4])}, "at is [1] for 4 pairs"),
        ({"base": np.full((N, P), 11)}, "token 11 in row 0, column 0: ids go from 0 to 10"),
        ({"positions": np.array([[-1, 0, -1, 1, 2]])}, "where: choice 0 takes column 2 of pair 0, which is padding"),
        ({"positions": np.array([[0, 1, 2, 3, -1]])}, "at of pair 0 is 4, which is padding"),
    ],
)
def test_impossible_pairs(changes, message):
    with pytest.raises(InputError) as error:
        share(params_of("float32"), CFG, DATA._replace(**changes), "blocks.resid_post", (0,))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_widths_of_sites():
    assert (site_width("blocks.mlp.pre", CFG), site_width("blocks.resid_mid", CFG)) == (12, 8)
    for site in ("logits", "unembed.in", "blocks.attn.pattern", "blocks.ln1.scale"):
        with pytest.raises(InputError, match="is not a vector per position here"):
            site_width(site, CFG)
