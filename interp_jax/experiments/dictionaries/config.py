"""What a run is: a model and a place in it, a dictionary, how it is trained and measured."""

from interp_jax.activations.harvest import Harvest
from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError
from interp_jax.experiments.subjects.model import Model
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer


@part
class Measurements:
    """How much is measured: held-out windows, and those of them that are run at once."""

    windows: int = 64
    at_once: int = 8


@part
class Config:
    """One dictionary; its seed is that of its first parameters, since a population trains on one stream.

    Attributes:
      seed: of the dictionary.
      steps: of training.
      batch_size: activations of a step.
      stream_steps: steps of which the activations are harvested at once, for all members, and shuffled.
      stream_seed: of the stream.
      store: a directory that `configs/store.py` wrote, whose activations are read in place of harvesting; "" harvests.
      reshuffle: of a store: shards across which rows are shuffled anew, by `stream_seed`; 0 reads them as they were written.
      site: what is read.
      writes: what is said, of a transcoder: a site of the same layer; "" is what is read.
      layer: of both; negative ones count from the last, -1.
      model: a finished run of `configs/grow.py` on text.
      harvest: how activations are harvested.
      dictionary: the dictionary; `d_in` is the site's width, and `d_out` that of `writes`.
      optimizer: of training.
      measure: at observations.
    """

    seed: int = hyper(0)
    steps: int = 4_000
    batch_size: int = 1_024
    stream_steps: int = 50
    stream_seed: int = 0
    store: str = ""
    reshuffle: int = 0
    site: str = "blocks.resid_post"
    writes: str = ""
    layer: int = -1
    model: Model = Model()
    harvest: Harvest = Harvest(excluded=(0,))
    dictionary: Dictionary = Dictionary(d_in=128, n_features=1_024, dead_after=500_000)
    optimizer: Optimizer = Optimizer(learning_rate=1e-3, clip_norm=1.0)
    measure: Measurements = Measurements()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if min(self.steps, self.batch_size, self.stream_steps) < 1:
            raise InputError("steps, batch_size and stream_steps must be at least 1")
        if self.reshuffle < 0 or (self.reshuffle and not self.store):
            raise InputError(f"reshuffle = {self.reshuffle}: must be at least 0, and 0 without a store")
        m = self.measure
        if m.at_once < 1 or m.windows < 1 or m.windows % m.at_once:
            raise InputError(f"measure.windows = {m.windows} must be a multiple of measure.at_once = {m.at_once}")
        for section in (self.model, self.harvest, self.dictionary, self.optimizer):
            section.check()
        if bool(self.writes) != bool(self.dictionary.d_out):
            raise InputError(
                f"writes = {self.writes!r}, dictionary.d_out = {self.dictionary.d_out}: a transcoder has both, others neither"
            )
        if self.dictionary.pieces > 1:
            raise InputError("dictionary.pieces: one place is read here, so there is one piece")

    @property
    def sites(self) -> tuple[str, str]:
        """What is read and what is said."""
        return self.site, self.writes or self.site
