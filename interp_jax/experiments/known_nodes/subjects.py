"""The models whose nodes are known, their prompts, and what patching must find: the share of the total effect of each node.

    share = (patched - base) / (source - base)        of mean metrics; 0: nothing comes of it, 1: all of it

in both directions. Nodes are heads at the sites z, q, k and v, edges what a head says to the query, key or value input of a
later one. A circuit stands in a random basis of the stream, as trained models do, and among random heads, if asked for.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from interp_jax import randomness
from interp_jax.errors import InputError
from interp_jax.experiments.known_nodes.config import WITHOUT_EFFECT, Config
from interp_jax.models import circuit_truth, transformer
from interp_jax.models.cancelling_circuit import cancelling_circuit, cancelling_prompts
from interp_jax.models.circuit_truth import SITES, Effects, Truth
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.induction_truth import induction_prompts, induction_truth
from interp_jax.models.name_mover_circuit import name_mover_circuit
from interp_jax.models.name_mover_truth import name_mover_prompts
from interp_jax.models.no_effect_model import no_effect_model, no_effect_prompts
from interp_jax.models.saturated_circuit import saturated_circuit, saturated_prompts
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.metrics import Metric, logit_difference
from interp_jax.patching.prompts import DENOISING, DIRECTIONS, NOISING, Prompts, prompts_of

INPUTS = ("q", "k", "v")  # of a receiver
Shares = dict[str, Float[np.ndarray, "..."]]
Read = Callable[[Effects], Float[np.ndarray, "..."]]
Built = tuple[Params, TransformerConfig, Truth, circuit_truth.Prompts]


class Subject(NamedTuple):
    """A model, its prompts, and the truth.

    Attributes:
      params, cfg: the model.
      prompts: clean and corrupted ones, and the metric.
      nodes: by direction, shares [S L H], S being `SITES`.
      first_order: by direction, what first-order attribution gives [S L H]; empty where no closed form is known.
      edges: by direction, shares [3 L·H L H] of what each head says to each input of each head.
    """

    params: Params
    cfg: TransformerConfig
    prompts: Prompts
    metric: Metric
    nodes: Shares
    first_order: Shares
    edges: Shares


def subject_of(config: Config, seed: int) -> Subject:
    """The model and the prompts of a seed.

    Raises:
      InputError: fewer prompts than asked for, or a circuit that cannot be.
    """
    if config.circuit in WITHOUT_EFFECT:
        return _without_effect(config, seed)
    params, cfg, truth, every = CIRCUITS[config.circuit](config)
    if len(every.clean) < config.prompts:
        raise InputError(
            f"prompts = {config.prompts}: {config.circuit} has {len(every.clean)} with names = {config.names}"
        )
    chosen = np.argsort(noise(seed, "prompts", (len(every.clean),)))[: config.prompts]
    prompts, metric = measured(circuit_truth.Prompts(*(part[chosen] for part in every)))
    params, cfg = with_random_heads(params, cfg, config.random_heads, float(config.leak), seed)
    expected = truth.expected[config.corrupted_by]
    shares = (
        by_direction(lambda read: node_shares(expected.heads, cfg, read)),
        by_direction(lambda read: node_shares(expected.attributed, cfg, read)) if expected.attributed else {},
        by_direction(lambda read: edge_shares(truth, read(expected.edges), cfg)),
    )
    return Subject(in_random_basis(params, seed), cfg, prompts, metric, *shares)


def name_mover(config: Config) -> Built:
    """Indirect object identification in miniature."""
    built = name_mover_circuit(config.names, config.length, float(config.sharpness), config.backup)
    return *built, name_mover_prompts(config.names, config.length, config.corrupted_by)


def induction(config: Config) -> Built:
    """A previous-token head and an induction head."""
    params, cfg = induction_circuit(config.names, config.length, float(config.sharpness))
    return params, cfg, induction_truth(), induction_prompts(config.names, config.length)


def saturated(config: Config) -> Built:
    """A switch under a saturated softmax."""
    built = saturated_circuit(config.names, float(config.sharpness))
    return *built, saturated_prompts(config.names, config.corrupted_by)


def cancelling(config: Config) -> Built:
    """Two paths whose gradients cancel."""
    return *cancelling_circuit(config.names, float(config.sharpness)), cancelling_prompts(config.names)


CIRCUITS: dict[str, Callable[[Config], Built]] = {
    "name_mover": name_mover,
    "induction": induction,
    "saturated": saturated,
    "cancelling": cancelling,
}


def measured(prompts: circuit_truth.Prompts) -> tuple[Prompts, Metric]:
    """Prompts as the patching engine takes them, and the difference of the two logits."""
    return prompts_of(prompts.clean, prompts.corrupted), logit_difference(prompts.answers, prompts.others)


def _without_effect(config: Config, seed: int) -> Subject:
    cfg = TransformerConfig(
        n_layers=2, d_model=16, n_heads=4, d_head=4, d_vocab=config.names, n_context=config.length, norm="none",
        positions="learned", biases="none", query_key_gain=2.0,
    )  # fmt: skip
    make = no_effect_model if config.circuit == "no_effect" else transformer.init
    params = jax.jit(make, static_argnums=1)(randomness.key(seed, "known_nodes.weights"), cfg)
    drawn = no_effect_prompts(randomness.key(seed, "known_nodes.prompts"), cfg, config.prompts, config.length)
    heads = cfg.n_layers, cfg.n_heads
    nodes = {direction: np.zeros((len(SITES), *heads)) for direction in DIRECTIONS}
    edges = {direction: np.zeros((len(INPUTS), np.prod(heads), *heads)) for direction in DIRECTIONS}
    return Subject(params, cfg, *measured(drawn), nodes, {}, edges)


# ------------------------------------------------------------------------------------------- truth


def by_direction(shares: Callable[[Read], np.ndarray]) -> Shares:
    """Shares from normalised metrics: denoising starts from 0, noising from 1."""
    return {DENOISING: shares(lambda effects: effects.denoised), NOISING: shares(lambda effects: 1 - effects.noised)}


def node_shares(expected: Mapping[str, Effects], cfg: TransformerConfig, read: Read) -> Float[np.ndarray, "S L H"]:
    """Of heads; random ones have none."""
    found = np.stack([read(expected[site]) for site in SITES])
    return np.pad(found, ((0, 0), (0, 0), (0, cfg.n_heads - found.shape[2])))


def edge_shares(truth: Truth, along: Float[np.ndarray, " E"], cfg: TransformerConfig) -> Float[np.ndarray, "I N L H"]:
    """Of edges, by the receiver's input, sender and receiver."""
    found = np.zeros((len(INPUTS), cfg.n_layers, cfg.n_heads, cfg.n_layers, cfg.n_heads))
    for edge, share in zip(truth.edges, along, strict=True):
        found[(INPUTS.index(edge.via), *edge.sender, *edge.receiver)] = share
    return found.reshape(len(INPUTS), -1, cfg.n_layers, cfg.n_heads)


# ------------------------------------------------------------------------------- what hides it


def with_random_heads(
    params: Params, cfg: TransformerConfig, n: int, leak: float, seed: int
) -> tuple[Params, TransformerConfig]:
    """`n` more heads a layer: scores of a few units, and an output of about `leak` times the length of what is read."""
    attn = {name: np.asarray(W, np.float64) for name, W in params["blocks"]["attn"].items()}
    L, H, D, E = attn["W_Q"].shape
    sizes = {
        "W_Q": E**-0.25 / (cfg.attention_scale or E**-0.5),
        "W_K": E**-0.25,
        "W_V": E**-0.5,
        "W_O": leak * D**-0.5,
    }
    drawn = noise(seed, "random heads", (len(sizes), L, n, D, E))
    for (name, size), values in zip(sizes.items(), drawn, strict=True):
        attn[name] = np.concatenate([attn[name], size * values.reshape(L, n, *attn[name].shape[2:])], axis=1)
    return _with_attention(params, attn), dataclasses.replace(cfg, n_heads=H + n)


def in_random_basis(params: Params, seed: int) -> Params:
    """The same model, its stream turned by a random rotation R: what writes is multiplied by R, what reads by Rᵀ."""
    D = params["unembed"]["W_U"].shape[0]
    R = np.linalg.qr(noise(seed, "basis", (D, D)))[0]
    attn = params["blocks"]["attn"]
    turned = {name: R.T @ attn[name] for name in ("W_Q", "W_K", "W_V")} | {"W_O": attn["W_O"] @ R}
    embed = {name: np.asarray(table) @ R for name, table in params["embed"].items()}
    found = _with_attention(params, turned) | {
        "embed": embed,
        "unembed": {"W_U": R.T @ np.asarray(params["unembed"]["W_U"])},
    }
    return jax.tree.map(jnp.asarray, found)


def noise(seed: int, stream: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Uniform draws of mean 0 and variance 1."""
    draws = randomness.uniform("counter", seed, f"known_nodes.{stream}", 0, shape)
    return (2 * np.asarray(draws, np.float64) - 1) * 3**0.5


def _with_attention(params: Params, attn: Any) -> Params:
    return params | {"blocks": params["blocks"] | {"attn": attn}}
