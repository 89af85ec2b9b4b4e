"""What can be asked: which model, which prompt, which two tokens, and how much to show."""

from interp_jax.errors import InputError
from interp_jax.experiments.subjects.kinds import Repeats
from interp_jax.experiments.subjects.model import Model, check_text
from interp_jax.parts import hyper, part


@part
class Show:
    """How much the report shows.

    Attributes:
      positions: the last so many of the prompt.
      layers: most rows of the logit lens, spread evenly; the last layer is always there.
      heads: most attention patterns.
      circuits: most heads whose circuits over tokens are taken apart.
      bars: most contributions that have a bar of their own.
    """

    positions: int = 40
    layers: int = 16
    heads: int = 12
    circuits: int = 6
    bars: int = 14


@part
class Config:
    """One model, one prompt. The seed is that of the random sequences; all else does not depend on it.

    Attributes:
      prompt: a text; "" is a default one.
      tokens: the prompt as ids, taken as they are, in place of a text.
      answer, against: the tokens whose logits are compared; "" takes the model's own first and second choice.
    """

    seed: int = hyper(0)
    steps: int = 1
    prompt: str = ""
    tokens: tuple = ()
    answer: str = ""
    against: str = ""
    model: Model = Model()
    repeats: Repeats = Repeats()
    show: Show = Show()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: nothing is trained, so there is one step, which does nothing")
        if not all(type(i) is int for i in self.tokens):
            raise InputError(f"tokens = {self.tokens!r}: must be ids, such as (1, 2, 3)")
        if self.prompt and self.tokens:
            raise InputError("prompt and tokens are both given: leave one out")
        for name in ("prompt", "answer", "against"):
            check_text(name, getattr(self, name))
        if self.answer and self.answer == self.against:
            raise InputError(f"answer and against are both {self.answer!r}: their logits do not differ")
        self.model.check()
        self.repeats.check()
        for name, value in vars(self.show).items():
            if value < 1:
                raise InputError(f"show.{name} = {value}: must be at least 1")
