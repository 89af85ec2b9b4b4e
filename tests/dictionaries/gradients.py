"""Gradients of whole losses, held against differences of the oracle's and, where there is no derivative, a closed form."""

import jax
import numpy as np

from interp_jax.dictionaries import dictionary
from tests.dictionaries import oracle
from tests.dictionaries.cases import PROGRESS, B, situation


def check_gradients(case, params, batch):
    """Of the whole loss: in random directions; of thresholds, which have no derivative, the estimate written out."""
    grads = jax.grad(lambda p: dictionary.loss(p, batch, case, situation()).loss)(params)
    at, rng, h = jax.tree.map(np.asarray, params), np.random.default_rng(3), 1e-6
    x, y = np.asarray(batch.x), np.asarray(batch.y)
    value = lambda p: frozen_value(case, p, at, x, y)
    thresholds = {"threshold", "log_threshold"} if case.kind == "jumprelu" else set()
    for name in params.keys() - thresholds:
        way = rng.normal(size=np.shape(params[name]))
        up, down = (value(at | {name: at[name] + sign * h * way}) for sign in (1, -1))
        np.testing.assert_allclose(
            (grads[name] * way).sum(), (up - down) / (2 * h), rtol=1e-5, atol=1e-7, err_msg=name
        )
    for name in params.keys() & thresholds:
        want, near = by_thresholds(case, at, x, y)
        assert near.any() and np.abs(want).max() > 1e-3
        np.testing.assert_allclose(grads[name], want, rtol=1e-9)


def by_thresholds(case, p, x, y):
    """The derivative by JumpReLU's thresholds as the paper estimates it, and which entries are near theirs."""
    logs = case.thresholds == "log"
    z, threshold = oracle.read(p, x), np.exp(p["log_threshold"]) if logs else p["threshold"]
    near = np.abs(z - threshold) < case.bandwidth / 2
    f, size, target = np.where(z > threshold, z, 0), oracle.lengths(p, case.pieces), case.target
    by_f = 2 / B * (oracle.say(p, f) - y) @ p["W_dec"].T
    off = (z > threshold).sum(1).mean() / target - 1
    if case.penalty == "tanh":
        by_f += case.sparsity / B * case.tanh_scale * size / np.cosh(case.tanh_scale * f * size) ** 2
    by_step = case.sparsity / B * {"step": 1.0, "target": 2 * off / target, "tanh": 0.0}[case.penalty]
    found = -((threshold * by_f + by_step) * near).sum(0) / case.bandwidth
    return found * (threshold if logs else 1), near


def frozen_value(case, p, at, x, y):
    """The oracle's loss as a function of the parameters that have a gradient, the others being held where they are."""
    if case.kind == "p_anneal":
        sizes = oracle.relu(oracle.read(at, x)) * oracle.lengths(at, case.pieces)
        power = 1 + (case.last_power - 1) * (PROGRESS - case.anneal_start) / (1 - case.anneal_start)
        scale = sizes.sum() / np.where(sizes > 1e-6, sizes**power, 0).sum()
        f = oracle.relu(oracle.read(p, x))
        powers = (f * oracle.lengths(p, case.pieces)) ** power
        return oracle.error(y, oracle.say(p, f)) + case.sparsity * scale * powers.sum(1).mean()
    if case.kind == "gated":
        _, whole = oracle.gated(p, x, case, PROGRESS, y)
        gate = oracle.relu(oracle.read(p, x))
        free, held = (oracle.error(y, oracle.say(w, gate)) for w in (p, p | {k: at[k] for k in ("W_dec", "b_dec")}))
        return whole - free + held
    return getattr(oracle, case.kind)(p, x, case, PROGRESS, y)[1]
