"""What a run is: a model and a place in it, a dictionary, how it is trained and measured."""

from interp_jax.activations.harvest import Harvest
from interp_jax.activations.normaliser import Normalise
from interp_jax.data.text import TextConfig
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
      sites, layers: the places that are read: every one of these sites in every one of these layers; negative layers count from
        the last, -1. All are harvested in one pass. With several `dictionary.pieces` a dictionary reads them all, side by side:
        a crosscoder, or a cross-layer transcoder. With one piece each member of a population reads one of them.
      place: which one, counted site by site and in each layer by layer; swept without compiling again.
      writes: what is said, of a transcoder: a site of the same layer; "" is what is read.
      objective: "local", what is said of the activation; "end_to_end", what the model does with it.
      later: of "end_to_end": weight of the streams of later layers.
      model: a finished run of `configs/grow.py` on text, or published weights.
      other: another one that reads the same tokens, whose activations are read beside the first's: a crosscoder of two models.
      data: the text of published weights; a model that was grown here is read on the one that it was grown on.
      context: tokens of a window; 0 is the model's, of published weights at most 256.
      harvest: how activations are harvested; of several places `largest` is by the lengths of the first.
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
    sites: tuple = ("blocks.resid_post",)
    layers: tuple = (-1,)
    place: int = hyper(0)
    writes: str = ""
    objective: str = "local"
    later: float = hyper(0.0)
    model: Model = Model()
    other: Model = Model()
    data: TextConfig = TextConfig()
    context: int = 0
    harvest: Harvest = Harvest()
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
        for section in (
            self.model,
            self.other,
            self.data,
            self.harvest,
            self.normalise,
            self.dictionary,
            self.optimizer,
        ):
            section.check()
        self._check_places()
        if bool(self.writes) != bool(self.dictionary.d_out):
            raise InputError(
                f"writes = {self.writes!r}, dictionary.d_out = {self.dictionary.d_out}: a transcoder has both, others neither"
            )
        if self.store and (self.other.path or self.objective != "local"):
            raise InputError(
                f"store = {self.store!r}: it holds rows of one model, out of order; leave out other.path and objective"
            )
        if self.dictionary.feature_shards > 1 and self.objective != "local":
            raise InputError(
                "dictionary.feature_shards: windows that go through the model are on one device; leave it at 1"
            )
        if self.other.path and self.harvest.largest:
            raise InputError("harvest.largest: rows of two models would not be the same ones; leave it at 0")
        self._check_objective()

    def _check_places(self) -> None:
        if not self.sites or not all(type(site) is str for site in self.sites):
            raise InputError(f"sites = {self.sites!r}: must be names of sites, such as ('blocks.resid_post',)")
        if not self.layers or not all(type(layer) is int for layer in self.layers):
            raise InputError(f"layers = {self.layers!r}: must be numbers of layers, such as (0, -1)")
        if self.context < 0:
            raise InputError(f"context = {self.context}: must be at least 0")
        pieces, side_by_side = self.dictionary.pieces, len(self.places) * (2 if self.other.path else 1)
        if pieces != side_by_side and (pieces > 1 or self.other.path):
            raise InputError(f"dictionary.pieces = {pieces}: {side_by_side} places are read, each a piece")
        if not 0 <= self.place < (n := len(self.places) if pieces == 1 else 1):
            places = (
                f"{n} places are read, counted from 0" if pieces == 1 else "a dictionary of several pieces reads all"
            )
            raise InputError(f"place = {self.place}: {places}")
        if self.writes and len(self.sites) > 1:
            raise InputError(
                f"sites = {self.sites!r}: a transcoder reads one of them, and says writes = {self.writes!r}"
            )

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
        if len(self.places) > 1 or self.sites[0] not in THROUGH or self.writes or self.dictionary.pieces > 1:
            raise InputError(f"objective = 'end_to_end': the model goes on from one place, {' or '.join(THROUGH)}")

    def check_windows(self, length: int) -> None:
        """Raise `InputError` where a step has no whole window, which one that goes through the model needs."""
        if self.objective == "end_to_end" and not self.harvest.skip_first < length <= self.batch_size:
            raise InputError(
                f"batch_size = {self.batch_size}: end_to_end takes whole windows, of {length} positions here, of which "
                f"harvest.skip_first = {self.harvest.skip_first} do not count"
            )

    @property
    def places(self) -> tuple[tuple[str, str, int], ...]:
        """What is read and what is said, and the layer of both: of every place."""
        return tuple((site, self.writes or site, layer) for site in self.sites for layer in self.layers)

    @property
    def read(self) -> tuple[tuple[str, str, int], ...]:
        """Those of them that this member reads: one, or all of them side by side."""
        return self.places if self.dictionary.pieces > 1 else (self.places[int(self.place)],)
