"""Groups of runs as they lie on disk, made of what members observed."""

import dataclasses

import numpy as np

from interp_jax.experiments.experiment import GroupResult
from interp_jax.parts import stack
from interp_jax.train.run import ALIVE


def group_of(config, observed):
    """Members that differ by their seed, with these last observations."""
    members = [dataclasses.replace(config, seed=i) for i in range(len(observed))]
    seen = {name: np.stack([np.asarray(one[name]) for one in observed]) for name in observed[0]}
    n = len(members)
    names, none = tuple(map(str, range(n))), np.zeros(0, int)
    return GroupResult(stack(members), names, np.full(n, ALIVE), {config.steps: seen}, {}, none, ("",) * n, np.ones(n))
