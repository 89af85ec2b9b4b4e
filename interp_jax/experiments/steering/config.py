"""What is asked: which model is steered towards what, how directions are found, and at which doses they are given."""

import itertools

from interp_jax.data.text import TextConfig
from interp_jax.errors import InputError, nearest
from interp_jax.experiments.grow.stream import Config as GrowConfig
from interp_jax.experiments.grow.stream import Measurements
from interp_jax.experiments.steering.targets import TARGETS
from interp_jax.experiments.subjects.model import Model
from interp_jax.models.transformer import TransformerConfig
from interp_jax.parts import hyper, part
from interp_jax.train.optimizer import Optimizer

SMALL = TransformerConfig(
    n_layers=2, d_model=64, n_heads=4, d_head=16, d_mlp=256, n_context=128, positions="relative", position_layers=1
)  # fmt: skip


@part
class Grown:
    """The model that is grown in the run where `model.path` is "".

    Attributes:
      batch_size: windows of a step.
      model: its shape.
      data: the text that it is grown on, whose held-out side it is steered on.
      optimizer: see `train/optimizer.py`.
    """

    batch_size: int = 8
    model: TransformerConfig = SMALL
    data: TextConfig = TextConfig()
    optimizer: Optimizer = Optimizer(
        learning_rate=6e-3, beta2=0.99, warmup_steps=100, decay="cosine", final_rate=0.1, clip_norm=1.0
    )


@part
class Reading:
    """The text that directions are found on, and that on which they are measured: held-out files, half for each.

    Attributes:
      windows: in both halves together, at most.
      length: tokens of a window; 0 is the model's context, but at most 128.
      measured: windows on which doses are measured, at most.
      examples: decision points of each side that directions are found from, at most.
      at_once: windows that are run at once.
    """

    windows: int = 240
    length: int = 0
    measured: int = 32
    examples: int = 1_000
    at_once: int = 16


@part
class Tuning:
    """Representation fine-tuning.

    Attributes:
      steps: of each edit's training.
      batch_size: windows of a step.
      rates: learning rates, of which the one with the least loss is kept.
      rank: of LoReFT.
      k: of ReFT-r1; see `steering/fine_tuning.py`.
      penalty: of ReFT-r1.
    """

    steps: int = 60
    batch_size: int = 4
    rates: tuple = (0.01, 0.05)
    rank: int = 4
    k: int = 8
    penalty: float = 1e-3


@part
class Features:
    """The dictionary of each layer, whose features are held.

    Attributes:
      n_features: of it.
      k: active at once.
      steps: of its training.
      batch_size: activations of a step.
    """

    n_features: int = 256
    k: int = 16
    steps: int = 500
    batch_size: int = 256


@part
class Doses:
    """How much is given.

    Attributes:
      doses: lengths of what is added, in units of the root mean square length of the stream; of an edit that is learned, how
        many times it.
      random: directions of the same lengths, the control.
      bound: the divergence in nats at which methods are compared.
      damping: of Fisher's matrix; see `steering/side_effects.py`.
      fisher: windows that it is taken over.
      gradient: windows that gradients are taken over.
    """

    doses: tuple = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
    random: int = 6
    bound: float = 0.05
    damping: float = 0.03
    fisher: int = 12
    gradient: int = 32


@part
class Written:
    """Texts that are written.

    Attributes:
      prompts: for each target.
      length: tokens of a prompt.
      tokens: that are written.
      temperature: of the choice.
    """

    prompts: int = 3
    length: int = 32
    tokens: int = 48
    temperature: float = 0.7


@part
class Config:
    """One model and how it is steered. The seed is that of the model that is grown, and of everything that is drawn."""

    seed: int = hyper(0)
    steps: int = 1_000
    targets: tuple = tuple(TARGETS)
    model: Model = Model()
    grown: Grown = Grown()
    reading: Reading = Reading()
    tuning: Tuning = Tuning()
    features: Features = Features()
    doses: Doses = Doses()
    written: Written = Written()

    def check(self) -> None:
        """Raise `InputError` for impossible values."""
        for name in self.targets:
            if name not in TARGETS:
                raise InputError(f"targets: unknown {name!r}; {nearest(str(name), TARGETS)}")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise InputError(f"targets = {self.targets}: must be different names, at least one")
        self.model.check()
        if not self.model.path:
            grow_config(self).check()
        for path, least in LEAST.items():
            section, name = path.split(".")
            if not getattr(getattr(self, section), name) >= least:
                raise InputError(f"{path} = {getattr(getattr(self, section), name)}: must be at least {least}")
        for path, values in (("doses.doses", self.doses.doses), ("tuning.rates", self.tuning.rates)):
            rising = all(a < b for a, b in itertools.pairwise(values))
            if not values or not rising or not all(isinstance(v, int | float) and v > 0 for v in values):
                raise InputError(f"{path} = {values}: must be rising numbers above 0")
        if not self.doses.bound > 0:
            raise InputError(f"doses.bound = {self.doses.bound}: must be above 0")
        if self.features.k > self.features.n_features:
            raise InputError(f"features.k = {self.features.k} of features.n_features = {self.features.n_features}")


LEAST = {
    "reading.windows": 8, "reading.length": 0, "reading.measured": 2, "reading.examples": 8, "reading.at_once": 1,
    "tuning.steps": 4, "tuning.batch_size": 1, "tuning.rank": 1, "tuning.k": 1, "tuning.penalty": 0,
    "features.n_features": 2, "features.k": 1, "features.steps": 1, "features.batch_size": 1,
    "doses.random": 2, "doses.damping": 0, "doses.fisher": 1, "doses.gradient": 1,
    "written.prompts": 1, "written.length": 2, "written.tokens": 1, "written.temperature": 0,
}  # fmt: skip


def grow_config(config: Config) -> GrowConfig:
    """The run that grows the model."""
    grown = config.grown
    small = Measurements(snippet=8, sample_length=8)  # nothing of it is measured
    return GrowConfig(
        config.seed,
        config.steps,
        grown.batch_size,
        model=grown.model,
        data=grown.data,
        optimizer=grown.optimizer,
        measure=small,
    )
