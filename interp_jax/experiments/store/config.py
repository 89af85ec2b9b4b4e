"""What is stored: a model, places in it, how they are harvested, and how many rows."""

from interp_jax.activations.harvest import Harvest
from interp_jax.activations.store_index_io import DTYPES
from interp_jax.data.text import TextConfig
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.subjects.model import Model
from interp_jax.parts import hyper, part


@part
class Config:
    """One store. What dictionaries are told as well has the same names and defaults here.

    Attributes:
      seed: of nothing: nothing here is drawn by it.
      steps: 1, which does nothing.
      store: the directory to write.
      rows: how many, at least: whole stretches are written, of `batch_size` times `stream_steps` rows each.
      shard_rows: of a shard, at most, but for a stretch that is longer.
      dtype: float32, bfloat16 or float16.
      batch_size, stream_steps: rows are shuffled within so many batches.
      stream_seed: of the text's windows and the order of rows.
      sites, layers: every one of these sites in every one of these layers; negative layers count from the last, -1.
      model: a finished run of `configs/grow.py` on text, or published weights.
      data, context: of published weights, their text; tokens of a window.
      harvest: how activations are harvested.
    """

    seed: int = hyper(0)
    steps: int = 1
    store: str = ""
    rows: int = 4_096_000
    shard_rows: int = 262_144
    dtype: str = "float32"
    batch_size: int = 1_024
    stream_steps: int = 50
    stream_seed: int = 0
    sites: tuple = ("blocks.resid_post",)
    layers: tuple = (-1,)
    model: Model = Model()
    data: TextConfig = TextConfig()
    context: int = 0
    harvest: Harvest = Harvest()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: nothing is trained, so there is one step, which does nothing")
        if not self.store:
            raise InputError("store is empty: give the directory to write, --config.store=DIR")
        if min(self.rows, self.shard_rows, self.batch_size, self.stream_steps) < 1:
            raise InputError("rows, shard_rows, batch_size and stream_steps must be at least 1")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype = {self.dtype!r}: {nearest(self.dtype, DTYPES)}")
        if not self.sites or not all(type(site) is str for site in self.sites):
            raise InputError(f"sites = {self.sites!r}: must be names of sites, such as ('blocks.resid_post',)")
        if not self.layers or not all(type(layer) is int for layer in self.layers):
            raise InputError(f"layers = {self.layers!r}: must be numbers of layers, such as (0, -1)")
        if self.context < 0:
            raise InputError(f"context = {self.context}: must be at least 0")
        self.model.check()
        self.data.check()
        self.harvest.check()

    @property
    def stretches(self) -> int:
        """How many are written."""
        return -(-self.rows // (self.batch_size * self.stream_steps))

    @property
    def per_shard(self) -> int:
        """Stretches of a shard."""
        return max(1, self.shard_rows // (self.batch_size * self.stream_steps))
