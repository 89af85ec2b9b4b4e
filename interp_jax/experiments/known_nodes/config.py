"""Which model of known nodes, and how many prompts of it."""

from interp_jax.errors import InputError, nearest
from interp_jax.models.induction_truth import CORRUPTION
from interp_jax.models.name_mover_truth import CORRUPTIONS
from interp_jax.models.saturated_circuit import KINDS
from interp_jax.parts import hyper, part

CIRCUITS = {  # and the corruptions of their prompts, the first by default
    "name_mover": CORRUPTIONS,
    "induction": (CORRUPTION,),
    "saturated": tuple(KINDS),
    "cancelling": ("cue",),
    "no_effect": ("token",),
    "no_mean_effect": ("token",),
}
WITHOUT_EFFECT = ("no_effect", "no_mean_effect")


@part
class Config:
    """One model and its prompts; nothing is trained.

    Attributes:
      circuit: one of `CIRCUITS`. "no_effect" has weights that are random, but cut every path from the corrupted token to the
        logits. "no_mean_effect" has random weights, and answers drawn at random: all nodes have effects on an example, and
        none on average.
      corruption: of its prompts; "" is the circuit's first.
      sharpness: of the circuits built by hand, the score of a match.
      random_heads: heads that each layer of a circuit has besides, which look and read at random.
      leak: how much of what they read they write into random directions of the stream: 0 leaves all effects as they are, and
        a little makes small ones of what is false.
      names: tokens that prompts are made of: names, cues, or the vocabulary of a model without effects.
      prompts: B, drawn from all that there are.
      length: of a prompt, where the circuit does not fix it.
      backup: whether the name mover has one.
    """

    seed: int = hyper(0)
    steps: int = 1
    circuit: str = "name_mover"
    corruption: str = ""
    sharpness: float = hyper(50.0)
    random_heads: int = 0
    leak: float = hyper(0.0)
    names: int = 8
    prompts: int = 12
    length: int = 8
    backup: bool = True

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.circuit not in CIRCUITS:
            raise InputError(f"circuit = {self.circuit!r}: {nearest(self.circuit, CIRCUITS)}")
        known = CIRCUITS[self.circuit]
        if self.corruption and self.corruption not in known:
            raise InputError(f"corruption = {self.corruption!r} of {self.circuit}: {nearest(self.corruption, known)}")
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: nothing is trained, so there is one step, which does nothing")
        if self.prompts < 2 or self.random_heads < 0:
            raise InputError("prompts must be at least 2, random_heads at least 0")
        if not (self.sharpness > 0 and self.leak >= 0):
            raise InputError(f"sharpness = {self.sharpness}, leak = {self.leak}: must be above 0, and not below 0")

    @property
    def corrupted_by(self) -> str:
        """The corruption by its name."""
        return self.corruption or CIRCUITS[self.circuit][0]
