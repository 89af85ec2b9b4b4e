"""What is asked: which model, which variables of which data, how probes read them, and how use is measured."""

from interp_jax.data.contrast.templates import template_names
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.probing.erasers import KINDS
from interp_jax.experiments.subjects.model import Model, check_text
from interp_jax.parts import hyper, part
from interp_jax.probes.permutation import LEAST_ORDERS

MOST_SHRINKAGES = 64
SEQUENCES = "sequences"


@part
class Data:
    """What is labelled.

    Attributes:
      path: a person's JSONL of texts, spans and labels; "" is the held-out side of the source code that the model was grown on,
        or that of Python's standard library; for a model of ids, sequences in which segments repeat.
      task: asked in place of that text: "sequences" in which segments repeat; or a template of contrast pairs, of which each
        prompt is asked whether it is the clean one, at its places.
      windows: of code, sequences or prompts, at most.
      length: tokens of a window; 0 is the model's context, but at most 256.
      variables: of those that there are, by name; none are all of them.
    """

    path: str = ""
    task: str = ""
    windows: int = 400
    length: int = 0
    variables: tuple = ()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        check_text("data.path", self.path)
        if self.task and self.path:
            raise InputError(f"data.path = {self.path!r} and data.task = {self.task!r}: give one of them")
        if self.task and self.task not in (known := (SEQUENCES, *template_names())):
            raise InputError(f"data.task = {self.task!r}: {nearest(self.task, known)}")
        if self.windows < 2:
            raise InputError(f"data.windows = {self.windows}: must be at least 2")
        if self.length < 0 or self.length == 1:
            raise InputError(f"data.length = {self.length}: must be at least 2, or 0 for the model's own")
        if not all(isinstance(name, str) for name in self.variables):
            raise InputError(f"data.variables = {self.variables}: must be names")


@part
class Reading:
    """How probes read.

    Attributes:
      sites: in every layer; what layers read first, the embeddings, is always among the places.
      rows: tokens that are read, drawn of all windows; 0 is all.
      bins: classes of positions whose scores are told apart.
      folds: of groups, on each of which probes are tested that have not seen it.
      shrinkages: of covariances to a round one, among which the best is chosen for each fit, by a fold that it has not seen.
      orders: of the shuffled labels, and as many draws of the control task and of the folds, in the model itself; p is at least
        1 in orders + 1.
      draws: those of them that the untrained twin and the checkpoints are read with.
      models: checkpoints along training, the last among them; of a published model there is one.
      at_once: windows that are run at once.
    """

    sites: tuple = ("blocks.resid_post",)
    rows: int = 4_096
    bins: int = 4
    folds: int = 4
    shrinkages: tuple = (1e-3, 1e-2, 1e-1)
    orders: int = 19
    draws: int = 2
    models: int = 10
    at_once: int = 16

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name, least in (
            ("rows", 0),
            ("bins", 1),
            ("folds", 3),
            ("orders", LEAST_ORDERS),
            ("models", 1),
            ("at_once", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"reading.{name} = {getattr(self, name)}: must be at least {least}")
        if not 1 <= self.draws <= self.orders:
            raise InputError(f"reading.draws = {self.draws}: must be 1 to reading.orders = {self.orders}")
        if not self.sites or not all(isinstance(site, str) for site in self.sites):
            raise InputError(f"reading.sites = {self.sites}: must be names of sites")
        if not 0 < len(self.shrinkages) <= MOST_SHRINKAGES or not all(0 < a <= 1 for a in self.shrinkages):
            raise InputError(
                f"reading.shrinkages = {self.shrinkages}: must be 1 to {MOST_SHRINKAGES} numbers above 0, at most 1"
            )


@part
class Use:
    """How use is measured: what a probe reads is erased from the stream, and the model's loss is measured again.

    Attributes:
      eraser: how; one of `erasers.KINDS`: "leace", "orthogonal", "inlp", "projection", "interchange", "mean", "transport".
      windows: on which.
      draws: random subspaces of equal rank, or labels in another order, the control.
      scrubbed: windows on which erasers of all layers are fitted, each for what the earlier ones leave; 0 leaves that out, and
        so do erasers that are not made of moments, the last three.
    """

    eraser: str = "leace"
    windows: int = 24
    draws: int = 10
    scrubbed: int = 64

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.eraser not in KINDS:
            raise InputError(f"use.eraser = {self.eraser!r}: {nearest(self.eraser, KINDS)}")
        if self.windows < 2 or self.draws < 2:
            raise InputError(f"use.windows = {self.windows} and use.draws = {self.draws}: must be at least 2")
        if self.scrubbed < 0 or self.scrubbed == 1:
            raise InputError(f"use.scrubbed = {self.scrubbed}: must be at least 2, or 0 for none")


@part
class Config:
    """One model and its probes. The seed is that of the untrained twin and of everything that is drawn."""

    seed: int = hyper(0)
    steps: int = 1
    model: Model = Model()
    data: Data = Data()
    reading: Reading = Reading()
    use: Use = Use()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: nothing is trained, so there is one step, which does nothing")
        for section in (self.model, self.data, self.reading, self.use):
            section.check()
