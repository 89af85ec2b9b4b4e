"""What can be asked: which model, which task, and how much to compute and show."""

import math

from interp_jax.data.contrast.templates import TEMPLATES
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.patching.corruption import WITHOUT_PROMPTS
from interp_jax.experiments.patching.measure import METRICS
from interp_jax.experiments.patching.sources import RUN, SOURCES
from interp_jax.experiments.subjects.kinds import Repeats
from interp_jax.experiments.subjects.model import Model, check_text
from interp_jax.parts import hyper, part
from interp_jax.patching.attribution.missed_nodes import FEWEST

SHARE = 0.05  # of the random sets of unchecked nodes, those that a node is in: few, so that it is nearly alone


@part
class Task:
    """The contrast pairs.

    Attributes:
      name: of a template; "induction" is made of random tokens, all others are text and need a tokenizer.
      file: JSONL, one pair per line, in place of a template.
      corruption: how the other side differs: a way of the template, "" its first, or of a file its own; or "noise" on the
        embeddings of the tokens in which the two sides differ, or "resample", another pair's clean prompt.
      noise: the standard deviation of that noise, in those of the embeddings that it is put on.
      frame: of a text template's frames, the only one to use, so that a position means the same in all pairs; -1 mixes them.
      pairs: how many; of a file, at most.
      length: tokens of a prompt of "induction"; fewer where the model has no context or vocabulary for so many.
    """

    name: str = "induction"
    file: str = ""
    corruption: str = ""
    noise: float = 3.0
    frame: int = 0
    pairs: int = 32
    length: int = 24

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.name not in TEMPLATES:
            raise InputError(f"task.name = {self.name!r}: {nearest(self.name, TEMPLATES)}")
        known = (*(() if self.file else TEMPLATES[self.name].corruptions), *WITHOUT_PROMPTS)
        if self.corruption and self.corruption not in known:
            whose = "a file" if self.file else self.name
            raise InputError(f"task.corruption = {self.corruption!r} of {whose}: {nearest(self.corruption, known)}")
        if not self.noise > 0:
            raise InputError(f"task.noise = {self.noise}: must be above 0")
        if not self.file and self.frame >= max(1, len(TEMPLATES[self.name].frames)):
            last = len(TEMPLATES[self.name].frames) - 1
            raise InputError(f"task.frame = {self.frame}: {self.name} has frames 0 to {last}, and -1 mixes them")
        if self.pairs < 2:
            raise InputError(f"task.pairs = {self.pairs}: must be at least 2, or there is no interval")
        check_text("task.file", self.file)


@part
class Missed:
    """The bound on what an estimate missed, over heads' outputs at every position.

    Attributes:
      checked: nodes with the largest estimates, which are patched one by one; at most half of them.
      sets: random sets of all others, each patched at once; 0 leaves the bound out.
    """

    checked: int = 16
    sets: int = 128

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.checked < 0 or (self.sets and self.sets * SHARE < FEWEST):
            least = math.ceil(FEWEST / SHARE)
            raise InputError(
                f"missed.checked = {self.checked}, missed.sets = {self.sets}: at least 0, and 0 or at least {least}"
            )


@part
class Show:
    """How much the report shows.

    Attributes:
      nodes, paths: most rows of the ranked tables.
      heads: most heads a side in the matrices of paths.
    """

    nodes: int = 16
    paths: int = 12
    heads: int = 24

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"show.{name} = {value}: must be at least 1")


@part
class Config:
    """One model, one task. Other seeds give other pairs.

    Attributes:
      metric: "logit_difference" or "probability_difference", of the answers against the others; "probability",
        "log_probability", "loss" or "rank", of the answers alone; "kl", of the clean run's distribution.
      source: what is put in: "run", the activation of the pair's other run; "mean", its mean over all other pairs; "zero".
      random_nodes: random subspaces of what each layer's attention and MLP add, as wide as a head, that heads and MLPs are
        compared with.
      senders: most heads whose paths into all others are patched: those with the largest effects; 0 is all.
      send_mlps: whether the paths from all MLPs are patched too.
    """

    seed: int = hyper(0)
    steps: int = 1
    metric: str = METRICS[0]
    source: str = RUN
    random_nodes: int = 20
    senders: int = 24
    send_mlps: bool = True
    model: Model = Model()
    task: Task = Task()
    repeats: Repeats = Repeats()
    missed: Missed = Missed()
    show: Show = Show()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        if self.steps != 1:
            raise InputError(f"steps = {self.steps}: nothing is trained, so there is one step, which does nothing")
        if self.metric not in METRICS:
            raise InputError(f"metric = {self.metric!r}: {nearest(self.metric, METRICS)}")
        if self.source not in SOURCES:
            raise InputError(f"source = {self.source!r}: {nearest(self.source, SOURCES)}")
        if self.random_nodes < 2 or self.senders < 0:
            raise InputError(
                f"random_nodes = {self.random_nodes}, senders = {self.senders}: at least 2, and at least 0"
            )
        for section in (self.model, self.task, self.repeats, self.missed, self.show):
            section.check()
