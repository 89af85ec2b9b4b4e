"""What is asked: which dictionary, how much text, how many examples, and how features are clamped."""

from interp_jax.errors import InputError
from interp_jax.experiments.subjects.model import check_text
from interp_jax.parts import hyper, part


@part
class Source:
    """The dictionary.

    Attributes:
      path: the directory of a finished `configs/dictionaries.py`.
      member: of several, which: the beginning of its hash, or words of its title, such as "batch_topk k=16".
      piece: of a crosscoder or a cross-layer transcoder, in which piece features are looked at (`place.py`), counted from 0.
      model: where the model's run lies now; "" is where it lay when the dictionary was trained.
      other: where that of a crosscoder's other model lies now.
    """

    path: str = ""
    member: str = ""
    piece: int = 0
    model: str = ""
    other: str = ""

    def check(self) -> None:
        """Raise `InputError` for what no path or name can be."""
        for name in ("path", "member", "model", "other"):
            check_text(f"dictionary.{name}", getattr(self, name))


@part
class Text:
    """Held-out text: windows, fewer where there are not so many, and how many of them are run at once."""

    windows: int = 1_024
    at_once: int = 8


@part
class Shown:
    """What is kept of each feature.

    Attributes:
      strongest: examples with the largest activation.
      drawn: examples of which the quantiles are taken.
      quantiles: examples from the weakest to the strongest of these.
      before, after: tokens shown around each.
      low, high, per_decade: edges of the histogram's bins, and how many there are between an activation and ten times that.
      tokens: that it makes likely, and unlikely.
      neighbours: features whose rows are nearest.
      bins: of the histogram of logits.
    """

    strongest: int = 12
    drawn: int = 40
    quantiles: int = 8
    before: int = 24
    after: int = 12
    low: float = 1e-2
    high: float = 1e2
    per_decade: int = 10
    tokens: int = 8
    neighbours: int = 5
    bins: int = 40


@part
class Clamp:
    """How features are clamped.

    Attributes:
      multiple: of the largest activation seen: the level.
      windows, length: held-out windows and their tokens.
      controls: random directions.
      most: features, those that fire most.
    """

    multiple: float = hyper(1.0)
    windows: int = 4
    length: int = 64
    controls: int = 2
    most: int = 4_096


@part
class Flags:
    """When a feature is called something: split, where a neighbour has this cosine and overlap; dense, of this density."""

    split_cosine: float = 0.7
    split_overlap: float = 0.1
    dense: float = 0.1


@part
class Concepts:
    """How features are probed for concepts, values of what Python's `tokenize` says of source code.

    Attributes:
      per_decade: sizes of activations that are told apart, between `shown.low` and `shown.high`.
      least: tokens that have the concept, and that do not, for a score to be told.
      listed: concepts listed of each feature.
    """

    per_decade: int = 4
    least: int = 50
    listed: int = 4


@part
class Config:
    """The features of one dictionary. The seed is that of the examples that are drawn and of the random directions.

    Attributes:
      neuronpedia: whether the files that Neuronpedia reads are written too, under `neuronpedia/`.
    """

    seed: int = hyper(0)
    steps: int = 1
    dictionary: Source = Source()
    text: Text = Text()
    shown: Shown = Shown()
    clamp: Clamp = Clamp()
    flags: Flags = Flags()
    concepts: Concepts = Concepts()
    neuronpedia: bool = False

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: nothing is trained, so there is one step, which does nothing")
        self.dictionary.check()
        least = {"before": 0, "after": 0}
        for section in ("text", "shown", "clamp", "concepts"):
            for name, value in vars(getattr(self, section)).items():
                if isinstance(value, int) and value < least.get(name, 1):
                    raise InputError(f"{section}.{name} = {value}: must be at least {least.get(name, 1)}")
        s = self.shown
        if s.quantiles > s.drawn:
            raise InputError(f"shown.quantiles = {s.quantiles} are taken of fewer examples, shown.drawn = {s.drawn}")
        if not 0 < s.low < s.high:
            raise InputError(f"shown.low = {s.low} must be above 0 and below shown.high = {s.high}")
        if not self.clamp.multiple >= 0:
            raise InputError(f"clamp.multiple = {self.clamp.multiple}: must be at least 0")
