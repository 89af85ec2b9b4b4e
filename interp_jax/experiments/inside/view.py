"""One group of runs as the report sees it: what was observed, and the text of its tokens."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from interp_jax.anatomy.heads import HeadScores
from interp_jax.experiments.experiment import GroupResult
from interp_jax.experiments.inside.config import Config
from interp_jax.experiments.subjects.kinds import kind_of, repeat_period, uniform_scores
from interp_jax.experiments.subjects.model import Subject, subject_of
from interp_jax.experiments.subjects.tokens import names_of
from interp_jax.models import transformer
from interp_jax.models.transformer import TransformerConfig


class View(NamedTuple):
    """A model and a prompt.

    Attributes:
      config: of the first run.
      subject: the model and its tokens.
      seen: what the first run observed; all but the kinds of head is the same for each.
      kinds: kinds of head, [R L H] each.
    """

    config: Config
    subject: Subject
    seen: dict[str, np.ndarray]
    kinds: HeadScores

    @property
    def cfg(self) -> TransformerConfig:
        """The model's configuration."""
        return self.subject.cfg

    @property
    def n_parameters(self) -> int:
        """Numbers among the weights."""
        shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), self.cfg))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    @property
    def tokens(self) -> list[str]:
        """The prompt's tokens."""
        return self.names(self.seen["tokens"])

    @property
    def shown_tokens(self) -> list[str]:
        """Those of the positions that are shown."""
        return self.tokens[int(self.seen["first"]) :]

    @property
    def text(self) -> str:
        """The prompt."""
        return ("" if self.subject.tokenizer or self.subject.letters else " ").join(self.tokens)

    @property
    def answer(self) -> str:
        """The answer's text."""
        return self.names(self.seen["pair"])[0]

    @property
    def against(self) -> str:
        """The text of what the answer is compared with."""
        return self.names(self.seen["pair"])[1]

    @property
    def uniform(self) -> dict[str, float]:
        """The score of each kind of a head that looks everywhere alike."""
        return uniform_scores(repeat_period(self.config.repeats, self.subject))

    def names(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The text of tokens."""
        return names_of(ids, self.subject)

    def kind_of(self, head: int) -> str:
        """What a head is, where it is something: ", induction"."""
        kind = kind_of(self.kinds, head)
        return f", {kind}" if kind else ""


def view_of(group: GroupResult) -> View:
    """A group as the report sees it."""
    config = jax.tree.map(lambda leaf: leaf[0].item(), group.config)
    seen = list(group.observations.values())[-1]
    kinds = HeadScores(*(seen[kind] for kind in HeadScores._fields))
    return View(config, subject_of(config.model), {name: value[0] for name, value in seen.items()}, kinds)


def head_name(index: int, cfg: TransformerConfig) -> str:
    """Layer and head of l H + h: "3.7"."""
    return f"{index // cfg.n_heads}.{index % cfg.n_heads}"
