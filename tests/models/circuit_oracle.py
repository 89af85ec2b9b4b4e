"""Patching the slow and certain way: whole forward passes with one head, edge or input replaced, to check hand-built truths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from interp_jax import taps
from interp_jax.models import transformer
from interp_jax.models.circuit_truth import SITES, Effects

NAMES = [f"blocks.attn.{site}" for site in SITES]


def metric(params, tokens, cfg, prompts, edits=None):
    """Difference of logits at the last position, [B]."""
    model = lambda tokens: transformer.apply(params, tokens, cfg)
    tokens = jnp.asarray(tokens)
    logits = (taps.edit(model)(edits, tokens) if edits else model(tokens))[:, -1]
    said, other = (jnp.take_along_axis(logits, jnp.asarray(t), 1)[:, 0] for t in (prompts.answers, prompts.others))
    return said - other


unpatched = jax.jit(metric, static_argnames="cfg")


@partial(jax.jit, static_argnames=("cfg", "sites"))
def activations(params, tokens, cfg, sites):
    return taps.record(lambda tokens: transformer.apply(params, tokens, cfg), sites)(jnp.asarray(tokens))[1]


@partial(jax.jit, static_argnames="cfg")
def heads(params, base, source, prompts, cfg):
    """The metric after each head's activation at each site is replaced by that of another run, [sites L H B]."""
    values = activations(params, source, cfg, tuple(NAMES))
    shape = (len(NAMES), cfg.n_layers, cfg.n_heads)
    masks = jnp.eye(np.prod(shape), dtype=bool).reshape(-1, len(NAMES), cfg.n_layers, 1, 1, cfg.n_heads, 1)
    edits = lambda where: {name: taps.Edit("replace", values[name], where[i]) for i, name in enumerate(NAMES)}
    return jax.vmap(lambda where: metric(params, base, cfg, prompts, edits(where)))(masks).reshape(*shape, -1)


@partial(jax.jit, static_argnames="cfg")
def attributed(params, base, source, prompts, cfg):
    """The metric to first order after the same replacements, [sites L H B]."""
    here, there = (activations(params, tokens, cfg, tuple(NAMES)) for tokens in (base, source))
    edits = lambda added: {name: taps.Edit("add", added[name]) for name in NAMES}
    total = lambda added: metric(params, base, cfg, prompts, edits(added)).sum()
    gradients = jax.grad(total)(jax.tree.map(jnp.zeros_like, here))
    change = [jnp.einsum("lbphe,lbphe->lhb", gradients[name], there[name] - here[name]) for name in NAMES]
    return metric(params, base, cfg, prompts) + jnp.stack(change)


@partial(jax.jit, static_argnames=("cfg", "via"))
def edge(params, base, source, prompts, sender, receiver, cfg, via):
    """The metric where a receiver's input alone hears another run of the sender, [B]."""
    (sent, by), (layer, head) = sender, receiver
    z = [activations(params, tokens, cfg, ("blocks.attn.z",))["blocks.attn.z"] for tokens in (base, source)]
    attn = params["blocks"]["attn"]
    heard = (z[1] - z[0])[sent, :, :, by] @ attn["W_O"][sent, by] @ attn[f"W_{via.upper()}"][layer, head]
    value = jnp.zeros((*heard.shape[:2], cfg.n_heads, cfg.d_head), heard.dtype).at[:, :, head].set(heard)
    return metric(params, base, cfg, prompts, {f"blocks.attn.{via}": taps.Edit("add", value, layer=layer)})


def both_ways(patch, params, prompts, cfg, **where):
    """Normalised metrics of every example, denoised and noised."""
    clean, corrupted = (unpatched(params, tokens, cfg, prompts) for tokens in (prompts.clean, prompts.corrupted))
    runs = ((prompts.corrupted, prompts.clean), (prompts.clean, prompts.corrupted))
    patched = (patch(params, *pair, prompts, cfg=cfg, **where) for pair in runs)
    return Effects(*(np.asarray((one - corrupted) / (clean - corrupted)) for one in patched))


def check(params, cfg, truth, corruption, prompts, tolerance):
    """Every example's effects at every site, along every edge, and what attribution is said to give, are the truth's."""
    expected = truth.expected[corruption]
    assert set(expected.heads) == set(SITES)
    for measure, table in ((heads, expected.heads), (attributed, expected.attributed)):
        if table:
            want = Effects(*(np.stack([getattr(table[site], way) for site in SITES]) for way in Effects._fields))
            same(both_ways(measure, params, prompts, cfg), want, tolerance)
    for i, one in enumerate(truth.edges):
        found = both_ways(edge, params, prompts, cfg, **one._asdict())
        same(found, Effects(expected.edges.denoised[i], expected.edges.noised[i]), tolerance)


def same(found, expected, tolerance):
    """Both ways, of each example."""
    for way in Effects._fields:
        want = np.broadcast_to(np.asarray(getattr(expected, way))[..., None], getattr(found, way).shape)
        np.testing.assert_allclose(getattr(found, way), want, atol=tolerance, err_msg=way)


def right(params, cfg, prompts, which):
    """Whether the likeliest last token is the answer, for each clean prompt, or the other, for each corrupted one."""
    tokens, said = (prompts.clean, prompts.answers) if which == "clean" else (prompts.corrupted, prompts.others)
    logits = jax.jit(transformer.apply, static_argnums=2)(params, tokens, cfg)
    return np.asarray(logits[:, -1].argmax(-1)) == said[:, 0]
