"""What a run is: a model and a place in it, a dictionary, how it is trained and measured."""

from interp_jax.activations.harvest import Harvest
from interp_jax.activations.normaliser import Normalise
from interp_jax.dictionaries.config import Dictionary
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.subjects.model import Model
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer

OBJECTIVES = ("local", "end_to_end")
THROUGH = ("blocks.resid_pre", "blocks.resid_post")  # sites from which a model goes on


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
      layers: several, in place of `layer`: a crosscoder, or a cross-layer transcoder.
      objective: "local", what is said of the activation; "end_to_end", what the model does with it.
      later: of "end_to_end": weight of the streams of later layers.
      model: a finished run of `configs/grow.py` on text.
      other: another one on the same text, whose activations are read beside the first's: a crosscoder of two models.
      harvest: how activations are harvested.
      normalise: how activations are normalised.
      dictionary: the dictionary; `d_in` is the site's width, of all layers and models together, and `d_out` that of `writes`.
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
    layers: tuple = ()
    objective: str = "local"
    later: float = hyper(0.0)
    model: Model = Model()
    other: Model = Model()
    harvest: Harvest = Harvest(excluded=(0,))
    normalise: Normalise = Normalise()
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
        for section in (self.model, self.other, self.harvest, self.normalise, self.dictionary, self.optimizer):
            section.check()
        if bool(self.writes) != bool(self.dictionary.d_out):
            raise InputError(
                f"writes = {self.writes!r}, dictionary.d_out = {self.dictionary.d_out}: a transcoder has both, others neither"
            )
        pieces = len(self.depths) * (2 if self.other.path else 1)
        if self.dictionary.pieces != pieces:
            raise InputError(f"dictionary.pieces = {self.dictionary.pieces}: {pieces} places are read, each a piece")
        if self.store and (self.other.path or self.objective != "local"):
            raise InputError(
                f"store = {self.store!r}: it holds rows of one model, out of order; leave out other.path and objective"
            )
        if self.other.path and self.harvest.largest:
            raise InputError("harvest.largest: rows of two models would not be the same ones; leave it at 0")
        self._check_objective()

    def _check_objective(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective: unknown {self.objective!r}; {nearest(self.objective, OBJECTIVES)}")
        if not self.later >= 0:
            raise InputError(f"later = {self.later}: must be at least 0")
        if self.objective == "local":
            return
        if self.harvest.largest:
            raise InputError(
                "harvest.largest: end_to_end takes whole windows, of which no row is left out by its length; leave it at 0"
            )
        if self.site not in THROUGH or self.writes or self.dictionary.pieces > 1:
            raise InputError(f"objective = 'end_to_end': the model goes on from one place, {' or '.join(THROUGH)}")

    def check_windows(self, length: int) -> None:
        """Raise `InputError` where a step has no whole window, which one that goes through the model needs."""
        if self.objective == "end_to_end" and not self.harvest.skip_first < length <= self.batch_size:
            raise InputError(
                f"batch_size = {self.batch_size}: end_to_end takes whole windows, of {length} positions here, of which "
                f"harvest.skip_first = {self.harvest.skip_first} do not count"
            )

    @property
    def depths(self) -> tuple[int, ...]:
        """The layers that are read."""
        return tuple(self.layers) or (self.layer,)

    @property
    def depth(self) -> int:
        """The layer of a dictionary that reads one."""
        (one,) = self.depths
        return one

    @property
    def sites(self) -> tuple[str, str]:
        """What is read and what is said."""
        return self.site, self.writes or self.site
