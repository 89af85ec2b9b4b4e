"""Kinds of head, told on random sequences: a segment of different tokens, then the same again."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from interp_jax import taps
from interp_jax.anatomy.heads import HeadScores, repeated_head_scores, uniform_pattern
from interp_jax.errors import InputError
from interp_jax.experiments.heads.runs import distinct_repeated
from interp_jax.experiments.subjects.model import Subject
from interp_jax.experiments.subjects.tokens import prefix_of
from interp_jax.models import transformer
from interp_jax.models.transformer import Params
from interp_jax.parts import part

KIND = 0.3  # a head whose score of a kind is above this is called one


@part
class Repeats:
    """The sequences.

    Attributes:
      sequences: how many.
      period: tokens of the segment, all different; fewer where the model has no context or vocabulary for so many.
    """

    sequences: int = 8
    period: int = 32

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name, least in (("sequences", 1), ("period", 2)):
            if getattr(self, name) < least:
                raise InputError(f"repeats.{name} = {getattr(self, name)}: must be at least {least}")


def repeat_period(repeats: Repeats, subject: Subject) -> int:
    """The period: as asked for, or as much as the model has room for.

    Raises:
      InputError: the model has no room for a repetition.
    """
    cfg = subject.cfg
    room = repeats.period if cfg.positions == "none" else (cfg.n_context - len(prefix_of(subject))) // 2
    period = min(repeats.period, cfg.d_vocab, room)
    if period < 2:
        raise InputError(f"{subject.name}: a context of {cfg.n_context} has no room for a segment and its repetition")
    return period


def score_heads(seed: Array, params: Params, repeats: Repeats, subject: Subject) -> HeadScores:
    """Scores of all heads, after what the tokenizer puts before a text."""
    period, cfg = repeat_period(repeats, subject), subject.cfg
    prefix = np.asarray(prefix_of(subject), np.int32)
    tokens = distinct_repeated(seed, repeats.sequences, period, cfg.d_vocab)
    tokens = jnp.concatenate([jnp.broadcast_to(prefix, (len(tokens), len(prefix))), tokens], axis=1)
    model: Any = lambda params, tokens: transformer.apply(params, tokens, cfg)
    _, acts = taps.record(model, ["blocks.attn.pattern"])(params, tokens)
    return repeated_head_scores(acts["blocks.attn.pattern"][..., len(prefix) :, len(prefix) :], period)


def uniform_scores(period: int) -> dict[str, float]:
    """The score of each kind of a head that looks everywhere alike."""
    scores = repeated_head_scores(uniform_pattern(2 * period), period)
    return {kind: float(score[0, 0]) for kind, score in scores._asdict().items()}


def kind_of(kinds: HeadScores, head: int) -> str:
    """What a head, l H + h, is: its highest kind where that is above `KIND`, else "". Scores are [R L H]."""
    scores = {kind: float(score.mean(0).ravel()[head]) for kind, score in kinds._asdict().items()}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > KIND else ""
