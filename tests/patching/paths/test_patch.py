"""Path patching equals forward passes in which all else is frozen by ordinary edits, one pass to read and one to run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interp_jax import taps
from interp_jax.errors import InputError
from interp_jax.models import transformer
from interp_jax.patching import metrics
from interp_jax.patching.paths.patch import Sender, every_head, every_mlp, patch_paths
from tests.patching.exact.test_grids import METRIC, MODELS, B, P, model, prompts

SITES = {"q": "blocks.attn.q", "k": "blocks.attn.k", "v": "blocks.attn.v", "mlp": "blocks.mlp.in", "logits": "logits"}
STREAMS = ("resid_pre", "resid_mid", "resid_post")
SITES |= {name: f"blocks.{name}" for name in STREAMS}
NO_HEAD = TOGETHER = -1


def frozen(cfg, own, free):
    """What freezes every head's mix and every MLP's output; `free(kind, layer)` says which mask stays free."""

    def z(x, layer):
        return jnp.where(free("z", layer)[..., None], x, own["blocks.attn.z"][layer])

    def mlp(x, layer):
        return jnp.where(free("mlp", layer), x, own["blocks.mlp.out"][layer])

    return {"blocks.attn.z": z} | ({"blocks.mlp.out": mlp} if cfg.d_mlp else {})


def compose(*functions):
    def run(x, layer):
        for function in functions:
            x = function(x, layer)
        return x

    return run


@partial(jax.jit, static_argnums=(1, 4, 5))
def naive_reading(params, cfg, seen, where, receiver, between, source):
    """Logits, what receivers read [L B P …], and what parts of the base run said, of a run in which a sender speaks."""
    (base, other), (l1, h1) = (seen.corrupted, seen.clean), where
    kinds = ["blocks.attn.z"] + (["blocks.mlp.out"] if cfg.d_mlp else [])
    run = lambda tokens: transformer.apply(params, tokens, cfg, seen.positions)
    own, theirs = (taps.record(run, kinds)(tokens)[1] for tokens in (base, other))
    theirs |= source
    heads = jnp.arange(cfg.n_heads)

    def send_z(x, layer):
        return jnp.where(((layer == l1) & (heads == h1))[:, None], theirs["blocks.attn.z"][layer], x)

    def send_mlp(x, layer):
        return jnp.where((layer == l1) & (h1 == NO_HEAD), theirs["blocks.mlp.out"][layer], x)

    nothing_free = lambda kind, layer: jnp.full(cfg.n_heads if kind == "z" else 1, kind == "mlp" and between == "mlps")
    hold = frozen(cfg, own, nothing_free) if between != "all" else {}
    send = {"blocks.attn.z": send_z} | ({"blocks.mlp.out": send_mlp} if cfg.d_mlp else {})
    edits = {site: compose(*([hold[site]] if site in hold else []), send[site]) for site in send}
    logits, read = taps.record(taps.edit_with(run, edits), [SITES[receiver]])(base)
    return logits, read[SITES[receiver]], own


@partial(jax.jit, static_argnums=(1, 5, 6))
def naive_stream(params, cfg, seen, heard, where, receiver, onward):
    """The final stream where receivers hear `heard`: layers l2 … stop - 1, and head h2 or all of them."""
    (value, own), (l2, stop, h2) = heard, where
    heads = jnp.arange(cfg.n_heads)
    there = lambda layer: (l2 <= layer) & (layer < stop)

    def receive(x, layer):
        mine = there(layer)
        if x.ndim == 4:
            mine = (mine & ((h2 == NO_HEAD) | (jnp.arange(x.shape[2]) == h2)))[:, None]
        return jnp.where(mine, value[layer], x)

    def free(kind, layer):
        if receiver in STREAMS:
            return jnp.full(cfg.n_heads if kind == "z" else 1, False)
        if receiver == "mlp":
            return jnp.full(cfg.n_heads, False) if kind == "z" else there(layer)[None]
        group = heads // (cfg.n_heads // (cfg.n_heads if receiver == "q" else cfg.n_groups))
        return there(layer) & ((h2 == NO_HEAD) | (group == h2)) if kind == "z" else jnp.full(1, False)

    after = frozen(cfg, own, free) if onward == "direct" else {}
    run = lambda tokens: transformer.stream(params, tokens, cfg, seen.positions)
    return taps.edit_with(run, after | {SITES[receiver]: receive})(seen.corrupted)


def naive_pair(params, cfg, seen, metric, where, receiver, between, onward, source):
    """The metric of a sender's path into one receiver; into all later ones where its layer is `TOGETHER`."""
    l1, h1, l2, h2 = where
    logits, *heard = naive_reading(params, cfg, seen, (l1, h1), receiver, between, source)
    rows = jnp.arange(len(seen.at))
    if receiver == "logits":
        return metric.of(logits[rows, seen.at])
    run = lambda *here: naive_stream(params, cfg, seen, heard, here, receiver, onward)
    first = l1 + (0 if receiver == "mlp" and h1 != NO_HEAD and not cfg.parallel else 1)
    if l2 != TOGETHER:
        stream = run(l2, l2 + 1, h2)
    elif onward == "all":
        stream = run(first, cfg.n_layers, NO_HEAD)
    else:  # each says to the logits what it would say alone
        own = run(cfg.n_layers, cfg.n_layers, NO_HEAD)
        stream = own + sum(run(layer, layer + 1, NO_HEAD) - own for layer in range(first, cfg.n_layers))
    return metric.of(transformer.unembed(params, stream[rows, seen.at], cfg))


def check(name, receiver, between, onward, senders=None, seen=None, receivers="each", source=None):
    cfg = MODELS[name]
    with jax.enable_x64(True):
        params, seen = model(cfg), prompts(cfg) if seen is None else seen
        senders = senders or (*every_head(cfg)[::3], *((Sender(0), Sender(1)) if cfg.d_mlp else ()))
        options = {"between": between, "onward": onward, "receivers": receivers, "source": source}
        got = patch_paths(params, cfg, seen, senders, receiver, METRIC, **options)
        n = {"q": cfg.n_heads, "k": cfg.n_groups, "v": cfg.n_groups}.get(receiver, 1)
        n = 1 if receivers == "together" else n
        values = got.metric.reshape(len(senders), -1, n, B)
        moved = 0.0
        for i, sender in enumerate(senders):
            for layer in range(values.shape[1]):
                for head in range(n):
                    where = sender.layer, NO_HEAD if sender.head is None else sender.head
                    where += (TOGETHER, NO_HEAD) if receivers == "together" else (layer, head)
                    want = naive_pair(params, cfg, seen, METRIC, where, receiver, between, onward, source or {})
                    assert np.abs(values[i, layer, head] - want).max() <= 1e-10, (sender, layer, head)
                    moved = max(moved, np.abs(want - got.corrupted).max())
    assert moved > 1e-4
    return got


@pytest.mark.parametrize("receiver", STREAMS)
@pytest.mark.parametrize("onward", ["all", pytest.param("direct", marks=pytest.mark.slow)])
def test_streams_receive(receiver, onward):
    got = check("mlp", receiver, "nothing", onward)
    assert [axis.name for axis in got.grid.axes] == ["sender", "layer"]


@pytest.mark.slow
@pytest.mark.parametrize("receiver", STREAMS)
@pytest.mark.parametrize("between", ["mlps", "all"])
def test_streams_receive_what_others_make_of_it(receiver, between):
    check("sandwich, capped, local layers", receiver, between, "all")


@pytest.mark.parametrize("receiver", ["q", pytest.param("v", marks=pytest.mark.slow)])
@pytest.mark.parametrize("onward", ["all", pytest.param("direct", marks=pytest.mark.slow)])
def test_heads_that_are_named_hear_together(receiver, onward):
    """All of them named is "together"; one of them is that one alone; two are a run in which both hear."""
    cfg = MODELS["sandwich, capped, local layers"]
    n = cfg.n_heads if receiver == "q" else cfg.n_groups
    with jax.enable_x64(True):
        run = partial(
            patch_paths, model(cfg), cfg, prompts(cfg), every_head(cfg)[::3], receiver, METRIC, onward=onward
        )
        each, together = run().metric, run(receivers="together").metric
        everyone = run(receivers=[(layer, head) for layer in range(3) for head in range(n)]).metric
        one, two = run(receivers=[(2, 1)]).metric, run(receivers=[(2, 1), (1, 0)]).metric
        params, seen = model(cfg), prompts(cfg)
        heard = naive_reading(params, cfg, seen, (0, 0), receiver, "nothing", {})[1:]
    assert np.abs(everyone - together).max() <= 1e-10
    assert np.abs(one - each[:, 2, 1]).max() <= 1e-10
    assert np.abs(two - one)[0].max() > 1e-4
    if onward == "all":
        with jax.enable_x64(True):
            want = both_hear(params, cfg, seen, heard[0], receiver, ((2, 1), (1, 0)))
        assert np.abs(two[0] - want).max() <= 1e-10


def both_hear(params, cfg, seen, value, receiver, named):
    """The metric of a run in which the named heads hear `value` [L B P N E]."""

    def receive(x, layer):
        for at, head in named:
            x = jnp.where((layer == at) & (jnp.arange(x.shape[2]) == head)[:, None], value[layer], x)
        return x

    run = lambda tokens: transformer.apply(params, tokens, cfg, seen.positions)
    logits = taps.edit_with(run, {SITES[receiver]: receive})(seen.corrupted)
    return METRIC.of(logits[jnp.arange(len(seen.at)), seen.at])


def test_mlps_that_are_named_hear_together():
    cfg = MODELS["mlp"]
    run = partial(patch_paths, model(cfg, jnp.float32), cfg, prompts(cfg), every_head(cfg)[:2], "mlp", METRIC)
    for onward in ("all", "direct"):
        each, one = run(onward=onward), run(receivers=[(1, None)], onward=onward)
        assert np.allclose(one.metric, each.metric[:, 1], atol=1e-6)
        assert not np.allclose(run(receivers=[(1, None), (2, None)], onward=onward).metric, one.metric, atol=1e-4)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("between", ["nothing", slow("mlps"), slow("all")])
@pytest.mark.parametrize("onward", ["all", "direct"])
def test_queries(between, onward):
    check("mlp", "q", between, onward)


@pytest.mark.parametrize("receiver", ["v", "mlp", slow("k"), slow("logits")])
@pytest.mark.parametrize("between", ["nothing", slow("mlps")])
def test_receivers(receiver, between):
    check("sandwich, capped, local layers", receiver, between, "all")


@pytest.mark.parametrize("receiver", ["v", slow("q"), slow("mlp")])
def test_receivers_that_speak_directly(receiver):
    check("sandwich, capped, local layers", receiver, "nothing", "direct")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parallel, partial rotary", "upper layers see no positions", "attention only"])
def test_families(name):
    check(name, "k", "nothing", "direct")
    check(name, "k", "all", "all")


@pytest.mark.parametrize("name", ["parallel, partial rotary", slow("sandwich, capped, local layers")])
@pytest.mark.parametrize("onward", ["all", slow("direct")])
@pytest.mark.parametrize("receiver", ["k", "mlp", slow("q"), slow("v")])
def test_all_later_receivers_together(name, onward, receiver):
    got = check(name, receiver, "nothing", onward, receivers="together")
    assert [axis.name for axis in got.grid.axes] == ["sender"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated, windowed, scaled rotary", "upper layers see no positions", "grouped, tied"])
@pytest.mark.parametrize("between", ["nothing", "all"])
def test_all_later_heads_together_in_other_families(name, between):
    for receiver in ("q", "k", "v"):
        check(name, receiver, between, "all", receivers="together")


def test_three_ways_are_one_program(compilations):
    cfg = MODELS["mlp"]
    run = partial(patch_paths, model(cfg, jnp.float32), cfg, prompts(cfg), every_head(cfg))
    for receivers in ("each", "together"):
        queries = run("q", METRIC, receivers=receivers)
        with compilations() as names:
            others = [run(way, METRIC, receivers=receivers) for way in "kv"]
        assert not names
        assert all(np.abs(queries.metric - other.metric).max() > 1e-4 for other in others)


def test_the_logits_are_one_receiver_together_or_not():
    cfg = MODELS["mlp"]
    run = partial(patch_paths, model(cfg, jnp.float32), cfg, prompts(cfg), every_mlp(cfg), "logits", METRIC)
    assert np.array_equal(run().metric, run(receivers="together").metric)


@pytest.mark.slow
def test_padding():
    cfg = MODELS["mlp"]
    check("mlp", "v", "nothing", "all", seen=prompts(cfg, padded=True)._replace(at=jnp.array([2, 4])))
    check("mlp", "mlp", "all", "direct", seen=prompts(cfg, padded=True))
    check("mlp", "k", "nothing", "all", seen=prompts(cfg, padded=True), receivers="together")


def random_source(cfg):
    keys = jax.random.split(jax.random.key(3))
    z, out = (cfg.n_layers, B, P, cfg.n_heads, cfg.d_head), (cfg.n_layers, B, P, cfg.d_model)
    return {"blocks.attn.z": jax.random.normal(keys[0], z), "blocks.mlp.out": jax.random.normal(keys[1], out)}


@pytest.mark.parametrize("between", ["nothing", "all"])
def test_senders_say_what_is_given(between):
    """Heads and MLPs alike, and not what the other run has them say."""
    with jax.enable_x64(True):
        source = random_source(MODELS["mlp"])
    check("mlp", "q", between, "all", senders=(Sender(0, 1), Sender(1)), source=source)


def test_given_activations_are_cut_with_the_prompts():
    cfg = MODELS["mlp"]
    run = partial(patch_paths, model(cfg, jnp.float32), cfg, prompts(cfg), (Sender(0, 1), Sender(0)), "k", METRIC)
    source = jax.tree.map(np.asarray, random_source(cfg))
    whole, parts = run(source=source), run(source=source, memory=3e4)
    assert np.allclose(whole.metric, parts.metric, atol=1e-5)
    assert np.array_equal(whole.clean, run().clean), "the runs are compared as they are"


def test_cut_to_fit():
    cfg = MODELS["mlp"]
    params, seen = model(cfg, jnp.float32), prompts(cfg)
    senders = (*every_head(cfg)[::5], *every_mlp(cfg))
    whole = patch_paths(params, cfg, seen, senders, "q", METRIC, between="all")
    parts = patch_paths(params, cfg, seen, senders, "q", METRIC, between="all", memory=3e4)
    assert np.allclose(whole.metric, parts.metric, atol=1e-5)
    assert [axis.name for axis in whole.grid.axes] == ["sender", "layer", "head"]


ERRORS = {
    "receiver = 'qq': did you mean 'q'": dict(receiver="qq"),
    "between = 'none'": dict(between="none"),
    "receivers = 'all': known: each, together": dict(receivers="all"),
    "the model has 3 layers of 4 heads": dict(senders=[Sender(3, 0)]),
    "no senders": dict(senders=[]),
    "no receivers": dict(receivers=[]),
    "receiver .1, 4. of 'q': the model has 3 layers of 4": dict(receivers=[(1, 4)]),
    "receiver = 'logits' has no heads or MLPs to name": dict(receiver="logits", receivers=[(1, 1)]),
    "a stream hears all that was said before it": dict(receiver="resid_pre", receivers="together"),
    "nothing lies between attention and MLP": dict(receiver="resid_mid", name="parallel, partial rotary"),
    "norms rescale": dict(name="encoder"),
    "without MLPs": dict(name="attention only", receiver="mlp"),
    "source has no 'blocks.attn.z', which is patched": dict(source={"blocks.mlp.out": np.zeros(3)}),
    "source of 'blocks.attn.z' is .3,., the site is": dict(source={"blocks.attn.z": np.zeros(3)}),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    given = (
        dict(name="mlp", receiver="q", senders=[Sender(0, 0)], between="nothing", receivers="each") | ERRORS[message]
    )
    cfg = MODELS[given["name"]]
    with pytest.raises(InputError, match=message):
        patch_paths(
            model(cfg, jnp.float32), cfg, prompts(cfg), given["senders"], given["receiver"], METRIC,
            between=given["between"], receivers=given["receivers"], source=given.get("source"),
        )  # fmt: skip


def test_names_of_metrics_reach_the_result():
    cfg = MODELS["attention only"]
    got = patch_paths(
        model(cfg, jnp.float32), cfg, prompts(cfg), [Sender(0, 1)], "logits", metrics.loss(np.array([1, 2]))
    )
    assert got.name == "loss" and got.grid.axes[0].labels == ("0.1",)
