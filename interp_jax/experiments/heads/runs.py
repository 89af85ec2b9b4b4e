"""Head scores measured where they are known: on the induction circuit built by hand, and on random weights.

Nothing is trained: a run is a model and a seed for its sequences, segments of distinct tokens and their repetitions. With
s = `sharpness` the circuit's patterns follow from its definition. Head 0.0 puts

    a(p, k) = exp(s [k = p - 1]) / Σ_{j ≤ p} exp(s [j = p - 1])

on key k, so "previous token" at k holds token i's one-hot times a(k, i), and head 1.0 scores key k with s times the sum of
a(k, i) over the places i that hold the query's token. `expected_scores` computes this in float64, without the model.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness, taps
from interp_jax.anatomy.heads import HeadScores, repeated_head_scores
from interp_jax.data.sequences import repeated
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.experiment import Experiment, GroupResult
from interp_jax.models import transformer
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.parts import hyper, part
from interp_jax.results.report import Page, Section, TableBlock
from interp_jax.results.tables import Table
from interp_jax.train.run import ALIVE, Run, RunState, Span

WEIGHTS = ("circuit", "random")
N_SEQUENCES = 4


@part
class Config:
    """One model and its sequences; the run takes no step that changes anything."""

    seed: int = hyper(0)
    steps: int = 1
    weights: str = "circuit"
    sharpness: float = 8.0
    d_vocab: int = 32
    period: int = 16

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.weights not in WEIGHTS:
            raise InputError(f"weights = {self.weights!r}: {nearest(self.weights, WEIGHTS)}")
        if not 2 <= self.period <= self.d_vocab:
            raise InputError("period must be at least 2 and at most d_vocab, as a segment's tokens are distinct")


def experiment(config: Config) -> Experiment:
    """Observed: `previous`, `duplicate`, `induction` [L H], and the sequences' `tokens` [B P]."""
    circuit, cfg = induction_circuit(config.d_vocab, 2 * config.period, config.sharpness)

    def init(seed: Array, hypers: Config) -> RunState:
        random = transformer.init(randomness.key(seed, "init"), cfg)
        params = circuit if hypers.weights == "circuit" else random
        return RunState(jnp.asarray(seed, jnp.int32), params, (), jnp.int32(ALIVE))

    def advance(state: RunState, hypers: Config, span: Span, shared: Any) -> tuple[RunState, dict[str, Array]]:
        return state, {}

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Array]:
        tokens = distinct_repeated(state.seed, N_SEQUENCES, hypers.period, hypers.d_vocab)
        model = lambda params, tokens: transformer.apply(params, tokens, cfg)
        _, acts = taps.record(model, ["blocks.attn.pattern"])(state.params, tokens)
        return {**repeated_head_scores(acts["blocks.attn.pattern"], hypers.period)._asdict(), "tokens": tokens}

    return Experiment(Run(init, advance), observe, (config.steps,))


def distinct_repeated(seed: Array | int, batch: int, period: int, d_vocab: int) -> Int[Array, "B P"]:
    """Segments of distinct tokens, then the same again: every query of the second copy has one target of each kind."""
    keys = jax.random.split(randomness.key(seed, "head_circuit"), batch)
    return repeated(jax.vmap(lambda key: jax.random.permutation(key, d_vocab)[:period])(keys).astype(jnp.int32))


def expected_scores(tokens: Int[np.ndarray, "B P"], sharpness: float) -> HeadScores:
    """Scores [2 2] of the circuit on segments of distinct tokens and their repetition, by its definition, in float64."""
    n = tokens.shape[1]
    period, each = n // 2, []
    visible = np.tri(n, dtype=bool)
    same = tokens[:, :, None] == tokens[:, None, :]
    for row in same:
        before = _softmax(sharpness * np.eye(n, k=-1), visible)
        copies = _softmax(sharpness * row, visible)
        match = _softmax(sharpness * (row @ before.T), visible)  # [q, k]: the token of q, before k
        level = _softmax(np.zeros((n, n)), visible)
        each.append([[before, copies], [match, level]])
    pattern = np.mean(each, axis=0)
    late = np.arange(period, n)
    return HeadScores(
        previous=pattern[..., np.arange(1, n), np.arange(n - 1)].mean(-1),
        duplicate=pattern[..., late, late - period].mean(-1),
        induction=pattern[..., late, late - period + 1].mean(-1),
    )


def _softmax(scores: Float[np.ndarray, "Q K"], visible: np.ndarray) -> Float[np.ndarray, "Q K"]:
    weights = np.where(visible, np.exp(scores - scores.max(1, keepdims=True)), 0.0)
    return weights / weights.sum(1, keepdims=True)


def report(groups: list[GroupResult]) -> Page:
    """The strongest head of each kind, by run."""
    kinds = HeadScores._fields
    rows = []
    for group in groups:
        last = list(group.observations.values())[-1]
        for i, seed in enumerate(group.config.seed):
            rows.append([group.config.weights, int(seed), *(float(last[kind][i].max()) for kind in kinds)])
    table = Table(["weights", "seed", *kinds], rows, "Score of the strongest head of each kind.")
    return Page("Head scores of known models", f"{len(rows)} models.", [Section("Scores"), TableBlock(table)])
