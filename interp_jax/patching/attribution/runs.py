"""The two runs that an estimate is made of, as functions with taps."""

from typing import NamedTuple

import flax.struct
from jaxtyping import Array, Float

from interp_jax import taps
from interp_jax.models.transformer import Params, TransformerConfig
from interp_jax.patching.metrics import Metric
from interp_jax.patching.prompts import Input, Prompts, measure, roles

Effects = dict[str, Float[Array, "..."]]  # site -> nodes


class Estimate(NamedTuple):
    """What a method gives: the metric of the base run and of the source run, and the effects."""

    base: Float[Array, " B"]
    source: Float[Array, " B"]
    effects: Effects


@flax.struct.dataclass
class Runs:
    """The base run, which would be patched, and the source run, whose activations would be put in.

    Attributes:
      params: of the model.
      cfg: of the model; static.
      prompts: of both.
      metric: of their logits.
      base_input, source_input: what each begins with.
    """

    params: Params
    cfg: TransformerConfig = flax.struct.field(pytree_node=False)
    prompts: Prompts
    metric: Metric
    base_input: Input
    source_input: Input

    def base(self) -> Float[Array, " B"]:
        """The metric of the base run."""
        return measure(self.params, self.base_input, self.cfg, self.prompts, self.metric)

    def source(self) -> Float[Array, " B"]:
        """The metric of the source run."""
        return measure(self.params, self.source_input, self.cfg, self.prompts, self.metric)

    def recorded_source(self, sites: tuple[str, ...]) -> tuple[Float[Array, " B"], dict[str, Array]]:
        """The metric and the activations of the source run."""
        return taps.record(self.source, sites)()


def runs_of(params: Params, cfg: TransformerConfig, prompts: Prompts, metric: Metric, direction: str) -> Runs:
    """The runs of a direction.

    Raises:
      InputError: an unknown one.
    """
    return Runs(params, cfg, prompts, metric, *roles(prompts, direction))
