"""Which relay, and which searches in it."""

from interp_jax.errors import InputError, nearest
from interp_jax.parts import hyper, part
from interp_jax.patching.alignment.config import VARIANTS


@part
class Config:
    """One relay (`models/relay_circuit.py`) and the searches in it; the model itself is not trained.

    Attributes:
      variant: of the search, one of `VARIANTS`.
      everywhere: search after every layer at every position; else only where the variable is held, and ahead of it.
      searches: seeds of the search at each place.
      columns: of "orthonormal" the most dimensions, of "low_rank" the rank; unused by "boundless".
      k: dimensions of "orthonormal"; 0 for as many as the variable has.
      steps_of_search: of gradient descent.
      price: of "boundless", nats for the whole width.
      pairs, held_out: to train on, and to evaluate on.
      layers, width, vocabulary: L, D and V of the relay.
      dimensions: d of its variable.
      bystander: how large the copy is that nothing reads.
      margin: how far the right answer's logit is above the other answers'.
    """

    seed: int = hyper(0)
    steps: int = 1
    variant: str = "orthonormal"
    everywhere: bool = True
    searches: int = 2
    columns: int = 4
    k: int = hyper(0)
    steps_of_search: int = 300
    price: float = hyper(3.0)
    pairs: int = 512
    held_out: int = 256
    layers: int = 3
    width: int = 24
    vocabulary: int = 24
    dimensions: int = hyper(2)
    bystander: float = hyper(0.0)
    margin: float = hyper(8.0)

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.variant not in VARIANTS:
            raise InputError(f"variant = {self.variant!r}: {nearest(self.variant, VARIANTS)}")
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: no model is trained, so there is one step, which does nothing")
        if min(self.searches, self.steps_of_search, self.pairs, self.held_out) < 1:
            raise InputError("searches, steps_of_search, pairs and held_out must be at least 1")
        if self.variant == "orthonormal" and not self.k <= self.columns >= self.dimensions:
            raise InputError(f"columns = {self.columns}: must be at least k and dimensions")
        if not (self.margin > 0 and self.bystander >= 0):
            raise InputError(f"margin = {self.margin}, bystander = {self.bystander}: must be above 0, and not below 0")

    @property
    def wanted(self) -> int:
        """The dimensions that an "orthonormal" search is told to find."""
        return int(self.k or self.dimensions)
