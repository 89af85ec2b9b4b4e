"""Lines that take time without computing: the host pauses at each line of metrics, so that a fault can meet a run.

For how long is said by the environment, not by the config: a run is the same however long it takes.
"""

import os
import time

from interp_jax.parts import hyper, part
from tests.experiments import line
from tests.experiments.line import Data, Model, report

__all__ = ["Config", "experiment", "report"]

LINES, PAUSE = 40, "LINE_PAUSE"


@part
class Config:
    seed: int = hyper(0)
    steps: int = 200
    learning_rate: float = hyper(0.1)
    model: Model = Model()
    data: Data = Data()


def experiment(config):
    def pause(step, metrics):
        time.sleep(float(os.environ.get(PAUSE, "0")))
        return ""

    made = line.experiment(config)
    every = max(config.steps // LINES, 1)
    return made._replace(observe_at=(0, config.steps), log_every=every, complain=pause)
