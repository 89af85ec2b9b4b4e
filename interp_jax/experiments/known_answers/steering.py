"""What steering says of a model built by hand, beside the truth: arrays `found` and `truth`, for a seed.

A relay (`models/relay_circuit.py`) of one dimension hands the class s = ±1 of one token on, along a known direction u of the
stream after layer 0, from where the answer's log-odds are read: with α v added there, the two answers' logits are

    ± (m/2) (s + α v·u)          and those of the other V - 2 tokens 0          m the margin

so log-probabilities, divergences, gradients and Fisher's matrix are closed forms. A bystander, b times the class along another
direction w, is written beside it and read by nothing: what correlates with the answer is u + b w, what causes it is u.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from interp_jax import taps
from interp_jax.experiments.known_answers.question import Question, Told, told
from interp_jax.models import transformer
from interp_jax.models.relay_circuit import relay_circuit, relay_prompts
from interp_jax.probes import logistic
from interp_jax.steering.directions import (
    difference_of_means,
    principal_difference,
    probe_direction,
    random_directions,
)
from interp_jax.steering.interventions import added, gated
from interp_jax.steering.response import Text, class_log_probability, dose_response
from interp_jax.steering.side_effects import Site, fisher, gradients, targeted
from interp_jax.steering.weight_edits import batch, exact

EXAMPLES, WIDTH, VOCABULARY, LAYERS = 4_000, 16, 16, 2
BYSTANDER, MARGIN = 1.0, 4.0
AT, LAST, SITE = 2, 3, "blocks.resid_post"  # the position that holds the class after layer 0, and the last one
FEW = 64  # prompts that are steered
DOSES = np.array([-2.0, -0.5, 0.25, 1.0, 3.0], np.float32)
PENALTY = 1e-2


class Planted(NamedTuple):
    """A relay: parameters, prompts, the class of each, and the direction of the stream that it is along."""

    params: Any
    tokens: Int[np.ndarray, "N 4"]
    side: Float[np.ndarray, " N"]
    direction: Float[np.ndarray, " D"]
    answers: Int[np.ndarray, " 2"]


CFG = relay_circuit(1, LAYERS, WIDTH, VOCABULARY, BYSTANDER, MARGIN)[1]
WHERE = (np.arange(LAYERS + 2) == AT)[:, None]


def model(params: Any, tokens: Any) -> Any:
    """Logits."""
    return transformer.apply(params, tokens, CFG)


def planted(seed: int, n: int) -> Planted:
    """A relay and prompts; the class is +1 where the second answer is right."""
    params, _, truth = relay_circuit(1, LAYERS, WIDTH, VOCABULARY, BYSTANDER, MARGIN, seed)
    prompts = relay_prompts(1, n, LAYERS, VOCABULARY, seed)
    direction = truth.plane(0)[:, 0]
    side = np.where(np.ravel(prompts.answers) == truth.answers[1], 1.0, -1.0)
    up = np.asarray(params["unembed"]["W_U"])[:, truth.answers] * truth.planes[-1]
    second = np.sign(up[:, 1].sum() - up[:, 0].sum())  # which way along the plane the second answer is
    return Planted(params, np.asarray(prompts.clean), side, second * direction, truth.answers)


@jax.jit
def stream(params: Any, tokens: Any) -> Any:
    """The stream after layer 0, where it holds the class."""
    return taps.record(model, {SITE: (0,)})(params, tokens)[1][SITE][0, :, AT]


def log_q(side: Float[np.ndarray, "..."], moved: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "... V"]:
    """The closed form: both answers, and then the others, of the class and what is added along u."""
    z = MARGIN / 2 * (side + moved)
    logits = np.concatenate([np.stack([-z, z], -1), np.zeros((*z.shape, VOCABULARY - 2))], -1)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cosine(v: Any, u: np.ndarray) -> float:
    """Its size."""
    return abs(float(np.asarray(v, np.float64) @ u) / float(np.linalg.norm(v)))


@jax.jit
def principal(positive: Any, negative: Any) -> Any:
    """The direction of pairs."""
    return principal_difference(positive, negative).direction


def of_correlation(seed: int) -> Told:
    """Difference of means, principal difference and probe find u + b w; differences that are recentred do not."""
    of = planted(seed, EXAMPLES)
    x = stream(of.params, of.tokens)
    y = jnp.asarray(of.side > 0, x.dtype)
    n = EXAMPLES // 2 - 250  # of each side there are more, in all but one draw of 10^14
    positive, negative = x[np.flatnonzero(of.side > 0)[:n]], x[np.flatnonzero(of.side < 0)[:n]]
    probe = logistic.fit(None, x, y, jnp.ones(len(y)), logistic.Hypers(PENALTY * EXAMPLES))
    truth = 1 / np.sqrt(1 + BYSTANDER**2)
    ways = (difference_of_means(x, y), principal(positive, negative), probe_direction(probe))
    delta = positive - negative
    recentred = principal(delta - delta.mean(0), jnp.zeros_like(delta))
    return told(*((cosine(v, of.direction), truth) for v in ways), (cosine(recentred, of.direction), 0.0))


def text_of(of: Planted) -> Text:
    """Prompts whose second answer is wanted after the last token."""
    last = np.zeros((1, *of.tokens.shape), np.float32)
    last[..., LAST] = 1
    classes = np.arange(VOCABULARY)[None] == of.answers[1]
    return Text(jnp.asarray(of.tokens), jnp.asarray(classes), jnp.asarray(last), jnp.asarray(last))


@jax.jit
def derivatives(params: Any, text: Text) -> tuple[Any, Any]:
    """The gradient of the answer's log-probability, and Fisher's matrix of the last position."""
    site, own = Site(SITE, 0, WIDTH, WHERE), partial(model, params)
    metric = lambda logits: class_log_probability(logits, text.classes)[:, :, LAST].mean(1)
    return gradients(own, text.tokens, site, metric), fisher(own, text.tokens, text.elsewhere, site)


def of_cause(seed: int) -> Told:
    """The gradient and Fisher's matrix are the closed forms, and the targeted direction is u, bystander or not."""
    of = planted(seed, FEW)
    text = text_of(of)
    g, F = derivatives(of.params, text)
    q = np.exp(log_q(of.side, 0.0))
    sign = np.concatenate([[-1.0, 1.0], np.zeros(VOCABULARY - 2)])
    mean = q @ sign
    slope = MARGIN / 2 * (1 - mean).mean()
    curvature = (MARGIN / 2) ** 2 * (q @ sign**2 - mean**2).mean()
    best = targeted(g[0], F[0], 0.01)
    u = of.direction
    return told(
        (np.asarray(g[0]) @ u / slope, 1.0),
        (u @ np.asarray(F[0]) @ u / curvature, 1.0),
        (cosine(best.vector, u), 1.0),
        (float(best.effect) / (slope * np.sqrt(0.02 / curvature)), 1.0),
    )


def of_dose(seed: int) -> Told:
    """Log-probabilities and divergences of u, w and random directions at all doses."""
    of = planted(seed, FEW)
    text = text_of(of)
    vectors = np.concatenate([of.direction[None], random_directions(jax.random.key(seed), 3, WIDTH)]).astype(
        np.float32
    )
    dose = np.tile(DOSES, len(vectors))
    v = np.repeat(vectors, len(DOSES), axis=0)
    where = jnp.broadcast_to(jnp.asarray(WHERE), (len(v), *WHERE.shape))
    edits = {SITE: added(v, dose, jnp.zeros(len(v), jnp.int32), where)}
    _, found = dose_response(model, of.params, text, {"added": edits})
    before = log_q(of.side, 0.0)
    moved = np.float64(dose) * (np.float64(v) @ of.direction)
    after = log_q(of.side[None], moved[:, None])
    kl = (np.exp(before) * (before - after)).sum(-1)
    per = lambda x: np.asarray(x)[:, 0]
    return told((per(found["added"].wanted), after[..., 1]), (per(found["added"].kl), kl))


@jax.jit
def edited(params: Any, edit: Any, tokens: Any) -> Any:
    """Log-probabilities with an edit."""
    return jax.nn.log_softmax(taps.edit(partial(model, params))({SITE: edit}, tokens))


def of_gate(seed: int) -> Told:
    """Steered where a probe of the class opens, and only there: each prompt by itself, in whatever order prompts are."""
    of = planted(seed, FEW)
    probe = SimpleNamespace(weights=jnp.asarray(-of.direction, jnp.float32), bias=jnp.zeros(()))
    edit = gated(jnp.asarray(of.direction, jnp.float32), probe, 1.5, 0, WHERE)
    truth = log_q(of.side, np.where(of.side < 0, 1.5, 0.0))[:, 1]
    order = np.random.default_rng(seed).permutation(FEW)
    said = [
        np.asarray(edited(of.params, edit, of.tokens[rows]))[:, LAST, of.answers[1]]
        for rows in (np.arange(FEW), order)
    ]
    return told((said[0], truth), (said[1], truth[order]))


def of_weights(seed: int) -> Told:
    """Keys mean their values, a key that is orthogonal in the metric keeps its own, a batch is least squares."""
    rng = np.random.default_rng(seed)
    M, D, N = 24, 8, 5
    text, keys, missing = (
        rng.normal(size=(400, M)) @ rng.normal(size=(M, M)),
        rng.normal(size=(N, M)),
        rng.normal(size=(N, D)),
    )
    C = text.T @ text / len(text)
    delta = exact(C, keys, missing)
    toward = np.linalg.solve(C, keys.T)
    other = rng.normal(size=M)
    other -= toward @ np.linalg.lstsq(toward, other, rcond=None)[0]
    rows, wanted = np.concatenate([keys, text / 20]), np.concatenate([missing, np.zeros((len(text), D))])
    squares = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return told((keys @ delta, missing), (other @ delta, 0.0), (batch(C, keys, missing, 1.0), squares))


# the largest error: that of 4,000 examples, or of rounding in float32 and float64
QUESTIONS = {
    "what correlates": Question(
        of_correlation,
        "a direction and its unread copy: |cos| of means, pairs and a probe 1/√2; of recentred pairs 0",
        0.02,
    ),
    "what causes": Question(
        of_cause, "the same: gradient, Fisher's matrix, the targeted direction and its effect in closed form", 1e-5
    ),
    "dose and response": Question(of_dose, "log-probabilities and divergences at all doses, in closed form", 1e-4),
    "gates": Question(of_gate, "each prompt by itself is steered, or not: log-probabilities in closed form", 1e-5),
    "weight edits": Question(
        of_weights, "keys and values: exact, orthogonal keys unchanged, batches least squares in float64", 1e-9
    ),
}
