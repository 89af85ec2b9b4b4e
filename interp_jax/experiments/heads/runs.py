"""What is said of heads, measured where it is known: on the induction circuit built by hand, and on random weights.

Nothing is trained: a run is a model and a seed for its sequences, segments of distinct tokens and their repetitions. With
s = `sharpness` the circuit's patterns follow from its definition. Head 0.0 puts

    a(p, k) = exp(s [k = p - 1]) / Σ_{j ≤ p} exp(s [j = p - 1])

on key k, so "previous token" at k holds token i's one-hot times a(k, i), and head 1.0 scores key k with s times the sum of
a(k, i) over the places i that hold the query's token. `expected_scores` computes this in float64, without the model.

By its weights, only head 1.0 copies, only its keys compose with what 0.0 writes, and only it says anything for the next token.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from interp_jax import randomness, taps
from interp_jax.anatomy.decomposition import components
from interp_jax.anatomy.heads import HeadScores, repeated_head_scores
from interp_jax.anatomy.logit_attribution import attribute, attribute_heads, attribution_sites, logit_readout
from interp_jax.data.sequences import repeated
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.experiment import Experiment, GroupResult
from interp_jax.models import transformer
from interp_jax.models.induction_circuit import induction_circuit
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.results.blocks import Page, Section, TableBlock
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
    """Observed of each run:

    `previous`, `duplicate`, `induction` [L H]; the sequences' `tokens` [B P];
    at the last position, where the first token of the segment follows, its logit's `difference` [B] from the second's, what
    each head says for it, `said` [B L H], and all that is not said by heads, `rest` [B].
    """
    cfg = induction_circuit(config.d_vocab, 2 * config.period)[1]

    def init(seed: Array, hypers: Config) -> RunState:
        return RunState(jnp.asarray(seed, jnp.int32), model(hypers, seed)[0], (), jnp.int32(ALIVE))

    def advance(state: RunState, hypers: Config, span: Span, shared: Any) -> tuple[RunState, dict[str, Array]]:
        return state, {}

    def observe(state: RunState, hypers: Config, shared: Any) -> dict[str, Array]:
        tokens = distinct_repeated(state.seed, N_SEQUENCES, hypers.period, hypers.d_vocab)
        apply = lambda params, tokens: transformer.apply(params, tokens, cfg)
        sites = ("blocks.attn.pattern", *attribution_sites(cfg))
        logits, acts = taps.record(apply, sites)(state.params, tokens)
        return {
            **repeated_head_scores(acts["blocks.attn.pattern"], hypers.period)._asdict(),
            **attribute_last(state.params, acts, cfg, tokens),
            "difference": logits[jnp.arange(N_SEQUENCES), -1, tokens[:, 0]]
            - logits[jnp.arange(N_SEQUENCES), -1, tokens[:, 1]],
            "tokens": tokens,
        }

    return Experiment(Run(init, advance), observe, (config.steps,))


def model(config: Config, seed: Array | int) -> tuple[transformer.Params, TransformerConfig]:
    """The circuit, or random weights in its place."""
    circuit, cfg = induction_circuit(config.d_vocab, 2 * config.period, config.sharpness)
    return circuit if config.weights == "circuit" else transformer.init(randomness.key(seed, "init"), cfg), cfg


def attribute_last(
    params: Any, acts: Any, cfg: TransformerConfig, tokens: Int[Array, "B P"]
) -> dict[str, Float[Array, "..."]]:
    """What heads, and all else, say at the last position for the segment's first token against its second."""
    readout = logit_readout(params, acts, cfg, tokens[:, :1], tokens[:, 1:2])
    heads = attribute_heads(params, acts, cfg, readout).heads[:, :, -1]
    total = attribute(components(params, acts, cfg), readout)[..., -1].sum(0) + readout.constant[:, -1]
    return {"said": heads.transpose(1, 0, 2), "rest": total - heads.sum((0, 2))}


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
