"""What a run on known features is: the law of the features, a dictionary, how it is trained and measured."""

from interp_jax.data.known_features import KnownFeatures
from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.experiments.known_features.toy import Toy
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer


@part
class Measurements:
    """How much is measured at an observation: blocks of fresh examples, and the examples of each."""

    blocks: int = 16
    examples: int = 1_024


@part
class Config:
    """One dictionary; its seed is that of its first parameters, since a population trains on one stream.

    Attributes:
      seed: of the dictionary.
      steps: of training.
      batch_size: examples of a step.
      stream_steps: steps of which the examples are drawn at once, for all members.
      stream_seed: of the examples.
      data: the law of the features.
      toy: a toy model of superposition that the features' directions are of, in place of those of the law.
      dictionary: the dictionary; its `d_in` is the law's `d_model`.
      optimizer: of training.
      measure: at observations.
    """

    seed: int = hyper(0)
    steps: int = 8_000
    batch_size: int = 512
    stream_steps: int = 50
    stream_seed: int = 0
    data: KnownFeatures = KnownFeatures()
    toy: Toy = Toy()
    dictionary: Dictionary = Dictionary(d_in=96)
    optimizer: Optimizer = Optimizer(learning_rate=1e-3)
    measure: Measurements = Measurements()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if min(self.steps, self.batch_size, self.stream_steps) < 1:
            raise InputError("steps, batch_size and stream_steps must be at least 1")
        if min(self.measure.blocks, self.measure.examples) < 1:
            raise InputError("measure: every number must be at least 1")
        self.data.check()
        self.toy.check(self.data)
        self.dictionary.check()
        self.optimizer.check()
        if self.dictionary.d_in != self.data.d_model or self.dictionary.d_out:
            raise InputError(
                f"dictionary.d_in = {self.dictionary.d_in}, d_out = {self.dictionary.d_out}: what is read and said is as "
                f"wide as data.d_model = {self.data.d_model}, so d_in is that, and d_out 0"
            )
